"""Puts the settings of a build into compiled YAML: the images' registry and tag, and how many trials train at once.

The YAML in the package is compiled with the defaults. Environment variables change these settings without the
pipeline's Python: the text is the same as if the pipeline had been compiled with them.
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
"""The class that reads YAML safely: the one in C, which is ten times as fast, or else the one in Python."""
_REGISTRY = r"[a-zA-Z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*"
"""A host, optionally with a port, and path components (https://distribution.github.io/distribution/spec/api/)."""
TRIALS_AT_ONCE = "MINIML_TRIALS_AT_ONCE"
"""The environment variable with the number of trials of a search that train at the same time."""


def trials_at_once() -> int:
    """Returns the number of trials that train at the same time, from the environment.

    The default is one: on a single machine they would slow each other down.

    Raises:
        InputError: The variable is not a whole number of 1 or more.
    """
    value = os.environ.get(TRIALS_AT_ONCE, "1")
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"{TRIALS_AT_ONCE} is {quoted(value)}; it is a number of trials, of 1 or more.")
    return int(value)


@dataclass(frozen=True)
class BuildSettings:
    """The registry and tag of a compiled pipeline's images, and how many of its trials train at once.

    Raises:
        InputError: The registry or the tag cannot be part of an image's name.
    """

    registry: str
    """The prefix of each image's name: registry.example.com/ml."""
    tag: str
    """The tag of all images."""
    trials_at_once: int = 1
    """The number of trials of a search that train at the same time."""

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
        """Reads the settings from MINIML_REGISTRY, MINIML_IMAGE_TAG and MINIML_TRIALS_AT_ONCE.

        Raises:
            InputError: One of the variables has an invalid value.
        """
        return cls(registry(), tag(), trials_at_once())


def with_build_settings(compiled: str, build: BuildSettings | None = None) -> str:
    """Replaces the default build settings in a compiled pipeline or component.

    Args:
        compiled: The YAML, as kfp writes it.
        build: The settings; by default those of the environment.

    Returns:
        The YAML, byte for byte as kfp would compile it with these settings.

    Raises:
        InputError: The environment has an invalid value.
    """
    build = build or BuildSettings.of_environment()
    documents = list(yaml.load_all(compiled, Loader=LOADER))
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
        # Deploy names the runtime by this tag.
        environment.append({"name": TAG, "value": build.tag})
    if environment:
        container["env"] = environment


def _set_trials_at_once(task: dict[str, Any], number: int) -> None:
    if "parameterIterator" in task:
        task["iteratorPolicy"]["parallelismLimit"] = number
    given = task.get("inputs", {}).get("parameters", {}).get("trials_at_once", {})
    if "runtimeValue" in given:
        given["runtimeValue"]["constant"] = float(number)  # kfp writes all numbers as floats.


def _tasks(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in (spec["root"], *spec["components"].values()):
        yield from part.get("dag", {}).get("tasks", {}).values()
