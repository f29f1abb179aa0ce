"""Ways to run one model: the same weights and, within rounding, the same answers, at very different speeds.

torch in float32 is the reference that every other engine is compared with. Which one is fastest depends
on the processor and on the shape of the batch; `serving.engine_choice` measures it.
"""

from __future__ import annotations

import copy
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from miniml.model.model_files import in_a_line
from miniml.model.rows_apart import is_run_apart, logits_of_rows
from miniml.processor import has_bf16

TokenIds = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]

REFERENCE = "torch-fp32"
# In the model folder, where the train stage left it, under the names that other tools look for.
EXPORTED = Path("openvino") / "openvino_model.xml"

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs the model on one batch."""

    name: str

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        """The logits, shape [texts, labels], of padded `token_ids`, shape [texts, tokens]; the mask is 1 on tokens."""
        ...


class TorchEngine:
    """The model as transformers runs it, on the device that holds it."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self.model = model

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        device = self.model.device
        with torch.inference_mode():
            logits = logits_of_rows(
                self.model,
                self.model.config,
                torch.from_numpy(token_ids).to(device),
                torch.from_numpy(attention_mask).to(device),
            )
        found: Logits = logits.float().cpu().numpy()
        return found


class OpenVinoEngine:
    """The model as OpenVINO compiles it for this processor, on some of its threads."""

    def __init__(self, name: str, request: Any, again: Callable[[int], list[OpenVinoEngine]]) -> None:
        self.name = name
        self.beside = again
        """As many engines as asked for that run at the same time, and share the threads among them."""
        self._request = request

    @classmethod
    def compiled(
        cls, name: str, converted: Any, precision: str, threads: int, streams: int = 1
    ) -> list[OpenVinoEngine]:
        """`streams` engines that share `threads` and one copy of the weights."""
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
        }
        model = _openvino().Core().compile_model(converted, "CPU", settings)
        again = partial(cls.compiled, name, converted, precision, threads)
        return [cls(name, model.create_infer_request(), again) for _ in range(streams)]

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        (logits,) = self._request.infer([token_ids, attention_mask]).values()
        found: Logits = np.array(logits, dtype=np.float32)  # a copy: the next batch overwrites the original
        return found


def builders(reference: TorchEngine, model_dir: Path, threads: int) -> dict[str, Callable[[], Engine]]:
    """How to build each engine that this machine can run, by name; nothing is built yet."""
    model = reference.model
    graph = cache(lambda: exported(model_dir) or convert(model))
    bf16 = has_bf16(torch.device("cpu"))

    def openvino(name: str, precision: str) -> Engine:
        (engine,) = OpenVinoEngine.compiled(f"openvino-{name}", graph(), precision, threads)
        return engine

    engines: dict[str, Callable[[], Engine]] = {REFERENCE: lambda: reference}
    if bf16:
        engines["torch-bf16"] = lambda: TorchEngine("torch-bf16", copy.deepcopy(model).to(torch.bfloat16))
    if is_run_apart(model.config):
        return engines
    if shutil.which("g++"):
        engines["torch-compiled"] = lambda: compiled(model, torch.bfloat16 if bf16 else torch.float32)
    if find_spec("openvino"):
        if bf16:
            engines["openvino-bf16"] = lambda: openvino("bf16", "bf16")
        engines["openvino-fp32"] = lambda: openvino("fp32", "f32")
    return engines


def compiled(model: Any, dtype: torch.dtype) -> TorchEngine:
    """The model as torch's own compiler makes it: some half a minute of work, at the first call."""
    import torch._inductor.config

    torch._inductor.config.freezing = True  # weights become constants, laid out as the kernels like them
    module = torch.compile(copy.deepcopy(model).to(dtype), dynamic=True)
    return TorchEngine("torch-compiled", module)


def exported(model_dir: Path) -> Path | None:
    """Where the train stage left the model converted, or None."""
    path = model_dir / EXPORTED
    return path if path.is_file() else None


def _openvino() -> Any:
    """The library, with its telemetry left out: converting a model would tell a server of its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed
    return import_module("openvino")


def convert(model: Any) -> Any:
    """The model as OpenVINO's graph, for batches of any number and length."""
    openvino = _openvino()
    token_ids = torch.ones(2, 8, dtype=torch.int64)
    # With padding in it: tracing an all-ones mask would take the branch that leaves the mask out.
    attention_mask = token_ids.tril(diagonal=3)
    shape = openvino.PartialShape([-1, -1])
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter(
            "ignore"
        )  # tracing warns of branches on shapes, which the export's check covers
        return openvino.convert_model(
            _LogitsOnly(model),
            example_input=(token_ids, attention_mask),
            input=[("input_ids", shape, openvino.Type.i64), ("attention_mask", shape, openvino.Type.i64)],
        )


def export(model: Any, model_dir: Path) -> bool:
    """Converts the model once, so that no server that starts has to; says whether there is something to load.

    A model that OpenVINO cannot convert, or whose batches have to be parted, is served by torch.
    """
    if not find_spec("openvino") or is_run_apart(model.config):
        return False
    try:
        converted = convert(model)
    except Exception as error:  # whatever a converter of any architecture stumbles over
        logger.warning("the model is not exported to OpenVINO, which cannot convert it: %s", in_a_line(error))
        return False
    (model_dir / EXPORTED).parent.mkdir()
    _openvino().save_model(converted, model_dir / EXPORTED, compress_to_fp16=False)
    return True


class _LogitsOnly(torch.nn.Module):
    """A model that takes two tensors and gives one: what can be traced."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits
