"""Makes smaller models of a fine-tuned one as a program, which the compress stage can start again.

python -m miniml.compression DATASET MODEL SMALLER --compression=auto --max-loss=0.01
"""

from __future__ import annotations

import argparse
from pathlib import Path

from miniml.command_line import CommandParser
from miniml.compression.compress import compress
from miniml.files.folders import require_writable_file
from miniml.settings.command_line import add_options, settings_of
from miniml.settings.compression import CompressionSettings
from miniml.supervision.child import add_supervised_options, supervised
from miniml.training.processes import Processes


def main(words: list[str] | None = None) -> None:
    """Compresses as the command line says.

    Raises:
        SystemExit: the compression failed; the code is an `ExitStatus`.
    """
    options = command_line().parse_args(words)
    with supervised(options, Processes()):
        if options.metrics:
            require_writable_file("--metrics", options.metrics, (options.model, options.smaller))
        selection = compress(
            options.dataset,
            options.model,
            options.smaller,
            settings_of(CompressionSettings, options),
            options.report,
            options.model_uri,
            options.split,
        )
        if options.metrics:
            selection.save(options.metrics)


def command_line() -> argparse.ArgumentParser:
    """Returns the parser of the command line, with an option for each setting of the compression."""
    parser = CommandParser(
        prog="python -m miniml.compression",
        description="Makes smaller models of a fine-tuned one, and writes the fastest that is not inferior on the "
        "validation rows.",
    )
    parser.add_argument(
        "dataset", type=Path, metavar="DATASET", help="the folder that the model was trained on"
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="the full model's folder")
    parser.add_argument("smaller", type=Path, metavar="SMALLER", help="the folder to write")
    asked = parser.add_argument_group("what the compress step asks of it")
    asked.add_argument("--model-uri", default="", help="where the full model is kept, if not in MODEL")
    asked.add_argument("--report", type=Path, help="a page on all candidates to write")
    asked.add_argument(
        "--metrics", type=Path, help="write the figures of all candidates to this file, as JSON"
    )
    add_supervised_options(parser)
    add_options(parser, CompressionSettings)
    return parser


if __name__ == "__main__":
    main()
