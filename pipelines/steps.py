"""Makes the steps of a pipeline: each is a stage with the arguments that it takes, and with its pod."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from miniml.settings.arguments import OPTIONS
from pipelines.pods import PODS, PodSettings, configure


class PipelineRun:
    """Makes a pipeline's steps, in the order in which the pipeline calls them."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Starts without any steps.

        Args:
            arguments: The pipeline's arguments, for all steps.
        """
        self._arguments = arguments

    def begin(self, preflight: BaseComponent, **inputs: Any) -> dsl.PipelineTask:
        """Makes the first step, which takes all arguments of the run, and whose outputs the other steps take.

        Args:
            preflight: The stage.
            inputs: Other inputs.
        """
        self._found = self._task(preflight, self._arguments | inputs, {})
        return self._found

    def step(self, stage: BaseComponent, **inputs: Any) -> dsl.PipelineTask:
        """Makes a step with the arguments of the run that its stage takes.

        Its options are only those of its stage, and its sources are pinned as preflight found them. So all stages read
        the same sources, and the cache misses if a source, the code, a library or an option of the stage has changed.

        Args:
            stage: The stage.
            inputs: Other inputs, such as outputs of other steps.
        """
        takes, found, given = stage.component_spec.inputs, self._found.outputs, dict(self._arguments)
        if OPTIONS in takes:
            given[OPTIONS] = found[f"{stage.name.replace('-', '_')}_options"]
        if "pins" in takes:
            given["pins"] = found["pins"]
        return self._task(stage, given | inputs, found)

    def _task(
        self, stage: BaseComponent, given: dict[str, Any], found: Mapping[str, Any]
    ) -> dsl.PipelineTask:
        task = stage(**{name: value for name, value in given.items() if name in stage.component_spec.inputs})
        configure(task, PODS.get(stage.name, PodSettings()), self._arguments, found)
        return task


def approved(verdict: dsl.PipelineTask) -> dsl.If:
    """Returns the condition that runs the steps within it only after the gate has approved the model."""
    # A bool, never a string: kfp.local inserts strings, unescaped, into the expression that it evaluates.
    return dsl.If(verdict.outputs["Output"] == True, name="approved")  # noqa: E712


def narrowed(stage: BaseComponent, inputs: Collection[str]) -> BaseComponent:
    """Returns the stage with these inputs alone; the others have the defaults in its source.

    In a loop, the workflow holds all inputs of a task eight times for each turn.
    """
    narrow = copy.deepcopy(stage)
    for name in narrow.component_spec.inputs.keys() - set(inputs):
        del narrow.component_spec.inputs[name]
    return narrow
