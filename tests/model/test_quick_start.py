"""A server begins without torch where the folder says how, and answers as the reference does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniml.errors import ModelFolderError
from miniml.model import engines, manifest, quick_start
from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, TorchEngine
from miniml.model.plain_tokenizer import PlainTokenizer
from miniml.task_registry import TASKS
from miniml.tasks import register_task
from miniml.tasks.single_label.head import SingleLabelHead
from miniml.tasks.single_label.task import SingleLabel
from serving.engine_choice import choose, choose_at_once
from tests import tiny
from tests.command import ROOT

FP32 = "openvino-fp32"
TEXTS = [
    "",
    "   ",
    "a good film",
    "Don't! — ÄÖÜ 漢字 \u200b\t\n🙂",
    "[SEP] [MASK]",
    tiny.review(1, 3),
    "good bad " * 1_000,
]


def signed(folder: Path, source: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a model folder, changed and signed again."""
    shutil.copytree(source, folder)
    change(folder)
    kept = manifest.read(folder)
    manifest.sign(
        folder, data=kept.data, arguments=kept.arguments, versions=kept.versions, metrics=kept.metrics
    )
    return folder


def test_what_is_read_without_transformers_is_what_transformers_reads(model_dir: Path) -> None:
    whole, quick = Classifier.load(model_dir), quick_start.load(model_dir)
    assert isinstance(quick.tokenizer, PlainTokenizer)
    for text, expected, found in zip(TEXTS, whole.encode(TEXTS), quick.encode(TEXTS), strict=True):
        assert found.tolist() == expected.tolist(), text
        assert quick.words(text) == whole.words(text)
    assert quick.lengths(TEXTS).tolist() == whole.lengths(TEXTS).tolist()
    assert [ids.tolist() for ids in quick.made_up(5, 70)] == [ids.tolist() for ids in whole.made_up(5, 70)]
    assert vars(quick.head) == vars(whole.head)
    assert (quick.max_length, quick.reads_the_end) == (whole.max_length, whole.reads_the_end)


def test_the_model_is_loaded_when_the_reference_first_runs(model_dir: Path) -> None:
    whole, quick = Classifier.load(model_dir), quick_start.load(model_dir)
    assert isinstance(quick.engine, TorchEngine)
    assert not quick.engine.is_loaded
    assert quick.predict_probabilities(TEXTS).tolist() == whole.predict_probabilities(TEXTS).tolist()
    assert quick.engine.is_loaded


def test_a_server_of_a_trained_model_chooses_its_engine_without_torch_and_transformers(
    model_dir: Path,
) -> None:
    script = (
        "import sys; from pathlib import Path; from serving.startup import quick_start\n"
        "from serving.engine_choice import choose_at_once, choose; folder = Path(sys.argv[1])\n"
        "choice = choose_at_once(quick_start.load(folder), folder, 2)\n"
        "choice.classifier.predict(['a text']); print(choice.classifier.engine.name)\n"
        f"print(choose(quick_start.load(folder), folder, {FP32!r}, 1).classifier.engine.name)\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(model_dir)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    likely, named, imported = done.stdout.splitlines()
    assert likely.startswith("openvino-")
    assert (named, imported) == (FP32, "set()")


def test_an_export_that_answers_otherwise_is_not_served_but_the_reference(
    model_dir: Path, tmp_path: Path
) -> None:
    changed = Classifier.load(model_dir)
    assert isinstance(changed.engine, TorchEngine)
    model = changed.engine.model
    model.classifier.bias.data[0] += 0.5

    def export(folder: Path) -> None:
        shutil.rmtree(folder / "openvino")
        assert engines.export(model, folder)

    folder = signed(tmp_path / "model", model_dir, export)
    choice = choose_at_once(quick_start.load(folder), folder, 1)
    expected = Classifier.load(model_dir).predict_probabilities(TEXTS)
    assert choice.classifier.predict_probabilities(TEXTS) == pytest.approx(expected, abs=0.02)
    assert not choice.classifier.engine.name.startswith("openvino")


def test_stored_answers_that_are_not_the_references_are_not_believed(model_dir: Path, tmp_path: Path) -> None:
    def falsify(folder: Path) -> None:
        path = folder / quick_start.QUICK_START_NAME
        content = json.loads(path.read_text())
        content["batches"][0]["logits"][0][0] += 1
        path.write_text(json.dumps(content))

    folder = signed(tmp_path / "model", model_dir, falsify)
    quick = quick_start.load(folder)
    choice = choose_at_once(quick, folder, 1)
    assert isinstance(quick.engine, TorchEngine)
    assert quick.engine.is_loaded
    expected = Classifier.load(model_dir).predict_probabilities(TEXTS)
    assert choice.classifier.predict_probabilities(TEXTS) == pytest.approx(expected, abs=0.02)
    assert choose(quick_start.load(folder), folder, FP32, 1).classifier.engine.name == FP32


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"tokenizer": {"vocabulary": 3}}', '{"tokenizer": {}}', None]
)
def test_a_file_of_another_form_is_refused_by_name(
    model_dir: Path, tmp_path: Path, content: str | None
) -> None:
    def change(folder: Path) -> None:
        path = folder / quick_start.QUICK_START_NAME
        without_answers = json.dumps({"tokenizer": json.loads(path.read_text())["tokenizer"]})
        path.write_text(without_answers if content is None else content)

    folder = signed(tmp_path / "model", model_dir, change)
    with pytest.raises(ModelFolderError, match=quick_start.QUICK_START_NAME):
        quick_start.load(folder)


def test_another_model_that_took_the_folders_place_is_not_loaded_later(
    model_dir: Path, tmp_path: Path
) -> None:
    folder = signed(tmp_path / "model", model_dir, lambda folder: None)
    quick = quick_start.load(folder)
    shutil.rmtree(folder)
    tiny.write_classifier(folder)
    with pytest.raises(ModelFolderError, match="digest"):
        quick.predict(["a good film"])


class WeighingHead(SingleLabelHead):
    """A head with an array, of which Python cannot say whether it is equal to another one."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.weights = np.ones(len(self.labels))


class Weighing(SingleLabel):
    name = "weighing"
    head = WeighingHead


@pytest.fixture
def weighing() -> Iterator[str]:
    """The name of a task with such a head."""
    register_task(Weighing)
    yield Weighing.name
    TASKS.remove(Weighing.name)


def test_a_head_that_cannot_be_compared_costs_a_model_the_file_and_not_its_training(
    model_dir: Path, tmp_path: Path, weighing: str
) -> None:
    def change(folder: Path) -> None:
        (folder / quick_start.QUICK_START_NAME).unlink()
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"miniml_task": weighing}))

    folder = signed(tmp_path / "model", model_dir, change)
    whole = Classifier.load(folder)
    assert isinstance(whole.head, WeighingHead)
    assert not quick_start.write(folder, whole.engine, whole.head)


def test_a_folder_that_was_signed_without_the_file_begins_with_torch(model_dir: Path, tmp_path: Path) -> None:
    folder = signed(
        tmp_path / "model", model_dir, lambda folder: (folder / quick_start.QUICK_START_NAME).unlink()
    )
    old = quick_start.load(folder)
    assert isinstance(old.engine, TorchEngine)
    assert old.engine.is_loaded
    assert choose_at_once(old, folder, 1).classifier.engine.name != REFERENCE


def test_a_tokenizer_that_knows_other_words_than_its_file_is_told_from_it(model_dir: Path) -> None:
    tokenizer, plain = Classifier.load(model_dir).tokenizer, quick_start.load(model_dir).tokenizer
    assert plain.is_equal_to(tokenizer)
    tokenizer.add_tokens(["unheard"])
    assert not plain.is_equal_to(tokenizer)


def test_a_model_that_is_not_exported_gets_no_file(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(
        model_dir,
        tmp_path / "model",
        ignore=shutil.ignore_patterns("openvino", quick_start.QUICK_START_NAME),
    )
    whole = Classifier.load(model_dir)
    assert not quick_start.write(tmp_path / "model", whole.engine, whole.head)
    assert not quick_start.is_there(tmp_path / "model")


@pytest.mark.parametrize("given", [{}, {"OMP_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "1,2"}])
def test_threads_and_features_are_known_without_torch_as_torch_knows_them(given: dict[str, str]) -> None:
    script = (
        "import sys; from miniml import processor\n"
        "threads, features = processor.default_threads(), processor._built_in()\n"
        "assert 'torch' not in sys.modules; import torch\n"
        "there = torch.cpu.get_capabilities()\n"
        "print(threads == torch.get_num_threads(), features == tuple(n for n in processor.FEATURES if there.get(n)))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=kept | given, capture_output=True, text=True
    )
    assert done.stdout == "True True\n", done.stderr


def test_a_model_that_cannot_read_as_many_tokens_as_its_tokenizer_gives_has_no_quick_start(
    model_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_dir, tmp_path / "model")
    (folder / quick_start.QUICK_START_NAME).unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 512}))
    script = (
        "import sys; from pathlib import Path; from miniml.model import quick_start\n"
        "from miniml.model.classifier import Classifier; model = Classifier.load(Path(sys.argv[1]))\n"
        "print(quick_start.write(Path(sys.argv[2]), model.engine, model.head))"
    )
    # In a process of its own: in this one, a library of another test may have silenced the logger.
    done = subprocess.run(
        [sys.executable, "-c", script, str(model_dir), str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
    assert not quick_start.is_there(folder)
    assert "it cannot read as many tokens as its tokenizer gives (model_max_length 512)" in done.stderr
