"""Compresses in a child process, which is started again from its last checkpoint if it dies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miniml.compression.compress import compress
from miniml.compression.full_model import read_full_model
from miniml.compression.outcome import Selection
from miniml.files.folders import require_writable_file
from miniml.settings.arguments import settings_from
from miniml.settings.command_line import words_of
from miniml.settings.compression import CompressionSettings
from miniml.settings.training import TrainingSettings
from miniml.supervision.supervisor import Program, Retries, run_supervised


@dataclass(frozen=True)
class CompressionRequest:
    """The arguments of the compress step."""

    dataset_dir: Path
    model_dir: Path
    """The full model's folder."""
    smaller_dir: Path
    """The folder to write (see `miniml.compression.compress.compress`)."""
    settings: CompressionSettings
    report: Path
    metrics: Path
    """The file for what was measured, as JSON."""
    model_uri: str = ""
    """The address of the full model, if it is known."""

    def words(self) -> list[str]:
        """Returns the command line arguments for `python -m miniml.compression`."""
        named = {"model-uri": self.model_uri, "report": self.report, "metrics": self.metrics}
        return [
            str(self.dataset_dir),
            str(self.model_dir),
            str(self.smaller_dir),
            *words_of(self.settings),
            *(f"--{name}={value}" for name, value in named.items() if value),
        ]


def compress_watched(request: CompressionRequest, retries: Retries | None = None) -> Selection:
    """Compresses in a child process, and starts it again from its last checkpoint if a retry may succeed.

    Where no smaller model is asked for, there is no child.

    Args:
        request: What to compress.
        retries: How often to retry, and after what time.

    Returns:
        What was measured of all models, and which was chosen.

    Raises:
        MinimlError: as `miniml.supervision.supervisor.run_supervised`.
    """
    if request.settings.compression == "none":
        selection = compress(
            request.dataset_dir, request.model_dir, request.smaller_dir, request.settings, request.report
        )
        selection.save(request.metrics)
        return selection
    require_writable_file("metrics", request.metrics, (request.model_dir, request.smaller_dir))
    trained = read_full_model(request.model_dir).arguments["training"]
    program = Program(
        module="miniml.compression",
        words=request.words(),
        output=request.smaller_dir,
        training=settings_from(TrainingSettings, trained),
        name="the compression",
    )
    run_supervised(program, retries)
    return Selection.read(request.metrics)
