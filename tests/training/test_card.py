"""The model card: what the hub reads of a model, true to its run, whatever names are in it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from miniml.errors import ModelFolderError
from miniml.model import manifest
from miniml.settings.training import TrainingSettings
from miniml.training import card
from miniml.training.fine_tune import fine_tune
from tests.conftest import TRAINING
from tests.rendered import Rendered

HOSTILE = [
    "two\nlines\n---\nlicense: mit",
    "a | b || c",
    "`code` ``` fence",
    "<script>alert(1)</script> <!--",
    "[link](http://x.test) ![image](http://x.test)",
    r"back\slash\\ \| $x^2$",
    "*bold* __more__ ~~struck~~ &amp; &#65;",
    "# head: {yaml: [1, 2]} - 'x' \"y\" %tag @at !bang",
    "好 schön \u202egnp",
]


def loaded(folder: Path) -> Any:  # The fields of the library's class are typed on another one.
    return ModelCard.load(folder / card.CARD_NAME)


def rewritten(record: manifest.Manifest, folder: Path, **data: Any) -> Any:
    """The card of the same run, had its data been otherwise."""
    card.write(folder, replace(record, data={**record.data, **data}))
    return loaded(folder)


@pytest.fixture(scope="module")
def record(model_dir: Path) -> manifest.Manifest:
    return manifest.read(model_dir)


@pytest.fixture(scope="module")
def written(model_dir: Path) -> Any:
    return loaded(model_dir)


def test_the_hub_finds_task_library_and_validation_figures_and_nothing_nobody_knows(
    written: Any, record: manifest.Manifest
) -> None:
    metadata = written.data.to_dict()
    assert metadata["pipeline_tag"] == "text-classification"
    assert metadata["library_name"] == "transformers"
    accuracy, f1 = written.data.eval_results
    assert (accuracy.dataset_split, accuracy.metric_type) == ("validation", "accuracy")
    assert accuracy.metric_value == pytest.approx(record.metrics["validation_accuracy"], abs=1e-4)
    assert (f1.metric_type, f1.metric_name) == ("f1", "Macro f1")
    # A local encoder and a local file are no ids of the hub.
    assert not {"license", "language", "base_model", "datasets"} & metadata.keys()


def test_ids_of_the_hub_are_linked(record: manifest.Manifest, tmp_path: Path) -> None:
    base = {**record.arguments["training"], "model_id": "google-bert/bert-base-cased?revision=main"}
    hub = replace(record, arguments={**record.arguments, "training": base})
    metadata = rewritten(hub, tmp_path, hub_id="Yelp/yelp_review_full").data
    assert metadata.base_model == "google-bert/bert-base-cased"
    assert metadata.datasets == ["Yelp/yelp_review_full"]
    assert metadata.eval_results[0].dataset_type == "Yelp/yelp_review_full"
    assert metadata.model_name == "bert-base-cased fine-tuned on Yelp/yelp_review_full"


def test_an_architecture_alone_is_no_base_model(record: manifest.Manifest, tmp_path: Path) -> None:
    base = {**record.arguments["training"], "model_id": "google-bert/bert-base-cased", "from_scratch": True}
    metadata = rewritten(replace(record, arguments={**record.arguments, "training": base}), tmp_path).data
    assert metadata.base_model is None
    assert metadata.model_name == "bert-base-cased trained from scratch on reviews.csv"


def test_it_tells_data_training_and_versions_as_the_manifest_does(
    written: Any, record: manifest.Manifest
) -> None:
    rows = Rendered(written.text).rows
    for label in record.data["labels"]:
        counts = [
            str(record.data["rows_per_class"][split][label]) for split in ("train", "validation", "test")
        ]
        assert [label, *counts] in rows
    assert ["fingerprint", record.data["fingerprint"]] in rows
    assert ["learning_rate", "0.01"] in rows
    assert ["steps", "60"] in rows
    assert ["parameters", "22434"] in rows
    assert ["device", "cpu"] in rows
    assert ["torch", record.versions["torch"]] in rows


def test_its_examples_work_as_they_stand(
    written: Any, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_dir)
    blocks = re.findall(r"```python\n(.*?)```", written.text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        ran: dict[str, Any] = {}
        exec(block, ran)  # it is what the card tells people to run
        assert len(ran["answers"]) == 2


def test_its_limits_follow_from_the_run(dataset_dir: Path, encoder: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(**{"model_id": str(encoder), **TRAINING, "iterations": 1, "max_length": 8})
    fine_tune(dataset_dir, tmp_path / "model", settings)
    text = loaded(tmp_path / "model").text
    assert "It reads 8 tokens of a text, from its beginning. 100.0 % of the training texts" in text
    assert "The figures above are of 24 rows: chance alone moves a share by up to 20.0 points" in text
    assert "unequal size" not in text
    assert "fewer than" not in text


def test_rare_and_unequal_classes_are_limits(record: manifest.Manifest, tmp_path: Path) -> None:
    rows = {
        "train": {"bad": 900, "good": 9},
        "validation": {"bad": 1, "good": 1},
        "test": {"bad": 1, "good": 1},
    }
    text = rewritten(record, tmp_path, rows_per_class=rows).text
    assert "fewer than 100 rows of these classes: good (9)." in text
    assert "the largest has 100.0 times the rows of the smallest" in text


def test_what_the_checks_found_is_in_it(record: manifest.Manifest, tmp_path: Path) -> None:
    written = rewritten(
        record, tmp_path, found={"html": 12, "duplicate": 5}, dropped={"duplicate": 5}, cleaned={}
    )
    rows = Rendered(written.text).rows
    assert ["HTML tags or entities", "12", "0", "0"] in rows
    assert ["the same text as another row", "5", "5", "0"] in rows


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_break_neither_the_tables_nor_the_yaml(
    hostile: str, record: manifest.Manifest, model_dir: Path, tmp_path: Path
) -> None:
    base = tmp_path / hostile.replace("/", "-")
    base.symlink_to(model_dir)
    training_settings = {**record.arguments["training"], "model_id": str(base)}
    changed = replace(record, arguments={**record.arguments, "training": training_settings})
    counts = {split: {hostile: 3, "good": 4} for split in record.data["rows"]}
    written = rewritten(changed, tmp_path, source=hostile, labels=[hostile, "good"], rows_per_class=counts)
    page, plain = Rendered(written.text), Rendered(loaded(model_dir).text)
    assert page.tags == plain.tags
    shown = "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in hostile
    )
    assert [shown, "3", "3", "3"] in page.rows
    assert ["source", shown] in page.rows
    assert len(page.rows) == len(plain.rows)
    front = yaml.safe_load(str(written).split("\n---\n")[0].removeprefix("---\n"))
    assert front.keys() == written.data.to_dict().keys() == {
        "library_name", "metrics", "pipeline_tag", "tags", "model-index",
    }  # fmt: skip


def test_the_digest_covers_the_card(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "model")
    manifest.verify(tmp_path / "model")
    with (tmp_path / "model" / card.CARD_NAME).open("a") as file:
        file.write("It is also good at chess.\n")
    with pytest.raises(ModelFolderError, match=r"README\.md has SHA-256"):
        manifest.verify(tmp_path / "model")
