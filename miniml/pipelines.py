"""Offers miniml's compiled pipelines, to submit with any client, or to call within another pipeline.

    from miniml.pipelines import text_classification

MINIML_REGISTRY and MINIML_IMAGE_TAG name the registry and the tag of their images, and MINIML_TRIALS_AT_ONCE the number
of trials of a search that train at once; they are read when a pipeline is first imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

    hyperparameter_search: BaseComponent
    text_classification: BaseComponent

__all__ = ["hyperparameter_search", "text_classification"]


def __getattr__(name: str) -> Any:
    """Loads a pipeline when it is first asked for: importing this module needs no kfp."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kfp.components import load_component_from_text

    from miniml.pipeline.compiled import CompiledPipeline

    text = CompiledPipeline.named(name.replace("_", "-")).text
    loaded = globals()[name] = load_component_from_text(text)
    return loaded


def __dir__() -> list[str]:
    return __all__
