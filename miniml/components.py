"""Offers miniml's stages as components of Kubeflow Pipelines, for use in any pipeline.

    from kfp import dsl
    from miniml.components import train

    @dsl.pipeline
    def mine(...):
        trained = train(dataset=made.outputs["dataset"], model_id="distilbert/distilbert-base-cased", epochs=2)

Every argument but the artifacts has the same default as in miniml's own pipelines. A component runs in the image of
this version of miniml, from the registry and with the tag that MINIML_REGISTRY and MINIML_IMAGE_TAG name when the
component is first imported. docs/reuse.md shows a whole pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent


def __getattr__(name: str) -> BaseComponent:
    """Loads a component when it is first asked for: importing this module needs no kfp."""
    from miniml.pipeline.compiled import component_names, component_text

    # Python asks for names of its own, such as __path__, before any component.
    if name.startswith("_") or name not in component_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kfp.components import load_component_from_text

    loaded: BaseComponent = load_component_from_text(component_text(name))
    globals()[name] = loaded
    return loaded


def __dir__() -> list[str]:
    from miniml.pipeline.compiled import component_names

    return component_names()
