"""Whether the compiled kernels are there, and can be left alone."""

import os
import shutil
import subprocess
import sys

import pytest

from engine import native


@pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler is here"
)
def test_kernels_are_built_where_there_is_a_compiler():
    assert native.built, "make setup builds them; its output says why it could not"


@pytest.mark.parametrize(
    ("value", "left_alone"), [("1", True), ("True", True), ("0", False), ("", False), ("no", False)]
)
def test_kernels_are_left_alone_where_the_variable_says_so(value: str, left_alone: bool):
    code = (
        "from engine import native; from server.settings import Settings;"
        "print(native.compiled, Settings().pure_python)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, native.SWITCH: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(native.built and not left_alone), str(left_alone)]
