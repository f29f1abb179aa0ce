"""What a pipeline is called by: its file, and the command that runs it."""

from __future__ import annotations

from kfp.dsl.graph_component import GraphComponent


def module_of(pipeline: GraphComponent) -> str:
    """The name of its module in this folder, and of its compiled file: text_classification."""
    return str(pipeline.name).replace("-", "_")


def program_of(pipeline: GraphComponent) -> str:
    """The command whose commands are compile, run, submit and so on."""
    return f"python -m pipelines.{module_of(pipeline)}"
