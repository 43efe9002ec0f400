"""Services that run as processes, with data directories of their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.processes import Services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Starts services under the test's directory; none outlives the test."""
    yield from _services(tmp_path)


@pytest.fixture(scope="module")
def module_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The same for services that a module's tests share."""
    yield from _services(tmp_path_factory.mktemp("service"))


def _services(home: Path) -> Iterator[Services]:
    started = Services(home)
    try:
        yield started
    finally:
        started.close()
        shutil.rmtree(home)
