"""Runs a model on a GPU by CUDA graphs, one for each of a few shapes, to which batches are padded.

A small model's kernels are shorter than the time that Python takes to start them. A graph starts them all at once: it
records what a pass does with tensors at fixed places, and repeats it. See "CUDA Graphs" in torch's documentation,
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. This has not run on a GPU yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

SHORTEST = 32
"""The tokens of the narrowest shape. A text of 16 tokens, which the predictor measures, is padded to it: so a model
that reads padding disagrees with the reference, and is not served by graphs."""
MOST_TOKENS = 4096
"""The padded tokens of the largest graph. A larger batch keeps the GPU busy without one."""
# torch can record but one graph at a time in a process.
_RECORDING = threading.Lock()
WARM_UP = 3
"""The passes before one is recorded, in which libraries choose their kernels and take their memory."""


def shape_for(texts: int, tokens: int) -> tuple[int, int]:
    """Returns the shape that a batch is padded to: the next powers of two, so that there are few shapes.

    Args:
        texts: The number of texts.
        tokens: The tokens of the longest text.
    """
    return _power_of_two(texts), max(SHORTEST, _power_of_two(tokens))


class GraphEngine:
    """A classifier of transformers on a GPU; on another device it runs without graphs, in the same shapes."""

    def __init__(self, name: str, model: Any, device: torch.device) -> None:
        """
        Args:
            name: The engine's name.
            model: A classifier of transformers, on `device`, which attends by SDPA.
            device: The device.
        """
        self.name = name
        self._model, self._device = model, device
        self._padding = getattr(model.config, "pad_token_id", None) or 0
        self._longest = getattr(model.config, "max_position_embeddings", None)
        self._passes: dict[tuple[int, int], _Pass] = {}
        # One graph runs at a time, and its logits are read before the next one runs: they can share their memory.
        self._memory = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def __call__(
        self, token_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        texts, tokens = token_ids.shape
        shape = shape_for(texts, tokens)
        if self._longest and shape[1] > self._longest:
            shape = shape[0], max(tokens, self._longest)
        with torch.inference_mode():
            if shape[0] * shape[1] > MOST_TOKENS:
                found = _Pass(self._model, (texts, tokens), self._device)(token_ids, attention_mask)
            else:
                found = self._recorded(shape)(
                    _padded(token_ids, shape, self._padding), _padded(attention_mask, shape, 0)
                )
        return found[:texts]

    def _recorded(self, shape: tuple[int, int]) -> _Pass:
        if shape not in self._passes:
            self._passes[shape] = made = _Pass(self._model, shape, self._device)
            if self._device.type == "cuda":
                made.record(self._memory)
        return self._passes[shape]


class _Pass:
    """A pass of the model over tensors at fixed places."""

    def __init__(self, model: Any, shape: tuple[int, int], device: torch.device) -> None:
        pinned = device.type == "cuda"
        self._on_host = [torch.zeros(shape, dtype=torch.int64, pin_memory=pinned) for _ in range(2)]
        self._on_device = [torch.ones(shape, dtype=torch.int64, device=device) for _ in range(2)]
        self._model = model
        self._replay: Callable[[], None] = self._run
        self._logits: torch.Tensor

    def __call__(
        self, token_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        for host, there, array in zip(
            self._on_host, self._on_device, (token_ids, attention_mask), strict=True
        ):
            host.copy_(torch.from_numpy(array))
            there.copy_(host, non_blocking=True)
        self._replay()
        # It waits for the GPU, so that the next batch finds the tensors free.
        found: npt.NDArray[np.float32] = self._logits.float().cpu().numpy()
        return found

    def record(self, memory: Any) -> None:
        """Records the pass as a graph, after some passes on a stream of their own, as torch asks for.

        Args:
            memory: The handle of the memory that graphs share, from `torch.cuda.graph_pool_handle`.
        """
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Engines are measured on a thread of their own, while others answer, and may allocate: only the calls of this
        # thread count.
        with _RECORDING, torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
            self._run()
        self._replay = graph.replay

    def _run(self) -> None:
        token_ids, mask = self._on_device
        self._logits = graph_logits(self._model, token_ids, mask)


def graph_logits(model: Any, token_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Computes the logits without a look at any value, which a graph cannot record.

    transformers would look whether anything is padded, but takes a mask of four dimensions as it is.

    Args:
        model: A classifier of transformers.
        token_ids: Padded texts, shape [texts, tokens].
        attention_mask: 1 on tokens, 0 on padding, of the same shape.

    Returns:
        Shape [texts, labels].
    """
    logits: torch.Tensor = model(
        input_ids=token_ids, attention_mask=attention_mask[:, None, None, :].bool()
    ).logits
    return logits


def _padded(rows: npt.NDArray[np.int64], shape: tuple[int, int], padding: int) -> npt.NDArray[np.int64]:
    """Returns the rows in the given shape; those that are added repeat the first, since an empty one has no softmax."""
    texts, tokens = rows.shape
    wide = np.full((texts, shape[1]), padding, dtype=np.int64)
    wide[:, :tokens] = rows
    return np.concatenate([wide, np.repeat(wide[:1], shape[0] - texts, axis=0)])


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
