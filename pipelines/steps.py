"""Makes the steps of a run: each is a stage with those of the run's arguments that it takes, and with its pod."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from miniml.settings.arguments import OPTIONS
from pipelines.pods import PODS, PodSettings, give


class Run:
    """Makes a pipeline's steps, in the order in which the pipeline calls them."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Takes the pipeline's arguments, which hold for all steps."""
        self._arguments = arguments

    def begin(self, preflight: BaseComponent, **inputs: Any) -> dsl.PipelineTask:
        """Makes the first step, which is given all of the run's arguments, and tells the others what it finds.

        Args:
            preflight: The stage.
            inputs: What it is given beside the arguments.
        """
        self._found = self._task(preflight, self._arguments | inputs)
        return self._found

    def step(self, stage: BaseComponent, **inputs: Any) -> dsl.PipelineTask:
        """Makes a step, which is given those of the run's arguments that it takes.

        Of the options it has its own, and the sources as preflight found them: so all stages read the same, and a cache
        has no answer where a source, the code, a library or an option of this very stage is another one.

        Args:
            stage: A component.
            inputs: What it is given beside the arguments: what other steps have made.
        """
        takes, found, given = stage.component_spec.inputs, self._found.outputs, dict(self._arguments)
        if OPTIONS in takes:
            given[OPTIONS] = found[f"{stage.name.replace('-', '_')}_options"]
        if "pins" in takes:
            given["pins"] = found["pins"]
        return self._task(stage, given | inputs)

    def _task(self, stage: BaseComponent, given: dict[str, Any]) -> dsl.PipelineTask:
        task = stage(**{name: value for name, value in given.items() if name in stage.component_spec.inputs})
        give(task, PODS.get(stage.name, PodSettings()), self._arguments)
        return task


def approved(verdict: dsl.PipelineTask) -> dsl.If:
    """Returns the condition that runs the steps within it only after the gate has approved the model."""
    # A bool, never a string: kfp.local splices strings into the expression that it evaluates.
    return dsl.If(verdict.outputs["Output"] == True, name="approved")  # noqa: E712


def narrowed(stage: BaseComponent, inputs: Collection[str]) -> BaseComponent:
    """Returns the stage with these inputs alone; the others have the defaults in its source.

    In a loop, the workflow holds all inputs of a task eight times for each turn.
    """
    narrow = copy.deepcopy(stage)
    for name in narrow.component_spec.inputs.keys() - set(inputs):
        del narrow.component_spec.inputs[name]
    return narrow
