"""Makes a component from a stage's function."""

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
from miniml.settings.arguments import OPTIONS, arguments_of

# kfp replaces python3 by its own interpreter, by default that of a new environment.
_LOOK = """python3 -c 'from importlib.util import find_spec as f
f("kfp") and f("miniml") or exit("error: this Python has no kfp or no miniml. Run the stage in its image, or here with \
SubprocessRunner(use_venv=False).")'
"""


_IMPORTS = "from kfp import dsl\nfrom typing import *\n"


def stage(of_image: str, settings: tuple[type, ...] = ()) -> Callable[[Callable[..., Any]], BaseComponent]:
    """Makes a function a component that runs in the image of stage `of_image`, with what that image holds.

    Where kfp.local runs it in an environment without that, as SubprocessRunner() does, it says so in a line.

    Args:
        of_image: The stage whose image it is.
        settings: The dataclasses whose fields are inputs of the component, with their types, defaults and descriptions:
            those of a form under their own names, and `options` for all others. The function has them as `**settings`,
            and reads them by `miniml.settings.arguments.settings_given`. A parameter that it names itself keeps what it
            says there. The body imports the dataclasses from a module that holds no component, for kfp lets none be
            defined where one runs.
    """

    def made(function: Callable[..., Any]) -> BaseComponent:
        signature = with_settings(inspect.signature(function), settings)
        # Which kfp makes the component's inputs of.
        function.__signature__ = signature  # type: ignore[attr-defined]
        component: BaseComponent = dsl.component(
            function, base_image=image(of_image), install_kfp_package=False
        )
        # sh -ec SCRIPT SOURCE ...
        container = component.component_spec.implementation.container
        container.command[2] = _LOOK + re.sub(" {2,}", " ", container.command[2].strip())
        container.command[3] = f"{_IMPORTS}{_source(function, signature)}\n"
        if tag() != __version__:
            # What else is of this version has the same tag: deploy names the runtime.
            container.env = {TAG: tag()}
        _describe_inputs(component, settings)
        _describe_outputs(component, function)
        return component

    return made


def with_settings(signature: inspect.Signature, settings: tuple[type, ...]) -> inspect.Signature:
    """Gives the signature, in place of its `**settings`, a parameter for each argument of these dataclasses.

    Args:
        signature: A function's own.
        settings: Dataclasses. Those of their fields that a form shows have a parameter each, the others `options`.
    """
    own = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
    arguments = arguments_of(settings)
    added = {
        name: _parameter(name, each.kind, each.default) for name, each in arguments.items() if each.in_form
    }
    if any(not each.in_form for each in arguments.values()):
        added[OPTIONS] = _parameter(OPTIONS, dict, {})
    # Those without a default go first, as Python wants it.
    parameters = sorted((added | own).values(), key=lambda each: each.default is not each.empty)
    return signature.replace(parameters=parameters)


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)


def _source(function: Callable[..., Any], signature: inspect.Signature) -> str:
    """Writes the function as the container runs it: whole in itself, for nothing else of its module travels with it.

    kfp's executor passes what the signature names, so `**settings` becomes the parameters that it stands for, and is
    made of them again in the body. Types and defaults that the module knows are written out. What is only to be read is
    left out: a cluster's record of a run has the source eight times a task.
    """
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list.clear()
    if ast.get_docstring(definition):
        del definition.body[0]
    if definition.args.kwarg:
        definition.body.insert(0, ast.parse(f"{definition.args.kwarg.arg} = locals()").body[0])
    written = {each.arg: each.annotation for each in definition.args.args}
    definition.args = ast.arguments(
        posonlyargs=[],
        args=[
            ast.arg(name, written.get(name) or _expression(_type(each.annotation)))
            for name, each in signature.parameters.items()
        ],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[
            _expression(repr(each.default))
            for each in signature.parameters.values()
            if each.default is not each.empty
        ],
    )
    if fields := getattr(signature.return_annotation, "_fields", ()):
        kinds = signature.return_annotation.__annotations__
        outputs = ", ".join(f"({name!r}, {_type(kinds[name])})" for name in fields)
        definition.returns = _expression(f"NamedTuple({signature.return_annotation.__name__!r}, [{outputs}])")
    return ast.unparse(ast.fix_missing_locations(definition))


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _type(annotation: Any) -> str:
    return inspect.formatannotation(annotation).replace("typing.", "")


def _describe_inputs(component: BaseComponent, settings: tuple[type, ...]) -> None:
    """Says of each input that is a setting what the settings say of it, where the function says nothing."""
    arguments = arguments_of(settings)
    described = {name: each.description for name, each in arguments.items()}
    names = [name for name, each in arguments.items() if not each.in_form]
    described[OPTIONS] = f"An object of other settings by name: {', '.join(names)}."
    for name, given in (component.component_spec.inputs or {}).items():
        if not given.description and name in described:
            given.description = described[name]


def _describe_outputs(component: BaseComponent, function: Callable[..., Any]) -> None:
    """Says of each output what the docstring says of it, where kfp, which reads only a NamedTuple's, says nothing."""
    told = docstring_parser.parse(inspect.getdoc(function) or "")
    descriptions = {parameter.arg_name: parameter.description for parameter in told.params}
    if told.returns:
        descriptions["Output"] = told.returns.description
    for name, output in (component.component_spec.outputs or {}).items():
        if not output.description and (description := descriptions.get(name)):
            output.description = " ".join(description.split())
