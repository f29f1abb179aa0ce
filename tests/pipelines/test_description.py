"""What a pipeline tells of its arguments in the UI, where its form says name and type alone."""

from __future__ import annotations

import json
import re
from dataclasses import is_dataclass
from importlib import import_module
from pkgutil import iter_modules
from urllib.parse import quote

import pytest
import yaml

from miniml import settings
from miniml.pipeline.arguments import taken_by
from miniml.pipeline.compiled import CompiledPipeline
from miniml.pipeline.description import options_by_stage
from miniml.settings.arguments import FIELDS, TAKEN_BY

PIPELINES = (CompiledPipeline.named("text-classification"), CompiledPipeline.named("hyperparameter-search"))


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda each: each.name)
def test_every_argument_is_told_once_with_its_default_and_where_it_is_given(
    pipeline: CompiledPipeline,
) -> None:
    described = next(yaml.safe_load_all(pipeline.text))["pipelineInfo"]["description"]
    assert described.startswith(pipeline.description)
    rows = [cells(line) for line in described.splitlines() if line.startswith("| `")]
    assert all(len(row) == 4 and row[3] for row in rows)
    arguments = taken_by(pipeline)
    assert sorted(row[0] for row in rows) == sorted(f"`{name}`" for name in arguments)
    by_name = {row[0].strip("`"): row for row in rows}
    assert by_name["batch_size"][1:3] == ["field", "`2`"]
    assert by_name["dropout"][1:3] == ["options", "`0.0`"]
    assert by_name["beat_majority"][1:3] == ["options", "`true`"]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda each: each.name)
def test_it_stands_in_a_pipeline_once_and_in_no_component(pipeline: CompiledPipeline) -> None:
    spec = next(yaml.safe_load_all(pipeline.text))
    assert "given as" in spec.pop("pipelineInfo")["description"]
    assert "given as" not in json.dumps(spec)


def test_each_kind_of_settings_has_its_stage() -> None:
    modules = [import_module(f"miniml.settings.{found.name}") for found in iter_modules(settings.__path__)]
    every = {
        kind
        for module in modules
        for name, kind in vars(module).items()
        if name.endswith("Settings") and is_dataclass(kind)
    }
    assert {kind for kinds in TAKEN_BY.values() for kind in kinds} == every


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda each: each.name)
def test_a_version_names_every_option_and_fits_its_card_and_an_address(pipeline: CompiledPipeline) -> None:
    described = options_by_stage(taken_by(pipeline))
    assert set(re.findall(r"`(\w+)`", described)) == taken_by(pipeline).keys() - set(FIELDS)
    # 34 rem take some 75 characters a line, and a page some 25 lines beside what else the card tells.
    assert sum(1 + len(paragraph) // 75 for paragraph in described.split("\n\n")) <= 25
    assert len(quote(described)) < 4_000  # nginx takes 8 KiB of an address, Node.js 16
