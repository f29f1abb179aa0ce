"""Leaves out of a converted model what its answer does not depend on.

Many classifiers read the first token alone. So the last layer has to attend to all tokens, but only from the first one,
and its other products are needed for that token alone: five sixths of the layer's work are computed and thrown away.
OpenVINO does not see it by itself, so the choice of the token is moved up its graph, as far as it goes.
"""

from __future__ import annotations

from typing import Any

# What computes each element from the elements in the same place.
ELEMENTWISE = frozenset(
    {
        "Add",
        "Convert",
        "Divide",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "Maximum",
        "Mish",
        "Multiply",
        "Power",
        "Relu",
        "Sigmoid",
        "Sqrt",
        "Subtract",
        "Swish",
        "Tanh",
    }
)
QUERY, MASK = 0, 3
"""Inputs of OpenVINO's attention."""

Edge = tuple[str, int]
"""The name of an operation, and the number of one of its inputs."""


def compute_first_token_only(graph: Any, opset: Any) -> int:
    """Moves the choice of the first token to where all tokens are needed; the graph's answers stay the same.

    Args:
        graph: OpenVINO's graph of a classifier; it is changed.
        opset: OpenVINO's module of operations.

    Returns:
        The number of places at which the first token is chosen; 0 if the classifier does not read it.
    """
    wanted: dict[Edge, int] = {}
    chosen = []
    for operation in reversed(graph.get_ordered_ops()):
        if operation.get_output_size() != 1:
            continue
        if _takes_first_token(operation):
            wanted[operation.get_name(), 0] = -2
            continue
        readers = list(operation.output(0).get_target_inputs())
        axes = {wanted.get(_edge(reader)) for reader in readers}
        axis = axes.pop() if len(axes) == 1 else None
        inputs = None if axis is None else _inputs_of_first(operation, axis)
        if inputs is not None:
            wanted |= {(operation.get_name(), number): place for number, place in inputs.items()}
        else:
            chosen += [reader for reader in readers if _edge(reader) in wanted]
    for reader in chosen:
        first = opset.gather(reader.get_source_output(), [0], wanted[_edge(reader)])
        reader.replace_source_output(first.output(0))
    graph.validate_nodes_and_infer_types()
    return len(chosen)


def _edge(reader: Any) -> Edge:
    return reader.get_node().get_name(), reader.get_index()


def _takes_first_token(operation: Any) -> bool:
    """Whether the operation takes the first token of states of shape [texts, tokens, width]."""
    if operation.get_type_name() != "Gather" or _rank(operation, 0) != 3:
        return False
    index, axis = _constant(operation, 1), _constant(operation, 2)
    return (
        index is not None and index.ndim == 0 and index == 0 and axis is not None and axis.item() in (1, -2)
    )


def _inputs_of_first(operation: Any, axis: int) -> dict[int, int] | None:
    """Returns the axis of the tokens in those inputs of which the first token is enough.

    Args:
        operation: An operation of which only the first token's output is needed.
        axis: The axis of the tokens in the output, counted from the end, such as -2.

    Returns:
        Axes by the number of the input; None if the operation needs all tokens, or is not known to need fewer.
    """
    kind = operation.get_type_name()
    inputs = range(operation.get_input_size())
    if any(_rank(operation, number) < 0 for number in inputs):
        return None
    if kind in ELEMENTWISE:
        return {number: axis for number in inputs if _has_tokens(operation, number, axis)}
    if kind == "MVN" and axis != -1:
        over = _constant(operation, 1)
        return {0: axis} if over is not None and over.tolist() == [-1] else None
    if kind == "Softmax":
        over_last = operation.get_attributes()["axis"] in (-1, _rank(operation, 0) - 1)
        return {0: axis} if over_last and axis != -1 else None
    if kind == "MatMul":
        return {0: axis} if axis == -2 and not operation.get_attributes()["transpose_a"] else None
    if kind == "ScaledDotProductAttention":
        return _inputs_of_attention(operation) if axis == -2 else None
    if kind == "Transpose":
        order = _constant(operation, 1)
        return None if order is None else {0: int(order[axis]) - len(order)}
    return _inputs_of_reshape(operation, axis) if kind == "Reshape" else None


def _inputs_of_attention(operation: Any) -> dict[int, int] | None:
    if operation.get_attributes()["causal"]:
        return None
    masked = operation.get_input_size() > MASK and _has_tokens(operation, MASK, -2)
    return {QUERY: -2, MASK: -2} if masked else {QUERY: -2}


def _inputs_of_reshape(operation: Any, axis: int) -> dict[int, int] | None:
    """Returns the axis of the tokens in the input if everything before it keeps its place, and it is kept as it is."""
    sizes, rank = _constant(operation, 1), _rank(operation, 0)
    if sizes is None or not operation.get_attributes()["special_zero"]:
        return None
    place = len(sizes) + axis
    shape = operation.get_input_partial_shape(0)
    kept = all(
        size == 0 or (shape[number].is_static and size == shape[number].get_length())
        for number, size in enumerate(sizes[:place])
    )
    return {0: place - rank} if place < rank and kept and sizes[place] == 0 else None


def _has_tokens(operation: Any, number: int, axis: int) -> bool:
    """Whether an input has an entry for each token, and not one for all of them."""
    shape = operation.get_input_partial_shape(number)
    if len(shape) < -axis:
        return False
    tokens = shape[len(shape) + axis]
    return bool(tokens.is_dynamic or tokens.get_length() != 1)


def _rank(operation: Any, number: int) -> int:
    """Returns the number of axes of an input; -1 if it is not fixed."""
    rank = operation.get_input_partial_shape(number).rank
    return rank.get_length() if rank.is_static else -1


def _constant(operation: Any, number: int) -> Any:
    """Returns the value of an input, an array; None if it is computed."""
    source = operation.input_value(number).get_node()
    return source.get_data() if source.get_type_name() == "Constant" else None
