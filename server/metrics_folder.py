"""The folder in which a service's processes leave what they count, for the parent to add up."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "penchant-metrics-"
_OWNER = "owner"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A new folder, which is gone after the block; those that killed services left go first.

    Who owns one holds a lock on a file in it, which the kernel lets go of when its process ends.
    A process number would say nothing where containers share a temporary directory.
    """
    for former in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Another account's, or one that is being removed, or made, by its owner.
        with suppress(OSError), (former / _OWNER).open("rb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(former, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        with (folder / f"{_OWNER}.new").open("wb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            # Nobody sees it before it is locked.
            Path(owner.name).rename(folder / _OWNER)
            yield folder
