"""Checkpoints: what a training that was killed goes on from, when it is run again with the same arguments."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml import environment
from miniml.data.prepared import DatasetSummary
from miniml.errors import StoppedError, StorageError, StoreError, TrainingError
from miniml.files.checksums import find_damage, write_checksums
from miniml.files.digests import digest_of, sha256
from miniml.files.folders import disk_errors_explained, held, is_full, user_cache
from miniml.model.manifest import SETTINGS_OF_A_RUN
from miniml.progress import logger
from miniml.settings.training import NO_CHECKPOINTS, TrainingSettings
from miniml.signals import on_sigterm
from miniml.store.address import S3_SCHEME, S3Address, is_in_store, s3_address
from miniml.training.processes import ALONE, Processes

if TYPE_CHECKING:
    from miniml.store.mirror import Mirror

KEPT = 2
"""Checkpoints of a training: should the newest one be damaged, there is the one before."""
SHARE = 0.05
"""Of the time that saving may take: where it takes long, it is done less often than was asked for."""
FORGOTTEN = 30 * 24 * 3600
"""Seconds after which nobody is expected to run a training of this machine's cache again."""
PATIENCE = 10.0
"""Seconds that another process may take to give the checkpoints up: one that lost its terminal is still ending."""

FINISHED = "finished"
"""The name of the folder in a training's place that holds the model that it has made."""
FINISHED_BYTES = 4 * 2**30
"""Of all finished models in this machine's cache; beyond that the oldest go."""
SECONDS_TO_SEND = 300.0
"""For a finished model to get to the store: it is a precaution, and others wait for the step that takes it."""

ABOUT_NAME = "checkpoint.json"
IDENTITY_NAME = "identity.txt"
"""Beside a finished model: for what it may be taken (see `Checkpoints.finished`)."""
_STEP = re.compile(r"step-[0-9]{1,18}")
"""The name of a checkpoint's folder."""
_KEY = re.compile(r"[0-9a-f]{64}")
"""The name of a training's: nothing else is removed from a folder that may hold anything."""

# Of the settings, those that change nothing of what is learnt.
IRRELEVANT = ("model_id", *SETTINGS_OF_A_RUN)


class Resumable(Protocol):
    """What a training has to find again, beside the model and what transformers keeps of its own."""

    def save(self, folder: Path) -> None:
        """Writes what it holds into a file of its own."""

    def restore(self, folder: Path) -> None:
        """Takes it up again; called when the training begins, after everything else has been set to its start."""


def key_of(
    pretrained: Path, summary: DatasetSummary, settings: TrainingSettings, processes: Processes = ALONE
) -> str:
    """A digest that is the same for trainings that end in the same model, so that one may go on for the other."""
    files = sorted(path for path in pretrained.iterdir() if path.is_file())
    return digest_of(
        {
            "settings": {name: value for name, value in asdict(settings).items() if name not in IRRELEVANT},
            "pretrained": {path.name: sha256(path) for path in files},
            "data": {"fingerprint": summary.fingerprint, "labels": summary.labels},
            "processes": processes.count,
            "environment": environment.fingerprint(),
        }
    )


def beside(model_uri: str) -> str:
    """The address in a model's own bucket under which another machine finds the checkpoints; "" for a local path."""
    scheme, _, rest = model_uri.partition("://")
    bucket = rest.partition("/")[0]
    if scheme not in ("s3", "minio") or not bucket:
        return ""
    from miniml.store.connection import AWS, Endpoint  # Only here: a local training needs no S3 client.

    # KFP calls its own store minio://. Where the environment does not say where that is, Amazon is not meant.
    if scheme == "minio" and Endpoint.from_environment().url == AWS:
        return ""
    return f"{S3_SCHEME}{bucket}/miniml/checkpoints"


@contextmanager
def checkpointing(
    key: str, settings: TrainingSettings, model_uri: str = "", processes: Processes = ALONE
) -> Iterator[Checkpoints]:
    """Keeps the checkpoints of the training `key` while it runs, and removes them once the block has ended well; the
    finished model may stay in their place (`Checkpoints.finish`).

    On an error they stay, and it is said where; a training that comes to nothing is the same again from any of them.
    Of several processes the first keeps them for all.

    Raises:
        StoreError: the store that `settings` name does not answer, or refuses.
        StorageError: their folder cannot be written to.
    """
    interval = settings.checkpoint_interval
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="miniml-")))
        if not processes.first:
            theirs: _Told = processes.broadcast(None)
            newest = _brought(theirs, key, settings, model_uri, processes, scratch)
            yield Checkpoints(scratch, None, newest, interval, processes, wanted=theirs.kept)
            return
        shelf = stack.enter_context(_checkpoint_store(key, settings, model_uri, processes))
        newest = shelf.newest() if shelf else None
        if shelf and newest and processes.nodes > 1:
            shelf.share(newest)
        processes.broadcast(_Told(shelf is not None, newest))
        if shelf is None:
            yield Checkpoints(scratch, None, None, interval, processes, wanted=False)
            return
        try:
            yield Checkpoints(shelf.folder / "writing", shelf, newest, interval, processes, wanted=True)
        except TrainingError:
            shelf.clear()
            raise
        except BaseException as error:
            if (last := shelf.last_good) not in str(error):
                logger.info(last)
            raise
        if not shelf.holds_finished:
            shelf.clear()


@dataclass(frozen=True)
class _Told:
    """What the first process tells the others of the checkpoints."""

    kept: bool
    newest: Path | None
    """The folder, on the first one's node."""


def _brought(
    told: _Told, key: str, settings: TrainingSettings, model_uri: str, processes: Processes, scratch: Path
) -> Path | None:
    """The checkpoint that the first process goes on from, where this one can read it."""
    if told.newest is None or processes.node == 0:
        return told.newest
    mirror = _mirror(key, settings.checkpoints, model_uri)
    assert mirror is not None  # The first would keep no checkpoints.
    folder = scratch / told.newest.name
    mirror.bring(told.newest.name, folder)
    return folder


class Checkpoints:
    """Trains a trainer from the newest checkpoint on, if there is one, and takes new ones."""

    def __init__(
        self,
        folder: Path,
        shelf: CheckpointStore | None,
        newest: Path | None,
        interval: float,
        processes: Processes,
        *,
        wanted: bool,
    ) -> None:
        self.folder = folder
        """Where the trainer writes: its `output_dir`."""
        self._checkpoint_store, self._newest, self._interval = shelf, newest, interval
        self._processes, self._wanted = processes, wanted

    @property
    def newest(self) -> Path | None:
        """The folder of the checkpoint that a training will go on from."""
        return self._newest

    @property
    def in_bf16(self) -> bool | None:
        """Whether what there is was computed in bf16; None where there is nothing."""
        return _about(self._newest)["bf16"] if self._newest else None

    def train(self, trainer: Trainer, *parts: Resumable) -> None:
        """Trains to the end; `parts` are what a checkpoint holds besides what transformers writes.

        Raises:
            StoppedError: SIGTERM came. What had been learnt is in a checkpoint.
            StorageError: there is no room for a checkpoint; the message names the last good one.
        """
        if not self._wanted:
            trainer.train()
            return
        saving = _Saving(self._checkpoint_store, self._newest, parts, self._interval, self._processes)
        trainer.add_callback(saving)
        if self._newest:
            logger.info(
                f"continuing from step {_step(self._newest):,} of {trainer.args.max_steps:,} "
                f"(checkpoint of {_about(self._newest)['taken']})"
            )
        with on_sigterm(saving.stop), saving.full_disk_explained():
            trainer.train(resume_from_checkpoint=str(self._newest) if self._newest else None)

    def finished(self, identity: str) -> Path | None:
        """The folder of the model that this very training has made already; None where there is none.

        Args:
            identity: A digest of all that the model is to tell of how it came about: of two trainings that come to
                the same weights, one may have read them from elsewhere.
        """
        found = self._checkpoint_store.finished() if self._checkpoint_store else None
        return found if found and (found / IDENTITY_NAME).read_text(encoding="utf-8") == identity else None

    def finish(self, model_dir: Path, identity: str) -> None:
        """Keeps the finished model in the checkpoints' place: should what comes after the training fail, the next try
        need not train. Where it cannot be kept, that is told, and does no harm."""
        if self._checkpoint_store:
            self._checkpoint_store.finish(model_dir, identity)

    def discard(self) -> None:
        """Forgets what there is, as it leads nowhere."""
        self._newest = None
        if self._checkpoint_store:
            self._checkpoint_store.clear()


class CheckpointStore:
    """The checkpoints of one training: sealed folders step-1, step-2, …, in a folder and perhaps in a store too."""

    def __init__(self, folder: Path, mirror: Mirror | None) -> None:
        self.folder, self._mirror = folder, mirror
        self._mirrored = ""
        """The name of the last one that the store has."""
        self.holds_finished = False
        """Whether the training's model is kept here, which is to stay."""

    @property
    def last_good(self) -> str:
        """Which checkpoint a training would go on from, as a sentence."""
        if not (there := self._there()):
            return "there is no checkpoint yet; run again with the same arguments to begin anew."
        stored = ""
        if self._mirror:
            stored = f" (in {self._mirror}: {self._mirrored or 'none'})"
        return f"the last good checkpoint is {there[0]}{stored}; run again with the same arguments to go on from it."

    def newest(self) -> Path | None:
        """The newest one that is as it was written, brought from the store if this machine has none so new."""
        self._fetch()
        for folder in self._there():
            if not (fault := find_damage(folder)):
                return folder
            logger.info(f"the checkpoint {folder} is damaged ({fault}): taking the one before it")
            shutil.rmtree(folder)
        return None

    def add(self, written: Path, step: int) -> None:
        """Seals what was written, and takes it in as the newest one."""
        folder = self.folder / f"step-{step}"
        write_checksums(written)
        shutil.rmtree(folder, ignore_errors=True)
        written.rename(folder)
        for older in self._there()[KEPT:]:
            shutil.rmtree(older)
        if self._mirror:
            try:
                self._mirror.send(folder)
                self._mirrored = folder.name
                self._mirror.keep([kept.name for kept in self._there()])
            except StoreError as error:
                # The store may be back for the next one; the work of hours is not thrown away for it.
                logger.info(f"the checkpoint of step {step:,} is on this machine only: {error}")

    def share(self, folder: Path) -> None:
        """Has the store hold this one, for other nodes to go on from.

        Raises:
            StoreError: the store does not do its part.
        """
        if self._mirror and folder.name not in self._mirror.names():
            self._mirror.send(folder)

    def finished(self) -> Path | None:
        """The finished model that is as it was written, brought from the store if this machine has none."""
        folder = self.folder / FINISHED
        try:
            if not folder.exists() and self._mirror and FINISHED in self._mirror.names():
                self._mirror.bring(FINISHED, folder)
        except (StoreError, StorageError) as error:
            logger.info(f"the finished model of this training did not come from the store: {error}")
        if not folder.exists():
            return None
        if fault := find_damage(folder):
            logger.info(f"the finished model {folder} is damaged ({fault}): it is not taken")
            shutil.rmtree(folder)
            return None
        self.holds_finished = True
        return folder

    def finish(self, model_dir: Path, identity: str) -> None:
        """Takes a copy of the finished model in, and sends it to the store, in place of the checkpoints."""
        folder, writing = self.folder / FINISHED, self.folder / "writing"
        try:
            shutil.rmtree(writing, ignore_errors=True)
            shutil.copytree(model_dir, writing, copy_function=_linked)
            (writing / IDENTITY_NAME).write_text(identity, encoding="utf-8")
            write_checksums(writing)
            shutil.rmtree(folder, ignore_errors=True)
            writing.rename(folder)
        except OSError as error:
            logger.info(f"the finished model is not kept for another try: {_first(error)}")
            return
        self.holds_finished = True
        for checkpoint in self._there():
            shutil.rmtree(checkpoint)
        where = f"{folder}" if not self._mirror else f"{folder} and {self._mirror}"
        size = _bytes_in(folder)
        logger.info(f"keeping the finished model ({size / 1e6:,.0f} MB) for another try: {where}")
        if self._mirror:
            try:
                self._mirror.send(folder, SECONDS_TO_SEND)
                self._mirror.keep([FINISHED])
            except StoreError as error:
                logger.info(f"the finished model is kept on this machine only: {error}")

    def clear(self) -> None:
        for folder in self.folder.iterdir():
            shutil.rmtree(folder)
        if self._mirror:
            try:
                self._mirror.keep([])
            except StoreError as error:
                logger.info(f"the checkpoints stay in the store, where nobody needs them any more: {error}")

    def _there(self) -> list[Path]:
        """The newest first."""
        found = [path for path in self.folder.iterdir() if _STEP.fullmatch(path.name)]
        return sorted(found, key=_step, reverse=True)

    def _fetch(self) -> None:
        if not self._mirror:
            return
        here = max((_step(folder) for folder in self._there()), default=0)
        names = (name for name in self._mirror.names() if _STEP.fullmatch(name))
        for name in sorted(names, key=lambda name: _step(Path(name)), reverse=True):
            folder = self.folder / name
            self._mirrored = self._mirrored or name
            if _step(folder) <= here:
                return
            try:
                self._mirror.bring(name, folder)
            except StoreError as error:
                logger.info(f"the checkpoint {name} did not come from the store: {error}")
            else:
                return


def _first(error: OSError) -> str:
    """Of the errors that copying a folder ends with, one a file, the first."""
    return str(error.args[0][0][-1]) if isinstance(error, shutil.Error) else str(error)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _linked(source: str, copy: str) -> None:
    """Another name for the same bytes, where both are on one disk, and else a copy."""
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _about(folder: Path) -> dict[str, Any]:
    """What can be told of a checkpoint without loading it: when it was taken, and in which precision."""
    about: dict[str, Any] = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))
    return about


# What a process may ask of all after a step; the larger one counts.
_SAVE, _STOP = 1, 2


class _Saving(TrainerCallback):
    """Takes a checkpoint when its time has come, and a last one on SIGTERM.

    Of several processes each has one of these. They save after the same step, for the Trainer has them talk to each
    other when it saves; what the first has written stays.
    """

    def __init__(
        self,
        shelf: CheckpointStore | None,
        newest: Path | None,
        parts: Sequence[Resumable],
        interval: float,
        processes: Processes,
    ) -> None:
        self._checkpoint_store, self._newest, self._parts, self._interval = shelf, newest, parts, interval
        self._processes = processes
        self._asked_to_stop = self._stop = self._under_way = False
        self._due = self._began = time.monotonic() + interval

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._newest:
            for part in self._parts:
                part.restore(self._newest)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # At its end a training needs none, and would not know how to go on from it.
        if control.should_training_stop:
            return
        due = self._processes.first and time.monotonic() >= self._due
        asked = self._processes.all_reduce_max(_STOP if self._asked_to_stop else _SAVE if due else 0)
        if asked:
            self._stop = asked == _STOP
            control.should_save = self._under_way = True
            self._began = time.monotonic()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if control.should_training_stop:
            control.should_save = self._under_way = False
        self._began = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        assert args.output_dir
        written = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        for part in self._parts:
            part.save(written)
        # Of the Trainer's files, each process has written the state of its own random numbers.
        own = {path.name: path.read_bytes() for path in written.glob("rng_state*")}
        everybodys = self._processes.all_gather(own)
        if self._checkpoint_store:
            for files in everybodys:
                for name, content in files.items():
                    (written / name).write_bytes(content)
            about = {"taken": datetime.now().isoformat(sep=" ", timespec="seconds"), "bf16": args.bf16}
            (written / ABOUT_NAME).write_text(json.dumps(about), encoding="utf-8")
            self._checkpoint_store.add(written, state.global_step)
        else:
            shutil.rmtree(written)
        self._under_way = False
        now = time.monotonic()
        # An interval of 0 asks for every step, whatever that costs.
        self._due = now + max(self._interval, (now - self._began) / SHARE if self._interval else 0)
        if self._stop:
            last_good = self._processes.broadcast(
                self._checkpoint_store.last_good if self._checkpoint_store else None
            )
            raise StoppedError(
                f"stopped by SIGTERM after step {state.global_step:,} of {state.max_steps:,}: {last_good}"
            )

    def stop(self) -> None:
        """Asks for a checkpoint after the step, which then ends the training."""
        self._asked_to_stop = True

    @contextmanager
    def full_disk_explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if (
                not self._checkpoint_store
                or not self._under_way
                or not is_full(self._checkpoint_store.folder, error)
            ):
                raise
            raise StorageError(
                f"the disk of {self._checkpoint_store.folder} is full, and a checkpoint could not be written: "
                f"{self._checkpoint_store.last_good} Free some space before, or set checkpoints to another folder, "
                f"or to {NO_CHECKPOINTS!r}."
            ) from error


@contextmanager
def _checkpoint_store(
    key: str, settings: TrainingSettings, model_uri: str, processes: Processes
) -> Iterator[CheckpointStore | None]:
    """None where no checkpoints are kept, and a word on it where they are wanted."""
    where = settings.checkpoints
    if where == NO_CHECKPOINTS:
        yield None
        return
    own = where and not is_in_store(where)
    root = Path(where).expanduser().absolute() if own else user_cache() / "checkpoints"
    folder = root / key
    with ExitStack() as stack:
        with disk_errors_explained(folder):
            _sweep(root, key, only_finished=bool(own))
            try:
                stack.enter_context(held(folder, PATIENCE))
            except TimeoutError:
                logger.info(
                    f"another process is at this very training and has its checkpoints in {folder}: this one keeps none"
                )
                yield None
                return
            writing = folder / "writing"
            shutil.rmtree(writing, ignore_errors=True)  # Whoever wrote it was killed.
        mirror = None if own else _mirror(key, where, model_uri)
        if processes.nodes > 1 and not mirror:
            logger.info(
                "no checkpoints are kept: the nodes share no disk, and no store is known (set checkpoints to s3://...)"
            )
            yield None
            return
        try:
            yield CheckpointStore(folder, mirror)
        finally:
            shutil.rmtree(writing, ignore_errors=True)


def _mirror(key: str, where: str, model_uri: str) -> Mirror | None:
    """Where the store keeps them: at the address `where`, or else beside the model, if it can be reached there."""
    try:
        if not (address := where or beside(model_uri)):
            return None
        from miniml.store.mirror import Mirror, sweep  # Only here: a local training needs no S3 client.

        root = s3_address("checkpoints", address)
        mirror = Mirror("checkpoints", S3Address(root.bucket, f"{root.path.strip('/')}/{key}".lstrip("/")))
        mirror.names()  # Where nobody has asked for the store, what it refuses is no error.
        sweep(root, spared=key, seconds=FORGOTTEN)
    except StoreError as error:
        if where:
            raise
        logger.info(f"checkpoints are kept on this machine only, where no other finds them: {error}")
        return None
    return mirror


def _sweep(root: Path, own: str, *, only_finished: bool) -> None:
    """Removes what nobody has come back for, and of finished models the oldest, where they take too much room.

    With `only_finished` it leaves checkpoints alone: whoever named the folder may come back for them. What cannot be
    removed is left to the next training, as where another process is at it.
    """
    left = FINISHED_BYTES
    with suppress(OSError):
        others = [
            (folder.stat().st_mtime, folder)
            for folder in root.glob("*/")
            if _KEY.fullmatch(folder.name) and folder.name != own
        ]
        for modified, folder in sorted(others, reverse=True):
            finished = (folder / FINISHED).exists()
            if only_finished and not finished:
                continue
            left -= _bytes_in(folder / FINISHED)
            old = time.time() - modified > FORGOTTEN
            if old or (left < 0 and finished):
                why = (
                    f"has lain for {FORGOTTEN / 86400:.0f} days"
                    if old
                    else "leaves too little room for newer ones"
                )
                with suppress(OSError), held(folder, patience=0):
                    logger.info(f"removing what an earlier training has left, as it {why}: {folder}")
                    shutil.rmtree(folder)
