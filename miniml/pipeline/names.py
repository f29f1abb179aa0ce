"""Names the command line of a pipeline."""

from __future__ import annotations

from miniml.pipeline.compiled import TEXT_CLASSIFICATION, CompiledPipeline

PROGRAM = "miniml"


def program_of(pipeline: CompiledPipeline) -> str:
    """Returns the command with the subcommands run, submit and so on for a pipeline: miniml, or miniml search."""
    return PROGRAM if pipeline.name == TEXT_CLASSIFICATION else f"{PROGRAM} search"
