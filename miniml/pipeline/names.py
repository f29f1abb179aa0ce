"""The command line that a pipeline is run by."""

from __future__ import annotations

from miniml.pipeline.compiled import TEXT_CLASSIFICATION, CompiledPipeline

PROGRAM = "miniml"


def program_of(pipeline: CompiledPipeline) -> str:
    """The command whose commands are run, submit and so on: of the search, all of them are below `search`."""
    return PROGRAM if pipeline.name == TEXT_CLASSIFICATION else f"{PROGRAM} search"
