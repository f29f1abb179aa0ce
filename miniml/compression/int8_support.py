"""Tells whether a model in int8 can be made on this machine. It imports no torch, so that a run can ask beforehand."""

from __future__ import annotations

from importlib.util import find_spec

from miniml.processor import has_fast_int8


def why_no_int8() -> str:
    """Returns why no model in int8 can be made here, and what helps; "" where one can."""
    if not has_fast_int8():
        return (
            "int8 needs a processor with AVX512-VNNI, without which it would be slower than float32, and its sums "
            "might overflow. Compress without int8, or on a machine of another kind."
        )
    if not find_spec("nncf"):
        return (
            "int8 needs NNCF, which is not installed here: pip install 'miniml[int8]', or for the train stage's image "
            "TRAIN_EXTRAS=int8 make images."
        )
    return ""
