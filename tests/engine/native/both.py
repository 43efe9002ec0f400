"""Compiled kernels beside the code in NumPy that defines what they do."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

from engine import native

T = TypeVar("T")

needs_kernels = pytest.mark.skipif(
    not native.compiled, reason="the kernels were not built, or are switched off"
)


def both(work: Callable[[], T]) -> tuple[T, T]:
    """What some work gives by the kernels, and what it gives by NumPy alone."""
    assert native.compiled
    by_kernels = work()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "compiled", False)
        return by_kernels, work()


def assert_equal(found: Any, wanted: Any) -> None:
    """Every bit and every type is the same, but for the sign of a zero."""
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_equal(one, other)
    else:
        assert found == wanted
