"""Defines the decorator that makes a component of Kubeflow Pipelines from a stage's function."""

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
_CHECK_PACKAGES = """python3 -c 'from importlib.util import find_spec as f
f("kfp") and f("miniml") or exit("error: this Python has no kfp or no miniml. Run the stage in its image, or here with \
SubprocessRunner(use_venv=False).")'
"""


_IMPORTS = "from kfp import dsl\nfrom typing import *\n"


def stage(of_image: str, settings: tuple[type, ...] = ()) -> Callable[[Callable[..., Any]], BaseComponent]:
    """Makes a component from a function, which runs in the image of the stage `of_image`.

    Where kfp.local runs it in an environment without miniml, as SubprocessRunner() does, it fails with one line.

    Args:
        of_image: The stage whose image the component uses.
        settings: The dataclasses whose fields are inputs of the component, with their types, defaults and descriptions:
            the fields of a form by their own names, and all others in `options`. The function receives them as
            `**settings`, and reads them by `miniml.settings.arguments.settings_given`. A parameter of the function
            itself takes precedence over a field of the same name. The body must import the dataclasses from a module
            without components, because kfp does not define components where one runs.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> BaseComponent:
        signature = with_settings(inspect.signature(function), settings)
        # kfp makes the component's inputs from this attribute.
        function.__signature__ = signature  # type: ignore[attr-defined]
        component: BaseComponent = dsl.component(
            function, base_image=image(of_image), install_kfp_package=False
        )
        # sh -ec SCRIPT SOURCE ...
        container = component.component_spec.implementation.container
        container.command[2] = _CHECK_PACKAGES + re.sub(" {2,}", " ", container.command[2].strip())
        container.command[3] = f"{_IMPORTS}{_source(function, signature)}\n"
        if tag() != __version__:
            # Deploy names the runtime by this tag.
            container.env = {TAG: tag()}
        _describe_inputs(component, settings)
        _describe_outputs(component, function)
        return component

    return decorate


def with_settings(signature: inspect.Signature, settings: tuple[type, ...]) -> inspect.Signature:
    """Returns a signature with the arguments of settings dataclasses in place of `**settings`.

    Args:
        signature: The function's own signature.
        settings: The dataclasses. Each field that a form shows becomes a parameter; all others become `options`.
    """
    own = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
    arguments = arguments_of(settings)
    added = {
        name: _parameter(name, each.kind, each.default) for name, each in arguments.items() if each.in_form
    }
    if any(not each.in_form for each in arguments.values()):
        added[OPTIONS] = _parameter(OPTIONS, dict, {})
    # Python requires that parameters without a default come first.
    parameters = sorted((added | own).values(), key=lambda each: each.default is not each.empty)
    return signature.replace(parameters=parameters)


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)


def _source(function: Callable[..., Any], signature: inspect.Signature) -> str:
    """Returns the function's source as the container runs it, without anything else of its module.

    kfp's executor passes the arguments that the signature names, so the parameters replace `**settings`, and the body
    collects them again. Types and defaults are written as literals, because the module's names do not exist there. The
    docstring is left out: a cluster's record of a run has the source eight times a task.
    """
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list.clear()
    if ast.get_docstring(definition):
        del definition.body[0]
    if definition.args.kwarg:
        definition.body.insert(0, ast.parse(f"{definition.args.kwarg.arg} = locals()").body[0])
    annotations = {each.arg: each.annotation for each in definition.args.args}
    definition.args = ast.arguments(
        posonlyargs=[],
        args=[
            ast.arg(name, annotations.get(name) or _expression(_type(each.annotation)))
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
    """Takes the descriptions of settings from their dataclasses, for inputs that the function does not describe."""
    arguments = arguments_of(settings)
    described = {name: each.description for name, each in arguments.items()}
    names = [name for name, each in arguments.items() if not each.in_form]
    described[OPTIONS] = f"An object of other settings by name: {', '.join(names)}."
    for name, given in (component.component_spec.inputs or {}).items():
        if not given.description and name in described:
            given.description = described[name]


def _describe_outputs(component: BaseComponent, function: Callable[..., Any]) -> None:
    """Takes the descriptions of outputs from the docstring, where kfp does not: it reads only those of a NamedTuple."""
    docstring = docstring_parser.parse(inspect.getdoc(function) or "")
    descriptions = {parameter.arg_name: parameter.description for parameter in docstring.params}
    if docstring.returns:
        descriptions["Output"] = docstring.returns.description
    for name, output in (component.component_spec.outputs or {}).items():
        if not output.description and (description := descriptions.get(name)):
            output.description = " ".join(description.split())
