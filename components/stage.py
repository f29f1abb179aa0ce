"""Makes a component of a stage's function, as all of ours are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from miniml import __version__
from miniml.arguments import SETTINGS, arguments_of
from miniml.images import TAG, image, tag

_TOLD = (
    "error: this Python has no kfp or no miniml. A stage of miniml installs nothing when it runs: its image has all of "
    "it, and on a machine that has, run it with SubprocessRunner(use_venv=False), or with DockerRunner()."
)
# kfp puts its own interpreter in the place of python3, a new environment's by default.
_LOOK = f"""python3 -c 'from importlib.util import find_spec
if not (find_spec("kfp") and find_spec("miniml")): raise SystemExit("{_TOLD}")'
"""


def stage(of_image: str) -> Callable[[Callable[..., Any]], BaseComponent]:
    """Makes a function a component that runs in the image of stage `of_image`, with what that image holds.

    Where kfp.local runs it in an environment without that, as SubprocessRunner() does, it says so in a line.
    """

    def made(function: Callable[..., Any]) -> BaseComponent:
        component: BaseComponent = dsl.component(
            function, base_image=image(of_image), install_kfp_package=False
        )
        # sh -ec SCRIPT SOURCE ...
        container = component.component_spec.implementation.container
        container.command[2] = _LOOK + container.command[2]
        if tag() != __version__:
            # What else is of this version has the same tag: deploy names the runtime.
            container.env = {TAG: tag()}
        _describe(component)
        return component

    return made


def _describe(component: BaseComponent) -> None:
    """Says of each input that is a setting what the settings say of it, where the component itself says nothing."""
    arguments = arguments_of(SETTINGS)
    for name, given in component.component_spec.inputs.items():
        if not given.description and name in arguments:
            given.description = arguments[name].description
