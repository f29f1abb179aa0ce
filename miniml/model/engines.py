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
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from miniml.extensions import Registry
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


class ServedModel:
    """The model that an engine is to run, and what the engine may use."""

    def __init__(self, reference: TorchEngine, model_dir: Path, threads: int) -> None:
        self.reference = reference
        """Whose `model` is transformers' own, in float32."""
        self.model_dir = model_dir
        self.threads = threads
        """How many processors the engine may use."""

    @cached_property
    def graph(self) -> Any:
        """As OpenVINO reads it: the file that the train stage left, or converted now."""
        return exported(self.model_dir) or convert(self.reference.model)

    @cached_property
    def has_bf16(self) -> bool:
        """Whether this processor multiplies matrices in bfloat16."""
        return has_bf16(torch.device("cpu"))

    @cached_property
    def is_run_apart(self) -> bool:
        """Whether its batches have to be parted, which only torch does."""
        return is_run_apart(self.reference.model.config)


@dataclass(frozen=True)
class EngineKind:
    """One way to run any model."""

    build: Callable[[ServedModel], Engine]
    """Makes the engine, whose `name` is the one it is registered by; called only for engines that are tried."""
    can_run: Callable[[ServedModel], bool] = lambda served: True
    """Whether the engine is there on this machine, and for this model."""
    only_when_asked: bool = False
    """Left out of `auto`: for one that takes long to build."""


def _openvino_engine(name: str, precision: str) -> Callable[[ServedModel], Engine]:
    def build(served: ServedModel) -> Engine:
        (engine,) = OpenVinoEngine.compiled(name, served.graph, precision, served.threads)
        return engine

    return build


def _has_openvino(served: ServedModel) -> bool:
    return find_spec("openvino") is not None and not served.is_run_apart


ENGINES: Registry[EngineKind] = Registry(
    "miniml.engines",
    {
        REFERENCE: EngineKind(lambda served: served.reference),
        "torch-bf16": EngineKind(
            lambda served: TorchEngine(
                "torch-bf16", copy.deepcopy(served.reference.model).to(torch.bfloat16)
            ),
            lambda served: served.has_bf16,
        ),
        "torch-compiled": EngineKind(
            lambda served: compiled(
                served.reference.model, torch.bfloat16 if served.has_bf16 else torch.float32
            ),
            lambda served: shutil.which("g++") is not None and not served.is_run_apart,
            only_when_asked=True,
        ),
        "openvino-bf16": EngineKind(
            _openvino_engine("openvino-bf16", "bf16"),
            lambda served: served.has_bf16 and _has_openvino(served),
        ),
        "openvino-fp32": EngineKind(_openvino_engine("openvino-fp32", "f32"), _has_openvino),
    },
)
"""All of them by name, in the order in which they are tried."""


def register_engine(name: str, kind: EngineKind) -> None:
    """Adds an engine to those that the predictor tries at its start, and takes where it is the fastest that agrees.

    The predictor runs in an image of its own, and has the engine if your package is installed there and has an entry
    point in the group `miniml.engines` that names the module (see `miniml.extensions`).

    Raises:
        ValueError: there is another engine of that name.
    """
    ENGINES.add(name, kind)


def builders(reference: TorchEngine, model_dir: Path, threads: int) -> dict[str, Callable[[], Engine]]:
    """Returns how to build each engine that this machine can run, by name; nothing is built yet."""
    served = ServedModel(reference, model_dir, threads)
    return {name: partial(kind.build, served) for name, kind in ENGINES.items() if kind.can_run(served)}


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
        # tracing warns of branches on shapes, which the export's check covers
        warnings.simplefilter("ignore")
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
