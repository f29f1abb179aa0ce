"""Runs one model by several engines: with the same weights and, within rounding, the same answers, at different speeds.

torch in float32 is the reference that every other engine is compared with. Which one is fastest depends on the
processor and on the shape of the batch; `serving.engine_choice` measures it.
"""

from __future__ import annotations

import copy
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from miniml.errors import InputError
from miniml.model.first_token import compute_first_token_only
from miniml.model.model_files import in_a_line
from miniml.model.rows_apart import is_run_apart, logits_of_rows
from miniml.processor import features, has_bf16, has_fast_bf16, has_fast_int8, has_usable_gpu
from miniml.registry import Registry

TokenIds = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]

REFERENCE = "torch-fp32"
TOLERANCE = 0.02
"""How far a probability may lie from the reference's, or a value in standard deviations of the labels, for an engine to
be served. bfloat16 keeps 8 bits of a number, which makes a difference of some 0.01 after a small encoder."""
# Static int8, with what is not quantized in float32, or in bfloat16; each has answers of its own.
INT8, INT8_BF16 = "openvino-int8", "openvino-int8-bf16"
# The converted model in the model folder, by the names that other tools look for.
EXPORTED = Path("openvino") / "openvino_model.xml"
# The quantized model, which no other engine may take for the model in floating point.
QUANTIZED = Path("openvino") / "int8_model.xml"

logger = logging.getLogger(__name__)


class MissingEngineError(InputError):
    """This machine has not the engine that a model is bound to."""


class Engine(Protocol):
    """Runs the model on one batch."""

    name: str
    """The name that it is registered by."""

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        """Computes the logits of one batch.

        Args:
            token_ids: Padded texts, shape [texts, tokens].
            attention_mask: 1 on tokens, 0 on padding, of the same shape.

        Returns:
            Shape [texts, labels].
        """
        ...


class TorchEngine:
    """The model as transformers runs it, on the device where it is."""

    def __init__(self, name: str, model: Any) -> None:
        """
        Args:
            name: The engine's name.
            model: A classifier of transformers.
        """
        self.name = name
        self._load: Callable[[], Any] = lambda: model
        self._config: Any = None

    @classmethod
    def loaded_when_used(cls, name: str, load: Callable[[], Any], config: Any) -> TorchEngine:
        """Returns an engine whose model is loaded when it is first used, because torch takes seconds to import.

        Args:
            name: The engine's name.
            load: Loads the classifier of transformers.
            config: The classifier's settings, as attributes.
        """
        engine = cls(name, None)
        engine._load, engine._config = load, config
        return engine

    @cached_property
    def model(self) -> Any:
        """The classifier of transformers."""
        return self._load()

    @property
    def is_loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._config is None or "model" in vars(self)

    @property
    def config(self) -> Any:
        """The classifier's settings, as attributes."""
        return self.model.config if self._config is None else self._config

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        import torch

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
    """The model as OpenVINO compiles it for this processor."""

    def __init__(self, name: str, request: Any) -> None:
        """
        Args:
            name: The engine's name.
            request: OpenVINO's inference request.
        """
        self.name = name
        self._request = request

    @classmethod
    def compiled(
        cls, name: str, converted: Any, precision: str, threads: int, streams: int = 1
    ) -> list[OpenVinoEngine]:
        """Compiles the model, without what a classifier that reads the first token alone computes in vain.

        Args:
            name: The engines' name.
            converted: The model as OpenVINO's graph, which is changed, or the path of its file.
            precision: OpenVINO's name of the number type to compute in: "f32" or "bf16".
            threads: The number of threads that the engines share.
            streams: The number of engines, which run concurrently.

        Returns:
            The engines, which share one copy of the weights.
        """
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
        }
        core = import_openvino().Core()
        graph = core.read_model(converted) if isinstance(converted, Path) else converted
        compute_first_token_only(graph, import_module("openvino.opset13"))
        model = core.compile_model(graph, "CPU", settings)
        return [cls(name, model.create_infer_request()) for _ in range(streams)]

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        (logits,) = self._request.infer([token_ids, attention_mask]).values()
        found: Logits = np.array(logits, dtype=np.float32)  # A copy: the next batch overwrites the original.
        return found


class PinnedEngine:
    """The only engine that may run a model, because the model's answers are that engine's: those of int8 weights."""

    is_loaded = False
    """Whether a model of torch is in memory, which this engine has no use for."""

    def __init__(self, name: str, build: Callable[[], Engine], config: Any) -> None:
        """
        Args:
            name: The engine's name.
            build: Builds the engine, when it is first used.
            config: The classifier's settings, as attributes.
        """
        self.name = name
        self.config = config
        self._build = build

    @cached_property
    def _engine(self) -> Engine:
        return self._build()

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        return self._engine(token_ids, attention_mask)


Reference: TypeAlias = TorchEngine | PinnedEngine
"""The engine whose answers are the model's, and which others are compared with."""


class ServedModel:
    """The model that an engine runs, and the resources that it may use."""

    def __init__(self, reference: Reference, model_dir: Path, threads: int) -> None:
        self.reference = reference
        """The reference engine."""
        self.model_dir = model_dir
        """The model folder."""
        self.threads = threads
        """The number of threads that the engine may use."""

    @cached_property
    def graph(self) -> Any:
        """The model for OpenVINO: the file that the train stage wrote, or a conversion made now."""
        return exported(self.model_dir) or convert(self.model)

    @property
    def model(self) -> Any:
        """The reference's classifier of transformers, in float32."""
        assert isinstance(self.reference, TorchEngine)
        return self.reference.model

    @property
    def quantized(self) -> Path:
        """The file of the quantized model for OpenVINO, which only a model in int8 has."""
        return self.model_dir / QUANTIZED

    @cached_property
    def has_bf16(self) -> bool:
        """Whether this processor multiplies matrices in bfloat16."""
        return has_fast_bf16()

    @property
    def is_int8(self) -> bool:
        """Whether it is a model in int8, and this machine has OpenVINO and the processor for it."""
        return self.quantized.is_file() and has_fast_int8() and _has_openvino(self)

    @cached_property
    def is_run_apart(self) -> bool:
        """Whether its batches have to be split, which only torch does (`miniml.model.rows_apart`)."""
        return is_run_apart(self.reference.config)


@dataclass(frozen=True)
class EngineKind:
    """A kind of engine, by which any model may run."""

    build: Callable[[ServedModel], Engine]
    """Builds the engine; its `name` is the one it is registered by. Called only for engines that are tried."""
    can_run: Callable[[ServedModel], bool] = lambda served: True
    """Whether this machine has the engine, and it can run this model."""
    only_when_asked: bool = False
    """Whether `auto` leaves it out, because it takes long to build."""
    needs_torch: bool = True
    """Whether it is built of the reference's model, and not of the export alone where there is one."""
    build_streams: Callable[[ServedModel, int], Sequence[Engine]] | None = None
    """Builds that many engines, which the predictor calls at the same time, each on a thread of its own: together they
    may use `ServedModel.threads` threads. None where the engine runs one batch at a time."""


def _openvino_kind(
    name: str,
    precision: str,
    can_run: Callable[[ServedModel], bool],
    graph: Callable[[ServedModel], Any] = lambda served: served.graph,
) -> EngineKind:
    def build_streams(served: ServedModel, count: int) -> Sequence[Engine]:
        return OpenVinoEngine.compiled(name, graph(served), precision, served.threads, count)

    return EngineKind(
        lambda served: build_streams(served, 1)[0], can_run, needs_torch=False, build_streams=build_streams
    )


def _cuda_kinds() -> dict[str, EngineKind]:
    """Returns the engines for a GPU: each number format with and without CUDA graphs. They have not run on one yet."""

    def there(served: ServedModel) -> bool:
        return not served.is_run_apart and has_usable_gpu()

    def there_with_bf16(served: ServedModel) -> bool:
        if not there(served):
            return False
        import torch

        return has_bf16(torch.device("cuda"))

    def kinds_in(name: str, dtype: str, can_run: Callable[[ServedModel], bool]) -> dict[str, EngineKind]:
        eager, graphs = f"torch-cuda-{name}", f"torch-cuda-graphs-{name}"

        def model(served: ServedModel) -> Any:
            return _copy(served, dtype).to("cuda")

        def with_graphs(served: ServedModel) -> Engine:
            import torch

            from miniml.model.cuda_graphs import GraphEngine

            return GraphEngine(graphs, model(served), torch.device("cuda"))

        return {
            eager: EngineKind(lambda served: TorchEngine(eager, model(served)), can_run),
            graphs: EngineKind(with_graphs, can_run),
        }

    return kinds_in("bf16", "bfloat16", there_with_bf16) | kinds_in("fp16", "float16", there)


def _copy(served: ServedModel, dtype: str) -> Any:
    """Returns a copy of the reference's model in another number type, given by torch's name of it."""
    model = served.model
    import torch

    return copy.deepcopy(model).to(getattr(torch, dtype))


def _has_openvino(served: ServedModel) -> bool:
    return find_spec("openvino") is not None and not served.is_run_apart


ENGINES: Registry[EngineKind] = Registry(
    "miniml.engines",
    {
        REFERENCE: EngineKind(lambda served: served.reference),
        "torch-bf16": EngineKind(
            lambda served: TorchEngine("torch-bf16", _copy(served, "bfloat16")),
            lambda served: served.has_bf16,
        ),
        "torch-compiled": EngineKind(
            lambda served: compiled(_copy(served, "bfloat16" if served.has_bf16 else "float32")),
            lambda served: shutil.which("g++") is not None and not served.is_run_apart,
            only_when_asked=True,
        ),
        "openvino-bf16": _openvino_kind(
            "openvino-bf16", "bf16", lambda served: served.has_bf16 and _has_openvino(served)
        ),
        "openvino-fp32": _openvino_kind("openvino-fp32", "f32", _has_openvino),
        INT8: _openvino_kind(INT8, "f32", lambda served: served.is_int8, lambda served: served.quantized),
        INT8_BF16: _openvino_kind(
            INT8_BF16,
            "bf16",
            lambda served: served.is_int8 and served.has_bf16,
            lambda served: served.quantized,
        ),
        **_cuda_kinds(),
    },
)
"""The engines by name, in the order in which they are tried."""


def register_engine(name: str, kind: EngineKind) -> None:
    """Adds an engine to those that the predictor measures; the fastest that agrees with the reference wins.

    The predictor runs in an image of its own. It has the engine if your package is installed there, with an entry point
    in the group `miniml.engines` that names the module (see `miniml.extensions`).

    Args:
        name: The engine's name, as the setting `engine` has it.
        kind: How to build it, and where it can run.

    Raises:
        ValueError: another engine has that name.
    """
    ENGINES.add(name, kind)


def builders(served: ServedModel) -> dict[str, Callable[[], Engine]]:
    """Returns the engines that this machine can run; none is built yet.

    Args:
        served: The model.

    Returns:
        A function by name, which builds the engine. A model that is bound to an engine has that one alone.
    """
    bound_to = served.reference.name if isinstance(served.reference, PinnedEngine) else None
    return {
        name: partial(kind.build, served)
        for name, kind in ENGINES.items()
        if bound_to in (None, name) and kind.can_run(served)
    }


def pinned(name: str, served: ServedModel) -> PinnedEngine:
    """Returns the engine that a model folder is bound to; it is built when it is first used.

    Args:
        name: The engine's name, as the folder's manifest has it.
        served: The model, with torch as the reference, which is not run.

    Raises:
        MissingEngineError: This machine has no such engine.
    """
    kind = ENGINES.get(name)
    if kind and kind.can_run(served):
        return PinnedEngine(name, partial(kind.build, served), served.reference.config)
    needed = "avx512_vnni and bfloat16" if name == INT8_BF16 else "avx512_vnni"
    raise MissingEngineError(
        f"model folder {served.model_dir} is bound to the engine {name!r}, on which it was evaluated, and which is not "
        f"to be had here: it needs OpenVINO (miniml[openvino]), and a processor with {needed}; this one has "
        f"{', '.join(features()) or 'none of them'}. Choose another machine (on a cluster by node_selector), or "
        f"compress on one like this, or without int8."
    )


def build_streams(name: str, served: ServedModel, count: int) -> Sequence[Engine]:
    """Builds engines that run batches concurrently.

    Args:
        name: The engine's name, one of `builders(served)`.
        served: The model.
        count: The number of engines.

    Returns:
        The engines; none where this engine runs one batch at a time.
    """
    build = ENGINES[name].build_streams
    return build(served, count) if build else []


def compiled(model: Any) -> TorchEngine:
    """Returns the model with `torch.compile`, which takes some half a minute at the first call."""
    import torch._inductor.config

    torch._inductor.config.freezing = True  # Weights become constants, in the layout of the kernels.
    module = torch.compile(model, dynamic=True)
    return TorchEngine("torch-compiled", module)


def exported(model_dir: Path) -> Path | None:
    """Returns the file of the converted model that the train stage wrote; None where there is none."""
    path = model_dir / EXPORTED
    return path if path.is_file() else None


def read_graph(model_dir: Path) -> Any:
    """Reads the converted model that the train stage wrote as OpenVINO's graph; None where there is none."""
    path = exported(model_dir)
    return import_openvino().Core().read_model(path) if path and find_spec("openvino") else None


def save_graph(graph: Any, path: Path) -> None:
    """Writes OpenVINO's graph, an .xml file and its weights beside it, in the number formats that it has."""
    import_openvino().save_model(graph, path, compress_to_fp16=False)


def import_openvino() -> Any:
    """Imports OpenVINO without its telemetry, which would report conversions to a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # As if not installed.
    return import_module("openvino")


def convert(model: Any) -> Any:
    """Converts a classifier of transformers to OpenVINO's graph, for batches of any size and length."""
    import torch

    from miniml.model.tracing import LogitsOnly

    openvino = import_openvino()
    token_ids = torch.ones(2, 8, dtype=torch.int64)
    # It has padding, because tracing an all-ones mask would take the branch without the mask.
    attention_mask = token_ids.tril(diagonal=3)
    shape = openvino.PartialShape([-1, -1])
    with warnings.catch_warnings(), torch.inference_mode():
        # Tracing warns of branches on shapes, which the comparison with the reference covers.
        warnings.simplefilter("ignore")
        return openvino.convert_model(
            LogitsOnly(model),
            example_input=(token_ids, attention_mask),
            input=[("input_ids", shape, openvino.Type.i64), ("attention_mask", shape, openvino.Type.i64)],
        )


def export(model: Any, model_dir: Path) -> bool:
    """Converts the model and writes it into the model folder, so that no server has to convert it at its start.

    Args:
        model: A classifier of transformers.
        model_dir: The model folder.

    Returns:
        Whether the file was written. A model that OpenVINO cannot convert, or whose batches have to be split, is served
        by torch.
    """
    if not find_spec("openvino") or is_run_apart(model.config):
        return False
    try:
        converted = convert(model)
    except Exception as error:  # A converter may raise anything for an architecture.
        logger.warning("the model is not exported to OpenVINO, which cannot convert it: %s", in_a_line(error))
        return False
    (model_dir / EXPORTED).parent.mkdir()
    save_graph(converted, model_dir / EXPORTED)
    return True
