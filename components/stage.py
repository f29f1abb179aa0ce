"""Makes a component of a stage's function, as all of ours are made."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import docstring_parser
from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from miniml import __version__
from miniml.images import TAG, image, tag
from miniml.settings.arguments import SETTINGS, arguments_of

# kfp puts its own interpreter in the place of python3, a new environment's by default.
_LOOK = """python3 -c 'from importlib.util import find_spec as f
f("kfp") and f("miniml") or exit("error: this Python has no kfp or no miniml. Run the stage in its image, or here with \
SubprocessRunner(use_venv=False).")'
"""


_IMPORTS = "from kfp import dsl\nfrom typing import *\n"


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
        container.command[2] = _LOOK + re.sub(" {2,}", " ", container.command[2].strip())
        container.command[3] = f"{_IMPORTS}{_source(function)}\n"
        if tag() != __version__:
            # What else is of this version has the same tag: deploy names the runtime.
            container.env = {TAG: tag()}
        _describe(component)
        _describe_outputs(component, function)
        return component

    return made


def _source(function: Callable[..., Any]) -> str:
    """The function without what is only to be read: a cluster's record of a run has it eight times a task."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list.clear()
    del definition.body[0]
    return ast.unparse(definition)


def _describe(component: BaseComponent) -> None:
    """Says of each input that is a setting what the settings say of it, where the component itself says nothing."""
    arguments = arguments_of(SETTINGS)
    for name, given in component.component_spec.inputs.items():
        if not given.description and name in arguments:
            given.description = arguments[name].description


def _describe_outputs(component: BaseComponent, function: Callable[..., Any]) -> None:
    """Says of each output what the docstring says of it, where kfp, which reads only a NamedTuple's, says nothing."""
    told = docstring_parser.parse(inspect.getdoc(function) or "")
    descriptions = {parameter.arg_name: parameter.description for parameter in told.params}
    if told.returns:
        descriptions["Output"] = told.returns.description
    for name, output in (component.component_spec.outputs or {}).items():
        if not output.description and (description := descriptions.get(name)):
            output.description = " ".join(description.split())
