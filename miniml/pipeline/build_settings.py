"""What is settled when a pipeline is compiled: where its images come from, and how many trials train at once.

The YAML that miniml carries is compiled with the defaults. Whoever runs or submits it elsewhere sets the environment,
and gets the very text that compiling the pipeline's Python in that environment gives.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from miniml import __version__
from miniml.errors import InputError
from miniml.escaping import quoted
from miniml.images import TAG, image_name, registry, tag

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads YAML safely; the one in C is ten times as fast."""
_REGISTRY = r"[a-zA-Z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*"
"""A host, perhaps with its port, and folders (https://distribution.github.io/distribution/spec/api/)."""
TRIALS_AT_ONCE = "MINIML_TRIALS_AT_ONCE"
"""The variable that says how many trials of a search train beside each other."""


def trials_at_once() -> int:
    """How many trials train beside each other: what the environment says, or one.

    One by default, for on one machine they would slow each other.

    Raises:
        InputError: the environment says something else than a whole number of 1 or more.
    """
    told = os.environ.get(TRIALS_AT_ONCE, "1")
    if not told.isdecimal() or int(told) < 1:
        raise InputError(f"{TRIALS_AT_ONCE} is {quoted(told)}; it is a number of trials, of 1 or more.")
    return int(told)


@dataclass(frozen=True)
class BuildSettings:
    """Where a compiled pipeline's images come from, and how many of its trials train at once."""

    registry: str
    """Before each image's name: registry.example.com/ml."""
    tag: str
    """Of all images."""
    trials_at_once: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(_REGISTRY, self.registry):
            raise InputError(
                f"registry {quoted(self.registry)} cannot begin an image's name. Write it as "
                f"registry.example.com/ml: no scheme, no blank, no slash at its end."
            )
        if not re.fullmatch(r"\w[\w.-]{0,127}", self.tag, re.ASCII):
            raise InputError(
                f"tag {quoted(self.tag)} cannot be an image's. Use at most 128 letters, digits, '_', '.' and '-'."
            )

    @classmethod
    def of_environment(cls) -> BuildSettings:
        """Reads them from MINIML_REGISTRY, MINIML_IMAGE_TAG and MINIML_TRIALS_AT_ONCE.

        Raises:
            InputError: the environment names no registry, no tag, or no number of trials.
        """
        return cls(registry(), tag(), trials_at_once())


def with_build_settings(compiled: str, build: BuildSettings | None = None) -> str:
    """Puts other build settings into a pipeline or component that was compiled with the defaults.

    Args:
        compiled: YAML as kfp writes it.
        build: By default, what the environment says.

    Returns:
        The text that kfp would have compiled with these settings, to the byte.
    """
    build = build or BuildSettings.of_environment()
    documents = list(yaml.load_all(compiled, Loader=LOADER))  # safe, in C or not
    spec = documents[0]
    before = copy.deepcopy(spec)
    for executor in spec["deploymentSpec"]["executors"].values():
        _set_image(executor["container"], build)
    for task in _tasks(spec):
        _set_trials_at_once(task, build.trials_at_once)
    if spec == before:
        return compiled
    head = "".join(line for line in compiled.splitlines(keepends=True) if line.startswith("#"))
    return head + str(yaml.safe_dump_all(documents, sort_keys=True))


def _set_image(container: dict[str, Any], build: BuildSettings) -> None:
    stage = container["image"].rpartition("/miniml-")[2].partition(":")[0]
    container["image"] = image_name(stage, build.registry, build.tag)
    environment = [each for each in container.pop("env", []) if each["name"] != TAG]
    if build.tag != __version__:
        # What else is of this version has the same tag: deploy names the runtime.
        environment.append({"name": TAG, "value": build.tag})
    if environment:
        container["env"] = environment


def _set_trials_at_once(task: dict[str, Any], number: int) -> None:
    if "parameterIterator" in task:
        task["iteratorPolicy"]["parallelismLimit"] = number
    told = task.get("inputs", {}).get("parameters", {}).get("trials_at_once", {})
    if "runtimeValue" in told:
        told["runtimeValue"]["constant"] = float(number)  # as kfp writes every number


def _tasks(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in (spec["root"], *spec["components"].values()):
        yield from part.get("dag", {}).get("tasks", {}).values()
