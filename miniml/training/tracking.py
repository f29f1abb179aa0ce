"""Sends what the trainer logs to TensorBoard or MLflow (`miniml.settings.log_targets` has their URIs).

A place that cannot be logged to is refused before the training. One that fails later costs no training: it is said
once, and training goes on.
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
from miniml.progress import note
from miniml.settings.log_targets import MlflowExperiment, TensorBoardFolder, targets
from miniml.settings.training import TrainingSettings
from miniml.sources.address import short_name

# A server that is away is asked again so often, and each time holds the training up by MLflow's timeout at most.
SECONDS_BETWEEN_TRIES = 60.0
# MLflow's client would by itself try for minutes, with the training waiting: once more will do.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
# MLflow takes so many at a time.
MAX_METRICS = 1000
RUN_TAG = "miniml.run"


@dataclass(frozen=True)
class RunDescription:
    """What a tracked run is called, and what is known of it before it begins."""

    name: str
    key: str
    """By which a training that is taken up again finds the run that it was."""
    settings: dict[str, Any]
    tags: dict[str, str]

    @classmethod
    def of(cls, settings: TrainingSettings, key: str, summary: DatasetSummary) -> RunDescription:
        """`key` is the same for trainings that end in the same model (`checkpoints.key_of`)."""
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
    """One place that a training is logged to."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._has_failed = False

    @abstractmethod
    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        """Called when the first step is due; the state's step is above 0 where a training is taken up again."""

    @abstractmethod
    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        """Called with what the trainer logs."""

    @abstractmethod
    def end(self, digest: str, metrics: dict[str, float]) -> None:
        """Called when the model is signed; with an empty `digest` where the training failed."""

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
        """Says how it ended: see `end`."""
        self._attempt(lambda: self.end(digest, metrics))

    def _attempt(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # Whatever the libraries raise, a curve is not worth a training.
            if not self._has_failed:
                note(f"cannot log to {self._place} ({_first_line(error)}); training goes on")
            self._has_failed = True


class TensorBoardTracker(Tracker):
    """Event files, as transformers' own callback writes them, and at the end settings and figures side by side."""

    def __init__(self, target: TensorBoardFolder, run: RunDescription) -> None:
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
        note(f"logging to {self._folder}: tensorboard --logdir {target.folder}")
        self._writer: Any = None
        self._callback: Any = None

    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter  # Only here: it needs the extra.
        from transformers.integrations.integration_utils import TensorBoardCallback

        # What was logged of the steps that are now taken again is not shown any more. TensorBoard reads a folder's
        # files in the order of their names, which begin with the second in which each was opened.
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
    """A run of an experiment.

    Not by transformers' callback: that one logs the Trainer's hundred arguments in place of our settings, and what
    a server has missed it does not send again.
    """

    def __init__(self, target: MlflowExperiment, run: RunDescription) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        if target.folder:
            # MLflow advises against folders, for its newest features need a database; curves do not.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient  # Only here: it needs the extra, and takes seconds to import.

        super().__init__(f"{target.experiment} at {target.store}")
        self._client = MlflowClient(target.store)
        self._run, self._experiment = run, self._find_experiment(target)
        self._run_id, self._goes_on, self._tried, self._step = "", False, 0.0, 0
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

        if self._run_id:  # The training begins anew, in another precision.
            self._client.set_terminated(self._run_id, "FAILED")
        self._run_id, self._unsent = "", []
        self._goes_on = state.global_step > 0
        self._params = [Param(name, str(value)) for name, value in self._run.settings.items()]
        self._send()

    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        self._step, now = state.global_step, int(1000 * time.time())
        self._unsent += [Metric(name, value, now, state.global_step) for name, value in values.items()]
        if not self._has_failed or time.monotonic() - self._tried >= SECONDS_BETWEEN_TRIES:
            self._send()

    def _send(self) -> None:
        """Brings the server everything that it has not got yet."""
        self._tried = time.monotonic()
        if not self._run_id:
            self._run_id = self._run_left_behind() if self._goes_on else ""
        if not self._run_id:
            tags = {RUN_TAG: self._run.key, **self._run.tags}
            run = self._client.create_run(self._experiment, tags=tags, run_name=self._run.name)
            self._run_id = run.info.run_id
            note(f"logging to {self._place}, run {self._run_id}")
        while self._unsent or self._params:
            self._client.log_batch(self._run_id, metrics=self._unsent[:MAX_METRICS], params=self._params)
            del self._unsent[:MAX_METRICS]
            self._params = []
        if self._has_failed:
            note(f"logging to {self._place} again, with what it had missed")
        self._has_failed = False

    def _run_left_behind(self) -> str:
        """The run of the process that this one goes on from; empty where there is none."""
        left = f"tags.`{RUN_TAG}` = '{self._run.key}' and attributes.status != 'FINISHED'"
        newest_first = ["attributes.start_time DESC"]
        for run in self._client.search_runs([self._experiment], left, max_results=1, order_by=newest_first):
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
    """The trackers of a training, which is yet to tell them what it `finish`ed with; else they say that it failed.

    Of several processes that train together, the first one has them all.

    Raises:
        InputError: the library of one is not installed, or it cannot be logged to.
    """
    trackers: list[Tracker] = []
    try:
        if os.environ.get("RANK", "0") == "0":  # as torchrun numbers them
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
            f"log_to asks for {library}, which is not installed here. Install the extra of that name, "
            f"miniml[{library}] (into the image: TRAIN_EXTRAS={library} make images), or leave log_to empty."
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
