"""Runs a training as a program, which torchrun can start in several processes on several nodes.

python -m miniml.train_step DATASET MODEL --model-id=... --batch-size=16
torchrun --nproc-per-node 2 -m miniml.train_step DATASET MODEL --batch-size=16
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from miniml.command_line import CommandParser
from miniml.files.folders import require_writable_file
from miniml.search.trial import fine_tune_trial
from miniml.settings.command_line import add_options, settings_of
from miniml.settings.training import TrainingSettings
from miniml.sources.pins import Pins
from miniml.store.address import is_in_store, s3_address
from miniml.supervision.child import add_supervised_options, supervised
from miniml.train_step.report import write_trial_report
from miniml.training.fine_tune import fine_tune
from miniml.training.processes import Processes


def main(words: list[str] | None = None) -> None:
    """Trains as the command line says.

    Raises:
        SystemExit: the training failed; the code is an `ExitStatus`. One process of each node prints the error.
    """
    options = command_line().parse_args(words)
    processes = Processes.started()
    with supervised(options, processes):
        settings, pins = settings_of(TrainingSettings, options), Pins.read(options.pins)
        dataset, split = _dataset(options.dataset), options.split
        if not is_in_store(options.model):
            model = Path(options.model)
            if options.report:
                require_writable_file("--report", options.report, (model,))
            fine_tune_trial(dataset, model, settings, options.trial, options.model_uri, pins, split)
            if options.report:
                write_trial_report(model, options.report)
            return
        from miniml.store import repository  # Only here: a model on this disk needs no S3 client.

        address = s3_address("MODEL", options.model)
        with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
            folder = Path(scratch) / "model"
            fine_tune(dataset, folder, settings, model_uri=options.model, pins=pins, split=split)
            if processes.first:
                repository.put(folder, address)


def command_line() -> argparse.ArgumentParser:
    """Returns the parser of the command line, with an option for each training setting."""
    parser = CommandParser(
        prog="python -m miniml.train_step",
        description="Fine-tunes a pretrained encoder on a dataset that the transform stage wrote. torchrun starts it "
        "in several processes, which share each batch.",
    )
    parser.add_argument("dataset", metavar="DATASET", help="a folder, or its s3:// address")
    parser.add_argument("model", metavar="MODEL", help="the folder to write, or its s3:// address")
    parser.add_argument("--pins", default="", help="what preflight found the model to be, as JSON")
    asked = parser.add_argument_group("what the train step asks of it")
    asked.add_argument("--trial", default="", help="in a search, what to try and what to know of it, as JSON")
    asked.add_argument("--model-uri", default="", help="where the model will be kept, if not in MODEL")
    asked.add_argument("--report", type=Path, help="a page on the training to write")
    add_supervised_options(parser)
    add_options(parser, TrainingSettings)
    return parser


def _dataset(source: str) -> Path:
    if not is_in_store(source):
        return Path(source)
    from miniml.store import repository  # Only here: a dataset on this disk needs no S3 client.

    # One process of a node downloads it, while the others wait.
    return repository.cached("DATASET", s3_address("DATASET", source)).path


if __name__ == "__main__":
    main()
