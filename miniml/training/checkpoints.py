"""Keeps checkpoints, from which a training that was killed continues when it is run again with the same arguments."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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
from miniml.files.folders import disk_errors_explained, is_full, locked, user_cache
from miniml.model.manifest import SETTINGS_OF_A_RUN
from miniml.progress import logger
from miniml.settings.training import NO_CHECKPOINTS, TrainingSettings
from miniml.signals import on_sigterm
from miniml.store.address import S3_SCHEME, S3Address, is_in_store, s3_address
from miniml.training.processes import ALONE, Processes

if TYPE_CHECKING:
    from miniml.store.mirror import Mirror

KEPT = 2
"""The number of checkpoints of a training that are kept: the second one is used if the newest is damaged."""
SAVING_FRACTION = 0.05
"""The largest fraction of the time that saving may take; where it takes longer, checkpoints become less frequent."""
MAX_AGE = 30 * 24 * 3600
"""Seconds after which what a training has left in the cache is removed."""
LOCK_TIMEOUT = 10.0
"""Seconds to wait for another process to release the checkpoints; one that lost its terminal may still be ending."""

FINISHED = "finished"
"""The name of the folder, beside a training's checkpoints, that holds its finished model."""
FINISHED_BYTES = 4 * 2**30
"""The most bytes that all finished models may take in this machine's cache; beyond it the oldest are removed."""
SECONDS_TO_SEND = 300.0
"""The most seconds that sending a finished model to the store may take: it is a precaution, and later steps wait."""

ABOUT_NAME = "checkpoint.json"
IDENTITY_NAME = "identity.txt"
"""The file beside a finished model that identifies its training (see `Checkpoints.finished`)."""
_STEP = re.compile(r"step-[0-9]{1,18}")
"""Matches the name of a checkpoint's folder."""
_KEY = re.compile(r"[0-9a-f]{64}")
"""Matches the name of a training's folder. Nothing else is removed from a folder that the user has named."""

# The settings that do not change what is learnt.
IRRELEVANT = ("model_id", *SETTINGS_OF_A_RUN)


class Resumable(Protocol):
    """A part of a training whose state belongs in a checkpoint, besides the model and the state of transformers."""

    def save(self, folder: Path) -> None:
        """Writes its state to files in `folder`."""

    def restore(self, folder: Path) -> None:
        """Reads its state from `folder`. Called when the training begins, after everything else is initialized."""


def key_of(
    pretrained: Path,
    summary: DatasetSummary,
    settings: TrainingSettings,
    processes: Processes = ALONE,
    teacher: Mapping[str, Any] | None = None,
) -> str:
    """Returns a digest that is the same for trainings that end in the same model, so that one may continue another.

    Args:
        pretrained: The folder of the pretrained model, whose files are hashed.
        summary: The dataset.
        settings: Those that do not change what is learnt are left out.
        processes: Their number counts, since it changes the order of sums.
        teacher: What identifies the model whose answers are learnt, if there is one.
    """
    files = sorted(path for path in pretrained.iterdir() if path.is_file())
    return digest_of(
        {
            "settings": {name: value for name, value in asdict(settings).items() if name not in IRRELEVANT},
            "pretrained": {path.name: sha256(path) for path in files},
            "data": {"fingerprint": summary.fingerprint, "labels": summary.labels},
            "processes": processes.count,
            "environment": environment.fingerprint(),
            **({"teacher": teacher} if teacher else {}),
        }
    )


def beside(model_uri: str) -> str:
    """Returns the address of the checkpoints in the bucket of a model; "" where the model is not in a known store."""
    scheme, _, rest = model_uri.partition("://")
    bucket = rest.partition("/")[0]
    if scheme not in ("s3", "minio") or not bucket:
        return ""
    from miniml.store.connection import AWS, Endpoint  # Only here: a local training needs no S3 client.

    # KFP calls its own store minio://. Unless the environment says where that is, it is unknown: it is not Amazon S3.
    if scheme == "minio" and Endpoint.from_environment().url == AWS:
        return ""
    return f"{S3_SCHEME}{bucket}/miniml/checkpoints"


@contextmanager
def checkpointing(
    key: str, settings: TrainingSettings, model_uri: str = "", processes: Processes = ALONE
) -> Iterator[Checkpoints]:
    """Provides the checkpoints of a training, and removes them once the block has ended without an error.

    The finished model may stay in their place (`Checkpoints.finish`). On an error they stay, and their folder is
    logged; but a `TrainingError` removes them too, because the training would fail again from any of them. Of
    several processes, the first keeps them for all.

    Args:
        key: Identifies the training (`key_of`).
        settings: They say where checkpoints are kept, and how often one is written.
        model_uri: The address that the model will have, if it is known; in an S3 store checkpoints go beside it.
        processes: The processes that train together.

    Raises:
        StoreError: the store that `settings` name does not answer, or refuses.
        StorageError: the folder of the checkpoints cannot be written to.
    """
    interval = settings.checkpoint_interval
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="miniml-")))
        if not processes.first:
            shared: _SharedState = processes.broadcast(None)
            newest = _shared_newest(shared, key, settings, model_uri, processes, scratch)
            yield Checkpoints(scratch, None, newest, interval, processes, wanted=shared.kept)
            return
        store = stack.enter_context(_checkpoint_store(key, settings, model_uri, processes))
        newest = store.newest() if store else None
        if store and newest and processes.nodes > 1:
            store.share(newest)
        processes.broadcast(_SharedState(store is not None, newest))
        if store is None:
            yield Checkpoints(scratch, None, None, interval, processes, wanted=False)
            return
        try:
            yield Checkpoints(store.folder / "writing", store, newest, interval, processes, wanted=True)
        except TrainingError:
            store.clear()
            raise
        except BaseException as error:
            if (last := store.last_good) not in str(error):
                logger.info(last)
            raise
        if not store.holds_finished:
            store.clear()


@dataclass(frozen=True)
class _SharedState:
    """The state of the checkpoints, which the first process broadcasts."""

    kept: bool
    newest: Path | None
    """The newest checkpoint's folder, on the node of the first process."""


def _shared_newest(
    shared: _SharedState,
    key: str,
    settings: TrainingSettings,
    model_uri: str,
    processes: Processes,
    scratch: Path,
) -> Path | None:
    """Returns the checkpoint that the first process continues from, in a folder that this process can read."""
    if shared.newest is None or processes.node == 0:
        return shared.newest
    mirror = _mirror(key, settings.checkpoints, model_uri)
    assert mirror is not None  # Without it, the first process would keep no checkpoints.
    folder = scratch / shared.newest.name
    mirror.download(shared.newest.name, folder)
    return folder


class Checkpoints:
    """Runs a trainer from the newest checkpoint on, if there is one, and writes new checkpoints."""

    def __init__(
        self,
        folder: Path,
        store: CheckpointStore | None,
        newest: Path | None,
        interval: float,
        processes: Processes,
        *,
        wanted: bool,
    ) -> None:
        self.folder = folder
        """The folder that the trainer writes to: its `output_dir`."""
        self._checkpoint_store, self._newest, self._interval = store, newest, interval
        self._processes, self._wanted = processes, wanted

    @property
    def newest(self) -> Path | None:
        """The folder of the checkpoint that a training will continue from; None where it starts anew."""
        return self._newest

    @property
    def in_bf16(self) -> bool | None:
        """Whether the newest checkpoint was computed in bf16; None where there is none."""
        return _read_about(self._newest)["bf16"] if self._newest else None

    def train(self, trainer: Trainer, *parts: Resumable) -> None:
        """Trains to the end.

        Args:
            trainer: The trainer to run.
            parts: What a checkpoint holds besides what transformers writes.

        Raises:
            StoppedError: SIGTERM came. The last step is in a checkpoint.
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
                f"(checkpoint of {_read_about(self._newest)['taken']})"
            )
        with on_sigterm(saving.stop), saving.full_disk_explained():
            trainer.train(resume_from_checkpoint=str(self._newest) if self._newest else None)

    def finished(self, identity: str) -> Path | None:
        """Returns the folder of the model that this training has made already; None where there is none.

        Args:
            identity: A digest of everything that the model's manifest says about its training. Two trainings with the
                same weights may differ in it: one may have read the pretrained model from elsewhere.
        """
        found = self._checkpoint_store.finished() if self._checkpoint_store else None
        return found if found and (found / IDENTITY_NAME).read_text(encoding="utf-8") == identity else None

    def finish(self, model_dir: Path, identity: str) -> None:
        """Keeps the finished model in the checkpoints' place, so that a retry of a later step need not train again.

        Where it cannot be kept, that is logged, and no error.
        """
        if self._checkpoint_store:
            self._checkpoint_store.finish(model_dir, identity)

    def discard(self) -> None:
        """Removes all checkpoints, so that the training starts anew."""
        self._newest = None
        if self._checkpoint_store:
            self._checkpoint_store.clear()


class CheckpointStore:
    """The checkpoints of one training: folders step-1, step-2, … with checksums, on disk and perhaps in a store too."""

    def __init__(self, folder: Path, mirror: Mirror | None) -> None:
        self.folder, self._mirror = folder, mirror
        self._mirrored = ""
        """The name of the newest checkpoint that the store has."""
        self.holds_finished = False
        """Whether the finished model is kept here, which must not be removed."""

    @property
    def last_good(self) -> str:
        """A sentence that names the checkpoint that a training would continue from."""
        if not (found := self._checkpoints()):
            return "there is no checkpoint yet; run again with the same arguments to begin anew."
        stored = ""
        if self._mirror:
            stored = f" (in {self._mirror}: {self._mirrored or 'none'})"
        return f"the last good checkpoint is {found[0]}{stored}; run again with the same arguments to go on from it."

    def newest(self) -> Path | None:
        """Returns the newest checkpoint that is undamaged; None where there is none.

        It is fetched from the store if that has a newer one than this machine. Damaged checkpoints are removed.
        """
        self._fetch()
        for folder in self._checkpoints():
            if not (fault := find_damage(folder)):
                return folder
            logger.info(f"the checkpoint {folder} is damaged ({fault}): taking the one before it")
            shutil.rmtree(folder)
        return None

    def add(self, written: Path, step: int) -> None:
        """Adds the folder `written` as the newest checkpoint, with its checksums, and removes all but the newest.

        If the store fails, that is logged, and no error is raised.
        """
        folder = self.folder / f"step-{step}"
        write_checksums(written)
        shutil.rmtree(folder, ignore_errors=True)
        written.rename(folder)
        for older in self._checkpoints()[KEPT:]:
            shutil.rmtree(older)
        if self._mirror:
            try:
                self._mirror.send(folder)
                self._mirrored = folder.name
                self._mirror.keep([kept.name for kept in self._checkpoints()])
            except StoreError as error:
                # The store may work again for the next checkpoint: the training goes on.
                logger.info(f"the checkpoint of step {step:,} is on this machine only: {error}")

    def share(self, folder: Path) -> None:
        """Sends a checkpoint to the store unless it is there, so that other nodes can continue from it.

        Raises:
            StoreError: the store does not answer, or refuses.
        """
        if self._mirror and folder.name not in self._mirror.names():
            self._mirror.send(folder)

    def finished(self) -> Path | None:
        """Returns the folder of the finished model, from the store if this machine has none; None where there is none.

        A damaged one is removed.
        """
        folder = self.folder / FINISHED
        try:
            if not folder.exists() and self._mirror and FINISHED in self._mirror.names():
                self._mirror.download(FINISHED, folder)
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
        """Replaces the checkpoints by a copy of the finished model, here and in the store.

        If the disk or the store fails, that is logged, and no error is raised.
        """
        folder, writing = self.folder / FINISHED, self.folder / "writing"
        try:
            shutil.rmtree(writing, ignore_errors=True)
            shutil.copytree(model_dir, writing, copy_function=_link_or_copy)
            (writing / IDENTITY_NAME).write_text(identity, encoding="utf-8")
            write_checksums(writing)
            shutil.rmtree(folder, ignore_errors=True)
            writing.rename(folder)
        except OSError as error:
            logger.info(f"the finished model is not kept for another try: {_first_reason(error)}")
            return
        self.holds_finished = True
        for checkpoint in self._checkpoints():
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
        """Removes everything, here and in the store. If the store fails, that is logged, and no error is raised."""
        for folder in self.folder.iterdir():
            shutil.rmtree(folder)
        if self._mirror:
            try:
                self._mirror.keep([])
            except StoreError as error:
                logger.info(f"the checkpoints stay in the store, where nobody needs them any more: {error}")

    def _checkpoints(self) -> list[Path]:
        """Returns the folders of the checkpoints, the newest first."""
        found = [path for path in self.folder.iterdir() if _STEP.fullmatch(path.name)]
        return sorted(found, key=_step, reverse=True)

    def _fetch(self) -> None:
        if not self._mirror:
            return
        here = max((_step(folder) for folder in self._checkpoints()), default=0)
        names = (name for name in self._mirror.names() if _STEP.fullmatch(name))
        for name in sorted(names, key=lambda name: _step(Path(name)), reverse=True):
            folder = self.folder / name
            self._mirrored = self._mirrored or name
            if _step(folder) <= here:
                return
            try:
                self._mirror.download(name, folder)
            except StoreError as error:
                logger.info(f"the checkpoint {name} did not come from the store: {error}")
            else:
                return


def _first_reason(error: OSError) -> str:
    """Returns the reason of an error; the first one, where a folder was copied and several files failed."""
    return str(error.args[0][0][-1]) if isinstance(error, shutil.Error) else str(error)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _link_or_copy(source: str, copy: str) -> None:
    """Makes a hard link, or a copy where the two paths are on different disks."""
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _read_about(folder: Path) -> dict[str, Any]:
    """Reads when a checkpoint was written, and in which precision, without loading it."""
    about: dict[str, Any] = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))
    return about


# What a process may request from all after a step; the largest request counts.
_SAVE, _STOP = 1, 2


class _Saving(TrainerCallback):
    """Writes a checkpoint at each interval, and a last one on SIGTERM.

    Every process has one of these. They save after the same step, because the Trainer communicates while it saves;
    only what the first process has written stays.
    """

    def __init__(
        self,
        store: CheckpointStore | None,
        newest: Path | None,
        parts: Sequence[Resumable],
        interval: float,
        processes: Processes,
    ) -> None:
        self._checkpoint_store, self._newest, self._parts, self._interval = store, newest, parts, interval
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
        # A training that ends needs no checkpoint, and could not continue from one.
        if control.should_training_stop:
            return
        due = self._processes.first and time.monotonic() >= self._due
        request = self._processes.all_reduce_max(_STOP if self._asked_to_stop else _SAVE if due else 0)
        if request:
            self._stop = request == _STOP
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
        # Each process has written the state of its own random numbers; the checkpoint needs all of them.
        rng_states = {path.name: path.read_bytes() for path in written.glob("rng_state*")}
        gathered = self._processes.all_gather(rng_states)
        if self._checkpoint_store:
            for files in gathered:
                for name, content in files.items():
                    (written / name).write_bytes(content)
            about = {"taken": datetime.now().isoformat(sep=" ", timespec="seconds"), "bf16": args.bf16}
            (written / ABOUT_NAME).write_text(json.dumps(about), encoding="utf-8")
            self._checkpoint_store.add(written, state.global_step)
        else:
            shutil.rmtree(written)
        self._under_way = False
        now = time.monotonic()
        # An interval of 0 means every step, whatever that costs.
        self._due = now + max(self._interval, (now - self._began) / SAVING_FRACTION if self._interval else 0)
        if self._stop:
            last_good = self._processes.broadcast(
                self._checkpoint_store.last_good if self._checkpoint_store else None
            )
            raise StoppedError(
                f"stopped by SIGTERM after step {state.global_step:,} of {state.max_steps:,}: {last_good}"
            )

    def stop(self) -> None:
        """Requests a checkpoint after the current step, and the end of the training then."""
        self._asked_to_stop = True

    @contextmanager
    def full_disk_explained(self) -> Iterator[None]:
        """Replaces the error of a full disk, while a checkpoint is written, by one that says what to do.

        Raises:
            StorageError: the disk is full.
        """
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
    """Yields the store of a training's checkpoints; None where none are kept, whose reason is logged."""
    where = settings.checkpoints
    if where == NO_CHECKPOINTS:
        yield None
        return
    named = where and not is_in_store(where)
    root = Path(where).expanduser().absolute() if named else user_cache() / "checkpoints"
    folder = root / key
    with ExitStack() as stack:
        with disk_errors_explained(folder):
            _sweep(root, key, only_finished=bool(named))
            try:
                stack.enter_context(locked(folder, LOCK_TIMEOUT))
            except TimeoutError:
                logger.info(
                    f"another process runs this very training and has its checkpoints in {folder}: this one keeps none"
                )
                yield None
                return
            writing = folder / "writing"
            shutil.rmtree(writing, ignore_errors=True)  # Its writer was killed.
        mirror = None if named else _mirror(key, where, model_uri)
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
    """Returns the copy in a store: at the address `where`, or else beside the model, if that store answers."""
    try:
        if not (address := where or beside(model_uri)):
            return None
        from miniml.store.mirror import Mirror, sweep  # Only here: a local training needs no S3 client.

        root = s3_address("checkpoints", address)
        mirror = Mirror("checkpoints", S3Address(root.bucket, f"{root.path.strip('/')}/{key}".lstrip("/")))
        mirror.names()  # Where the user has named no store, its refusal is no error.
        sweep(root, spared=key, seconds=MAX_AGE)
    except StoreError as error:
        if where:
            raise
        logger.info(f"checkpoints are kept on this machine only, where no other finds them: {error}")
        return None
    return mirror


def _sweep(root: Path, own: str, *, only_finished: bool) -> None:
    """Removes what old trainings have left, and the oldest finished models where all take too much room.

    With `only_finished` checkpoints stay: whoever named the folder may still want them. What cannot be removed, or is
    in use by another process, is left for the next training.
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
            old = time.time() - modified > MAX_AGE
            if old or (left < 0 and finished):
                why = (
                    f"has lain for {MAX_AGE / 86400:.0f} days"
                    if old
                    else "leaves too little room for newer ones"
                )
                with suppress(OSError), locked(folder, max_wait=0):
                    logger.info(f"removing what an earlier training has left, as it {why}: {folder}")
                    shutil.rmtree(folder)
