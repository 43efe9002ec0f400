"""The compiled kernels, which pyproject.toml cannot name: they need NumPy's headers.

They are optional: where there is no compiler, the installation goes on without them.
"""

from pathlib import Path

from setuptools import Extension, setup

try:
    from numpy import get_include
except ImportError:  # an installation without kernels
    headers = []
else:
    headers = [get_include()]

setup(
    ext_modules=[
        Extension(
            "engine.native.kernels",
            ["engine/native/kernels.pyx"],
            depends=[str(part) for part in Path("engine/native").glob("*.pxi")],
            include_dirs=headers,
            # Sums must not be rounded otherwise than NumPy's: no fused products, no fast maths.
            extra_compile_args=["-O3", "-g0", "-ffp-contract=off"],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
            optional=True,
        )
    ]
)
