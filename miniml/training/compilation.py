"""Compiles the encoder's layers with `torch.compile`, which fuses what stands between their matrix products.

The layers are compiled one by one, not the model as a whole: what is compiled for the first one serves the others,
which takes a fraction of the time, and what a model does with masks around its layers need not be compilable.
"""

from __future__ import annotations

import shutil
from typing import Any

from miniml.errors import InputError
from miniml.training.trainable import encoder_layers

COMPILERS = ("g++", "clang++")
"""The compilers of which torch needs one: for its code on a CPU, and for what starts its kernels on a GPU."""


def require_compiler() -> None:
    """Checks that torch will find a C++ compiler.

    Raises:
        InputError: this machine has none.
    """
    if not any(map(shutil.which, COMPILERS)):
        raise InputError(
            f"compile_layers is true, but this machine has neither {' nor '.join(COMPILERS)}, and torch.compile needs "
            f"one. Install g++, or leave compile_layers out."
        )


def compile_layers(model: Any, backend: str = "inductor") -> None:
    """Has the layers of the encoder compiled at their first call, for batches of any size and length.

    Args:
        model: A classifier of transformers; it is changed. Its copies, and what is saved of it, are not compiled.
        backend: The backend of `torch.compile`.
    """
    for layer in encoder_layers(model):
        layer.compile(dynamic=True, backend=backend)
