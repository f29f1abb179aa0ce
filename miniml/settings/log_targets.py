"""Reads the URIs of experiment trackers to which a training logs: TensorBoard event files, or an MLflow server.

tensorboard:///srv/logs                     event files in a folder of /srv/logs, one for each training
mlflow+http://mlflow.team:5000/reviews      the experiment "reviews" of the server there; https as well
mlflow+file:///srv/mlruns/reviews           the same in a folder, without a server

Several of them are separated by commas. Characters of a name with a meaning in a URI, and commas, are percent-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from miniml.errors import InputError
from miniml.resource_names import MLFLOW_CREDENTIALS

FORMS = "tensorboard:///<folder>, mlflow+http://<host>/<experiment> or mlflow+file:///<folder>/<experiment>"


@dataclass(frozen=True)
class TensorBoardFolder:
    """A log folder for `tensorboard --logdir`, with a folder for each training."""

    folder: Path


@dataclass(frozen=True)
class MlflowExperiment:
    """An experiment, and the address of its store as MLflow writes it."""

    store: str
    experiment: str

    @property
    def folder(self) -> Path | None:
        """The store's folder; None where the store is a server."""
        return Path(unquote(urlsplit(self.store).path)) if self.store.startswith("file:") else None


LogTarget = TensorBoardFolder | MlflowExperiment


def targets(log_to: str) -> list[LogTarget]:
    """Returns the targets that the setting `log_to` names.

    Raises:
        InputError: A URI cannot be read, or holds credentials; the message does not repeat what might be a secret.
    """
    return [_target(uri) for part in log_to.split(",") if (uri := part.strip())]


def _target(uri: str) -> LogTarget:
    found = urlsplit(uri)
    if "@" in found.netloc:
        raise InputError(
            f"log_to holds credentials, which are not repeated here and would stand in every log. "
            f"Leave them out, and set {', '.join(MLFLOW_CREDENTIALS[:2])} or {MLFLOW_CREDENTIALS[2]}."
        )
    path = found.path.rstrip("/")
    if found.query or found.fragment or not path:
        raise _unknown(uri)
    if found.scheme == "tensorboard" and not found.netloc:
        return TensorBoardFolder(Path(unquote(path)))
    store, _, experiment = path.rpartition("/")
    if found.scheme in ("mlflow+http", "mlflow+https") and _has_host(found) and experiment:
        return MlflowExperiment(
            f"{_without_mlflow(found.scheme)}://{found.netloc}{store}", unquote(experiment)
        )
    if found.scheme == "mlflow+file" and not found.netloc and store and experiment:
        return MlflowExperiment(f"file://{store}", unquote(experiment))
    raise _unknown(uri)


def _has_host(found: SplitResult) -> bool:
    try:
        return bool(found.hostname) and (found.port is None or found.port > 0)
    except ValueError:  # a port that is no number
        return False


def _without_mlflow(scheme: str) -> str:
    return scheme.removeprefix("mlflow+")


def _unknown(uri: str) -> InputError:
    shown = uri.partition("?")[0]
    return InputError(f"log_to {shown!r} is no place to log to. Write {FORMS}, several with commas between.")
