"""A model of any family is cut to some of its layers, or is refused in a sentence."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PerceiverConfig

from miniml.compression.layers import (
    UncuttableError,
    keep_layers,
    number_of_layers,
    require_layers,
    spread,
)
from miniml.errors import ModelFolderError
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.learnt_texts import LEARNT_NAME
from tests import families

LAYERS = 3
KEPT = (0, 2)
# The tiny config of GPT-Neo lists its layers in pairs.
KINDS = [kind for kind in families.of_text() if kind != "gpt_neo"]
A_DECODER = "it has a decoder besides the encoder"
BY_PLACE = "what a layer computes depends on its place among the others"
REFUSED = {
    "bart": A_DECODER,
    "esm": "contact_head",
    "esmc": BY_PLACE,  # It divides each layer's output by the depth of the model.
    "flaubert": "list index out of range",
    "funnel": "Please set `block_sizes`",
    "jamba": "feed_fo",  # Every other layer is one of experts.
    "mbart": A_DECODER,
    "mt5": A_DECODER,
    "mvp": A_DECODER,
    "perceiver": "its config has no number of layers",
    "reformer": "list index out of range",
    "t5": A_DECODER,
    "umt5": A_DECODER,
    "xlm": "list index out of range",
    "xmod": "Input language unknown",
}
"""The families whose models cannot be cut, and why."""
SHARED = ("albert",)
"""The families whose layers are one, which is repeated."""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in REFUSED])
def test_a_cut_model_predicts_with_the_very_weights_of_the_layers_that_it_keeps(
    kind: str, tmp_path: Path
) -> None:
    families.write_classifier(tmp_path / "full", kind, LAYERS)
    keep_layers(tmp_path / "full", KEPT, tmp_path / "cut")
    full, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("full", "cut"))
    [prediction] = Classifier.load(tmp_path / "cut").predict(["great food"])
    assert prediction.given
    assert number_of_layers(tmp_path / "cut") == len(KEPT)
    assert len(cut) == len(full) if kind in SHARED else len(cut) < len(full)
    for name, weights in cut.items():
        assert torch.equal(weights, full[_name_before(name, full)]), name


def _name_before(name: str, full: Collection[str]) -> str:
    """The name that these weights had in the full model: with the old number, where a list has one for each layer."""
    for match in re.finditer(r"(?<=\.)\d+(?=\.)", name):
        before, after = name[: match.start()], name[match.end() :]
        numbers = {other.removeprefix(before).partition(".")[0] for other in full if other.startswith(before)}
        if numbers == {str(number) for number in range(LAYERS)}:
            return f"{before}{KEPT[int(match.group())]}{after}"
    return name


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_is_no_plain_stack_of_layers_is_refused_with_the_reason(
    kind: str, tmp_path: Path
) -> None:
    families.write_classifier(tmp_path / "full", kind, LAYERS)
    with pytest.raises(UncuttableError, match=re.escape(REFUSED[kind])) as refused:
        keep_layers(tmp_path / "full", KEPT, tmp_path / "cut")
    assert f"a model of the type {kind} cannot be given fewer layers" in str(refused.value)
    assert not (tmp_path / "cut").exists()


def test_the_kept_layers_are_spread_from_the_first_to_the_last() -> None:
    assert spread(12, 6) == (0, 2, 4, 7, 9, 11)
    assert spread(6, 3) == (0, 2, 5)
    assert spread(6, 2) == (0, 5)
    assert spread(6, 1) == (5,)
    assert spread(6, 6) == (0, 1, 2, 3, 4, 5)


def test_a_cut_folder_is_signed_and_says_what_it_was_cut_from_but_holds_nothing_that_was_measured(
    model_dir: Path, tmp_path: Path
) -> None:
    full = manifest.read(model_dir)
    signed = keep_layers(model_dir, (1,), tmp_path / "cut")
    assert signed == manifest.verify(tmp_path / "cut")
    assert signed.arguments["cut_from"] == {"digest": full.digest, "layers": [1]}
    assert signed.data == full.data
    assert signed.metrics == {}
    assert signed.files[LEARNT_NAME] == full.files[LEARNT_NAME]
    assert {"README.md", "calibration.json", "probes.json", "openvino/openvino_model.xml"}.isdisjoint(
        signed.files
    )


def test_a_model_that_was_changed_is_not_cut(tmp_path: Path) -> None:
    folder = families.write_classifier(tmp_path / "full", "bert")
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    with pytest.raises(ModelFolderError, match=r"config\.json"):
        keep_layers(folder, (1,), tmp_path / "cut")


def test_a_config_without_a_number_of_layers_is_told(tmp_path: Path) -> None:
    PerceiverConfig().save_pretrained(tmp_path)
    assert number_of_layers(tmp_path) == 0
    with pytest.raises(
        UncuttableError, match="type perceiver cannot be given fewer layers: its config has no number"
    ):
        require_layers(tmp_path)
