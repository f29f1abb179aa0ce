"""The engine that runs by CUDA graphs: its shapes and its answers, on the CPU. It has not run on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from miniml.model import engines
from miniml.model.classifier import Classifier
from miniml.model.cuda_graphs import MOST_TOKENS, SHORTEST, GraphEngine, graph_logits, shape_for
from miniml.model.engines import TorchEngine
from tests import tiny


@pytest.mark.parametrize(
    ("texts", "tokens", "shape"),
    [(1, 5, (1, 32)), (1, 33, (1, 64)), (3, 256, (4, 256)), (8, 257, (8, 512)), (9, 32, (16, 32))],
)
def test_a_batch_is_padded_to_one_of_few_shapes(texts: int, tokens: int, shape: tuple[int, int]) -> None:
    assert shape_for(texts, tokens) == shape


def test_there_are_few_graphs() -> None:
    shapes = {shape_for(texts, tokens) for texts in range(1, 129) for tokens in range(1, 513)}
    assert len([shape for shape in shapes if np.prod(shape) <= MOST_TOKENS]) <= 32


def test_in_any_shape_it_answers_as_the_reference_does(tmp_path: Path) -> None:
    classifier = Classifier.load(tiny.write_classifier(tmp_path / "model", spread=0.5))
    reference = classifier.engine
    assert isinstance(reference, TorchEngine)
    on_graphs = classifier.on(GraphEngine("graphs", reference.model, torch.device("cpu")))
    for texts, words in ((1, 1), (3, 1), (5, 4), (7, 2), (MOST_TOKENS // SHORTEST + 1, 1)):
        batch = classifier.encode(
            [" ".join([tiny.review(number % 2, number)] * words) for number in range(texts)]
        )
        assert on_graphs.run(batch) == pytest.approx(classifier.run(batch), abs=1e-5)


def test_what_a_graph_records_waits_for_no_value() -> None:
    """A tensor on the meta device has none: whatever would wait for one, as a graph cannot, fails."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_hidden_layers=2))
        token_ids, mask = (torch.ones(4, 32, dtype=torch.int64) for _ in range(2))
    with torch.inference_mode():
        assert graph_logits(model, token_ids, mask).shape == (4, 2)
        with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
            model(input_ids=token_ids, attention_mask=mask)


def test_without_a_gpu_none_of_its_engines_is_to_be_had(model_dir: Path) -> None:
    classifier = Classifier.load(model_dir)
    assert isinstance(classifier.engine, TorchEngine)
    there = engines.builders(engines.ServedModel(classifier.engine, model_dir, threads=1))
    known = [name for name, _ in engines.ENGINES.items() if "cuda" in name]
    assert len(known) == 4
    assert torch.cuda.is_available() or not there.keys() & set(known)
