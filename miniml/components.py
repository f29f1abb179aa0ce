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

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

    deploy: BaseComponent
    evaluate: BaseComponent
    gate: BaseComponent
    pick: BaseComponent
    preflight: BaseComponent
    train: BaseComponent
    transform: BaseComponent

__all__ = ["deploy", "evaluate", "gate", "pick", "preflight", "train", "transform"]


def __getattr__(name: str) -> Any:
    """Loads a component when it is first asked for: importing this module needs no kfp."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kfp.components import load_component_from_text

    from miniml.pipeline.compiled import component_text

    loaded = globals()[name] = load_component_from_text(component_text(name))
    return loaded


def __dir__() -> list[str]:
    return __all__
