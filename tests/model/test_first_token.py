"""What a classifier of the first token does not need is not computed, and its answers stay the same."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniml.model import engines
from miniml.model.classifier import Classifier
from miniml.model.engines import OpenVinoEngine, TorchEngine
from miniml.model.first_token import compute_first_token_only
from tests import families

# Imported as the engines import it, lest this process gets its telemetry.
openvino = engines.import_openvino()
opset13 = import_module("openvino.opset13")
Graph = Any
Node = Any
"""A part of OpenVINO's graph."""
WIDTH = 4
WEIGHTS = np.linspace(-1, 1, WIDTH * WIDTH, dtype=np.float32).reshape(WIDTH, WIDTH)
STATES = np.linspace(-2, 3, 2 * 5 * WIDTH, dtype=np.float32).reshape(2, 5, WIDTH)
"""Of two texts of five tokens."""


def queries(graph: Graph) -> list[bool]:
    """Whether each layer's attention, from the lowest, computes one token only."""
    attentions = [each for each in graph.get_ordered_ops() if "Attention" in each.get_type_name()]
    return [bool(each.get_output_partial_shape(0)[2] == openvino.Dimension(1)) for each in attentions]


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "roberta", "xlm-roberta"])
def test_the_last_layer_computes_the_first_token_only_with_the_same_answers(
    kind: str, tmp_path: Path
) -> None:
    classifier = Classifier.load(families.write_classifier(tmp_path / "model", kind))
    assert isinstance(classifier.engine, TorchEngine)
    graph = engines.convert(classifier.engine.model)
    assert queries(graph) == [False, False]
    compiled = classifier.on(OpenVinoEngine.compiled("", graph, "f32", 1)[0])
    assert queries(graph) == [False, True]
    for lengths in [(3, 9, 5), (7, 7), (1,)]:
        texts = classifier.made_up(*lengths)
        assert compiled.scaled(texts) == pytest.approx(classifier.scaled(texts), abs=1e-5)


def product(states: Node) -> Node:
    """The product of states, shape [texts, tokens, WIDTH], with fixed weights."""
    return opset13.matmul(states, WEIGHTS, False, False)


def first(states: Node) -> Node:
    return opset13.gather(states, 0, 1)


def tokens_in_product(build: Callable[[Node], Node]) -> int:
    """The number of tokens for which a classifier's product is computed, after a check that its answers stay.

    Args:
        build: Adds the classifier to the graph of its states.
    """
    plain, changed = (
        openvino.Model([build(states)], [states])
        for states in (opset13.parameter([-1, -1, WIDTH], np.float32) for _ in range(2))
    )
    compute_first_token_only(changed, opset13)
    (shape,) = (
        each.get_output_partial_shape(0)
        for each in changed.get_ordered_ops()
        if each.get_type_name() == "MatMul"
    )
    expected, found = (
        openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([STATES])[0]
        for graph in (plain, changed)
    )
    assert found == pytest.approx(expected, abs=1e-5)
    return int(shape[1].get_length()) if shape[1].is_static else STATES.shape[1]


def attending(states: Node, looking_back: bool = False) -> Node:
    """One head, whose queries are the product."""
    heads = (
        opset13.transpose(opset13.reshape(each, [0, 0, 1, WIDTH], True), [0, 2, 1, 3])
        for each in (product(states), states, states)
    )
    attended = opset13.scaled_dot_product_attention(*heads, causal=looking_back)
    return first(opset13.reshape(opset13.transpose(attended, [0, 2, 1, 3]), [0, 0, WIDTH], True))


def activated(states: Node) -> Node:
    return first(opset13.tanh(product(states)))


@pytest.mark.parametrize("build", [activated, attending])
def test_a_product_is_computed_for_the_first_token_alone(build: Callable[[Node], Node]) -> None:
    assert tokens_in_product(build) == 1


def of_all_tokens(states: Node) -> Node:
    return first(opset13.softmax(product(states), 1))


def looking_back(states: Node) -> Node:
    return attending(states, looking_back=True)


def read_twice(states: Node) -> Node:
    states = product(states)
    return opset13.add(first(states), opset13.reduce_mean(states, 1))


def mean(states: Node) -> Node:
    return opset13.reduce_mean(product(states), 1)


def last(states: Node) -> Node:
    return opset13.gather(product(states), -1, 1)


@pytest.mark.parametrize("build", [of_all_tokens, looking_back, read_twice, mean, last])
def test_a_product_of_which_more_is_read_is_computed_for_all_tokens(build: Callable[[Node], Node]) -> None:
    assert tokens_in_product(build) == STATES.shape[1]
