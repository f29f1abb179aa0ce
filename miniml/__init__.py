"""Makes a served text classifier from a dataset and a model name.

In Python, without Kubeflow: `prepare`, `fine_tune`, `compress`, `evaluate` and `Classifier` (see `miniml.api`). With
it: `submit`, `miniml.components` and `miniml.pipelines`. In a shell: `miniml --help`.

The stages' work takes plain paths and values, returns small results, and does not depend on Kubeflow or KServe:
`components/` wraps it for Kubeflow Pipelines, `serving/` for KServe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from miniml.lazy_imports import lazy_names

if TYPE_CHECKING:
    from miniml.api import compress, evaluate, fine_tune, prepare
    from miniml.model.classifier import Classifier
    from miniml.sdk import submit

__all__ = ["Classifier", "__version__", "compress", "evaluate", "fine_tune", "prepare", "submit"]
__version__ = "0.1.0"

_HOMES = {
    "Classifier": "miniml.model.classifier",
    "compress": "miniml.api",
    "evaluate": "miniml.api",
    "fine_tune": "miniml.api",
    "prepare": "miniml.api",
    "submit": "miniml.sdk",
}

# `import miniml` brings in no library.
__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
