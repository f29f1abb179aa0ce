"""The hub's real client code, against a server that answers as the hub does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.reviews import STARS
from tests import patience
from tests.command import ROOT, pipeline
from tests.hub_server import HubServer, write_bert, write_yelp

DATASET = "hub.load_dataset(HubId('Yelp/yelp_review_full'{}))"
MODEL = "hub.fetch_model(HubId('google-bert/bert-base-cased'{}))"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_yelp(root)
    write_bert(root)
    return root


@pytest.fixture
def hub(repositories: Path) -> Iterator[HubServer]:
    with HubServer(repositories) as server:
        yield server


def environment(url: str, cache: Path) -> dict[str, str]:
    """The libraries read these while they are imported, so each test asks in a process of its own."""
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_TOKEN": "secret",
    }


def ask(question: str, url: str, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    script = f"from miniml.sources import hub\nfrom miniml.sources.hub_id import HubId\nprint({question})"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment(url, cache), **more},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )


def answer(asked: subprocess.CompletedProcess[str]) -> str:
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.splitlines()[-1]


def test_a_dataset_comes_with_its_splits_and_class_names(hub: HubServer, tmp_path: Path) -> None:
    question = f"(lambda d: (d.num_rows, d['train'].features['label'].names))({DATASET.format('')})"
    assert answer(ask(question, hub.url, tmp_path)) == f"({{'train': 300, 'test': 100}}, {list(STARS)})"


def test_one_split_of_one_revision_is_taken_when_asked_for(hub: HubServer, tmp_path: Path) -> None:
    question = DATASET.format(", config='yelp_review_full', split='test', revision='main'") + ".num_rows"
    assert answer(ask(question, hub.url, tmp_path)) == "{'train': 100}"


def test_a_model_comes_once_and_then_from_the_cache_even_offline(hub: HubServer, tmp_path: Path) -> None:
    first = ask(MODEL.format(""), hub.url, tmp_path)
    assert sorted(path.name for path in Path(answer(first)).iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    weights = [asked for asked in hub.asked if asked.startswith("GET") and "safetensors" in asked]
    assert len(weights) == 1
    again = ask(MODEL.format(""), "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert answer(again) == answer(first)


def test_weights_that_are_pickles_come_where_there_are_no_others(tmp_path: Path) -> None:
    write_bert(tmp_path / "hub")
    repository = tmp_path / "hub" / "models" / "google-bert" / "bert-base-cased"
    torch.save(load_file(repository / "model.safetensors"), repository / "pytorch_model.bin")
    for beside, names in ((True, {"model.safetensors"}), (False, {"pytorch_model.bin"})):
        if not beside:
            (repository / "model.safetensors").unlink()
        with HubServer(tmp_path / "hub") as hub:
            asked = ask(MODEL.format(""), hub.url, tmp_path / f"cache-{beside}")
        present = {path.name for path in Path(answer(asked)).iterdir()}
        assert present & {"model.safetensors", "pytorch_model.bin"} == names
        assert ("pickled weights are read without running" in asked.stdout) is not beside


def test_a_model_that_begins_from_scratch_comes_without_its_weights(hub: HubServer, tmp_path: Path) -> None:
    folder = Path(answer(ask(MODEL.format("), weights=False").removesuffix(")"), hub.url, tmp_path)))
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert not [asked for asked in hub.asked if "safetensors" in asked]


def test_tokens_are_counted_with_the_tokenizer_alone(hub: HubServer, tmp_path: Path) -> None:
    counted = (
        "__import__('miniml.data.tokens').data.tokens.measure({}, 'google-bert/bert-base-cased', 32).unit"
    )
    assert answer(ask(counted, hub.url, tmp_path)) == "tokens"
    fetched = [asked for asked in hub.asked if asked.startswith("GET") and "/resolve/" in asked]
    assert [asked.rpartition("/")[2] for asked in fetched] == ["tokenizer.json"]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (DATASET.format(", config='wrong'"), "'wrong' not found. Available: ['yelp_review_full']"),
        (DATASET.format(", split='val'"), """Unknown split "val". Should be one of ['train', 'test']"""),
        (DATASET.format(", revision='v9'"), "has no revision 'v9'"),
        (MODEL.format(", revision='v9'"), "has no revision 'v9'"),
    ],
)
def test_what_a_repository_does_not_have_is_named(
    question: str, message: str, hub: HubServer, tmp_path: Path
) -> None:
    asked = ask(question, hub.url, tmp_path)
    assert "miniml.errors.InputError" in asked.stderr
    assert message in asked.stderr


@pytest.mark.parametrize("question", [DATASET, MODEL])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 404}, "is not on the hub"),
        ({"status": 401}, "the hub refused access (401). Check the spelling; if it is private, set HF_TOKEN"),
        ({"status": 500}, "the hub answered 500. Try again later"),
        ({"hang_on": "/api/"}, "cannot be reached"),
        ({"hang_on": "/resolve/"}, "cannot be reached"),
    ],
)
def test_a_hub_that_fails_ends_in_a_clear_word_within_half_a_minute(
    question: str, fault: dict[str, object], message: str, repositories: Path, tmp_path: Path
) -> None:
    with HubServer(repositories, **fault) as hub:  # type: ignore[arg-type]
        asked = ask(question.format(""), hub.url, tmp_path)
    assert asked.returncode == 1
    last = asked.stderr.splitlines()[-1]
    assert last.startswith("miniml.errors.")
    assert message in last
    assert "Yelp/yelp_review_full" in last or "google-bert/bert-base-cased" in last
    assert "secret" not in asked.stderr


def test_a_hub_that_is_not_there_is_said_with_the_ways_out(tmp_path: Path) -> None:
    asked = ask(DATASET.format(""), "http://127.0.0.1:9", tmp_path)
    last = asked.stderr.splitlines()[-1]
    assert "the hub (http://127.0.0.1:9) cannot be reached" in last
    assert "HF_HUB_OFFLINE=1" in last


def test_the_seeds_own_example_runs_with_every_argument_at_its_default(
    hub: HubServer, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    ended = pipeline("run", "--outputs", outputs, **environment(hub.url, tmp_path / "cache"))
    assert ended.status == 0, ended.out + ended.err
    summary = json.loads((outputs / "latest" / "summary.json").read_text())
    # The source has its own test: of its 300 training rows a tenth is validation, of its test 100 are taken.
    assert (summary["train_rows"], summary["test_rows"]) == (270, 100)
    assert "200 steps of 2" in ended.out
    config = json.loads((Path(summary["model_dir"]) / "config.json").read_text())
    assert list(config["id2label"].values()) == list(STARS)
    assert summary["verdict"] in ("approved", "rejected")


def test_a_run_whose_hub_fails_ends_before_training_and_leaves_nothing(
    repositories: Path, tmp_path: Path
) -> None:
    with HubServer(repositories, hang_on="bert-base-cased") as hub:
        ended = pipeline("run", "--outputs", tmp_path / "out", **environment(hub.url, tmp_path / "cache"))
    assert ended.status == 1
    assert "preflight: model_id 'google-bert/bert-base-cased': the hub" in ended.err
    assert "Traceback" not in ended.err
    assert "transform" not in ended.out
    assert not (tmp_path / "out" / "latest").exists()
