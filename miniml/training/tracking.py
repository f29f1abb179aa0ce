"""Sends what the trainer logs to TensorBoard or MLflow (`miniml.settings.log_targets` parses their URIs).

A target that cannot be logged to is refused before the training. If one fails later, the training prints this once and
continues.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml import __version__
from miniml.data.prepared import DatasetSummary
from miniml.errors import InputError
from miniml.progress import logger
from miniml.settings.log_targets import MlflowExperiment, TensorBoardFolder, targets
from miniml.settings.training import TrainingSettings
from miniml.sources.address import short_name

# How long to wait before the next request to a server that failed. Each delays the training by MLflow's timeout.
SECONDS_BETWEEN_TRIES = 60.0
# By default MLflow's client retries for minutes, while the training waits.
_CLIENT_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
# MLflow's limit for one request.
MAX_METRICS = 1000
RUN_TAG = "miniml.run"


@dataclass(frozen=True)
class RunDescription:
    """The name, the settings and the tags of a tracked run."""

    name: str
    key: str
    """Identifies the training, so that one that resumes finds its run again."""
    settings: dict[str, Any]
    tags: dict[str, str]

    @classmethod
    def of(cls, settings: TrainingSettings, key: str, summary: DatasetSummary) -> RunDescription:
        """Describes a training.

        Args:
            settings: The settings of the training.
            key: The same for trainings that give the same model (`checkpoints.key_of`).
            summary: The dataset that it trains on.
        """
        return cls(
            f"{short_name(settings.model_id)}-{key[:8]}",
            key,
            {name: value for name, value in vars(settings).items() if name != "log_to"},
            {
                "dataset.source": summary.source,
                "dataset.fingerprint": summary.fingerprint,
                "miniml.version": __version__,
            },
        )


class Tracker(TrainerCallback, ABC):
    """Logs a training to one target; an error of the target does not end the training."""

    def __init__(self, target: str) -> None:
        """Makes a tracker of the target with this name, which messages mention."""
        self._target = target
        self._has_failed = False

    @abstractmethod
    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        """Starts logging, before the first step.

        Args:
            args: The trainer's arguments.
            state: The trainer's state, whose step is above 0 if the training resumes.
            model: The model.
        """

    @abstractmethod
    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        """Logs values of the trainer.

        Args:
            args: The trainer's arguments.
            state: The trainer's state.
            values: The values by name.
        """

    @abstractmethod
    def end(self, digest: str, metrics: dict[str, float]) -> None:
        """Ends logging.

        Args:
            digest: The digest of the model; "" if the training failed.
            metrics: The metrics of the training.
        """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        if state.is_world_process_zero:
            self._attempt(lambda: self.begin(args, state, about.get("model")))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._attempt(lambda: self.log(args, state, values))

    def finish(self, digest: str, metrics: dict[str, float]) -> None:
        """Ends the run, with an empty digest if the training failed."""
        self._attempt(lambda: self.end(digest, metrics))

    def _attempt(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # No error of a library may end the training.
            if not self._has_failed:
                logger.info(f"cannot log to {self._target} ({_first_line(error)}); training goes on")
            self._has_failed = True


class TensorBoardTracker(Tracker):
    """Writes event files as transformers' own callback does, and at the end settings and metrics in one table."""

    def __init__(self, target: TensorBoardFolder, run: RunDescription) -> None:
        """Creates the run's folder.

        Raises:
            InputError: the folder cannot be written to.
        """
        self._folder, self._run = target.folder / run.name, run
        super().__init__(str(self._folder))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        except OSError as error:
            raise InputError(
                f"log_to: TensorBoard's files cannot be written to {self._folder} ({error}). Name a folder that can "
                f"be written to."
            ) from error
        logger.info(f"logging to {self._folder}: tensorboard --logdir {target.folder}")
        self._writer: Any = None
        self._callback: Any = None

    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter  # Only here: it needs the extra.
        from transformers.integrations.integration_utils import TensorBoardCallback

        # purge_step hides what was logged of steps that are repeated now. TensorBoard reads a folder's files in order
        # of their names, which begin with the second in which each was opened.
        while any(self._folder.glob(f"*.tfevents.{int(time.time())}.*")):
            time.sleep(0.05)
        self._writer = SummaryWriter(str(self._folder), purge_step=state.global_step + 1)
        self._callback = TensorBoardCallback(self._writer)  # type: ignore[no-untyped-call]
        self._callback.on_train_begin(args, state, TrainerControl(), model=model)
        for name, value in self._run.tags.items():
            self._writer.add_text(name, value)

    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        self._callback.on_log(args, state, TrainerControl(), logs=values)

    def end(self, digest: str, metrics: dict[str, float]) -> None:
        if digest:
            self._writer.add_text("miniml.digest", digest)
            self._writer.add_hparams(self._run.settings, metrics, run_name=".")
        if self._writer:
            self._writer.close()


class MlflowTracker(Tracker):
    """Logs a run of an MLflow experiment.

    It does not use transformers' callback, which logs the Trainer's hundred arguments instead of our settings, and does
    not send again what a server has missed.
    """

    def __init__(self, target: MlflowExperiment, run: RunDescription) -> None:
        """Finds the experiment, or creates it.

        Raises:
            InputError: MLflow cannot be used, or the experiment was deleted.
        """
        for name, value in _CLIENT_LIMITS.items():
            os.environ.setdefault(name, value)
        if target.folder:
            # MLflow advises against folders, since its newest features need a database. Curves do not.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient  # Only here: it needs the extra, and takes seconds to import.

        super().__init__(f"{target.experiment} at {target.store}")
        self._client = MlflowClient(target.store)
        self._run, self._experiment = run, self._find_experiment(target)
        self._run_id, self._resumes, self._last_attempt, self._step = "", False, 0.0, 0
        self._unsent: list[Any] = []
        self._params: list[Any] = []

    def _find_experiment(self, target: MlflowExperiment) -> str:
        try:
            found = self._client.get_experiment_by_name(target.experiment)
            if not found:
                return self._client.create_experiment(target.experiment)
        except Exception as error:  # MLflow's, requests' and the system's
            raise InputError(
                f"log_to: MLflow at {target.store} cannot be used ({_first_line(error)}). Start it, check the "
                f"address, or leave log_to empty."
            ) from error
        if found.lifecycle_stage != "active":
            raise InputError(
                f"log_to: the experiment {target.experiment!r} at {target.store} was deleted. Restore it, or name "
                f"another."
            )
        return str(found.experiment_id)

    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        from mlflow.entities import Param

        if self._run_id:  # The training starts again, in another precision.
            self._client.set_terminated(self._run_id, "FAILED")
        self._run_id, self._unsent = "", []
        self._resumes = state.global_step > 0
        self._params = [Param(name, str(value)) for name, value in self._run.settings.items()]
        self._send()

    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        self._step, now = state.global_step, int(1000 * time.time())
        self._unsent += [Metric(name, value, now, state.global_step) for name, value in values.items()]
        if not self._has_failed or time.monotonic() - self._last_attempt >= SECONDS_BETWEEN_TRIES:
            self._send()

    def _send(self) -> None:
        """Sends everything that the server has not received yet."""
        self._last_attempt = time.monotonic()
        if not self._run_id:
            self._run_id = self._unfinished_run() if self._resumes else ""
        if not self._run_id:
            tags = {RUN_TAG: self._run.key, **self._run.tags}
            run = self._client.create_run(self._experiment, tags=tags, run_name=self._run.name)
            self._run_id = run.info.run_id
            logger.info(f"logging to {self._target}, run {self._run_id}")
        while self._unsent or self._params:
            self._client.log_batch(self._run_id, metrics=self._unsent[:MAX_METRICS], params=self._params)
            del self._unsent[:MAX_METRICS]
            self._params = []
        if self._has_failed:
            logger.info(f"logging to {self._target} again, with what it had missed")
        self._has_failed = False

    def _unfinished_run(self) -> str:
        """Returns the id of the run of the process whose training resumes, or "" if there is none."""
        unfinished = f"tags.`{RUN_TAG}` = '{self._run.key}' and attributes.status != 'FINISHED'"
        newest_first = ["attributes.start_time DESC"]
        for run in self._client.search_runs(
            [self._experiment], unfinished, max_results=1, order_by=newest_first
        ):
            self._client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        return ""

    def end(self, digest: str, metrics: dict[str, float]) -> None:
        from mlflow.entities import Metric, RunTag

        if not (self._run_id or self._unsent):  # The training did not begin.
            return
        self._send()
        if digest:
            now = int(1000 * time.time())
            self._client.log_batch(
                self._run_id,
                metrics=[Metric(name, value, now, self._step) for name, value in metrics.items()],
                tags=[RunTag("miniml.digest", digest)],
            )
        self._client.set_terminated(self._run_id, "FINISHED" if digest else "FAILED")


@contextlib.contextmanager
def tracked(log_to: str, run: RunDescription) -> Iterator[list[Tracker]]:
    """Yields the trackers of a training, and marks the run as failed if the block raises an error.

    The block must call `finish` on each tracker. Of several processes that train together, only the one of rank 0 has
    trackers.

    Args:
        log_to: The targets, as `miniml.settings.log_targets` parses them; "" has none.
        run: The run to log.

    Raises:
        InputError: a target's library is not installed, or the target cannot be logged to.
    """
    trackers: list[Tracker] = []
    try:
        if os.environ.get("RANK", "0") == "0":  # torchrun sets it
            for target in targets(log_to):
                trackers.append(_tracker(target, run))
        yield trackers
    except BaseException:
        for tracker in trackers:
            tracker.finish("", {})
        raise


def _tracker(target: TensorBoardFolder | MlflowExperiment, run: RunDescription) -> Tracker:
    if isinstance(target, TensorBoardFolder):
        _require("tensorboard")
        return TensorBoardTracker(target, run)
    _require("mlflow")
    return MlflowTracker(target, run)


def _require(library: str) -> None:
    if find_spec(library) is None:
        raise InputError(
            f"log_to needs {library}, which is not installed here. Install the extra of that name, "
            f"miniml[{library}] (into the image: TRAIN_EXTRAS={library} make images), or leave log_to empty."
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
