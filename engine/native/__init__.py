"""Compiled kernels of computed answers, where they could be built; NumPy does the same elsewhere.

What each does is defined by the code in NumPy that stands beside its use, which runs where
`compiled` is false: no C compiler was there at the installation, or PENCHANT_PURE_PYTHON is set.
"""

import os
import sys
from importlib.util import find_spec

SWITCH = "PENCHANT_PURE_PYTHON"
"""The environment variable by which they are left alone."""

_YES = {"1", "true", "yes", "on", "t", "y"}  # as the settings read it

built = find_spec("engine.native.kernels") is not None
"""Whether the kernels were built."""

compiled = False
"""Whether the kernels are in use; what they pack are bytes of little-endian machines."""

_left_alone = os.environ.get(SWITCH, "").strip().lower() in _YES
if built and not _left_alone and sys.byteorder == "little":
    try:
        from engine.native import kernels as kernels
    except ImportError:  # built for another Python or NumPy
        built = False
    else:
        compiled = True


def state() -> str:
    """Whether the kernels are in use, and if not, why, in a few words."""
    if compiled:
        return "compiled kernels are in use"
    if _left_alone:
        return f"compiled kernels are left alone: {SWITCH} is set"
    return "compiled kernels were not built (no C compiler at the installation)"
