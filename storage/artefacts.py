"""Model artefacts: immutable files, each under the SHA-256 of its content.

Calls block on the disk: coroutines make them in a thread. Whoever writes a model first keeps the
artefact and then inserts the row that names it, so for a moment a file belongs to no row;
`sweep` leaves young files alone for that reason.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.exceptions import FailedPrecondition

YOUNG_SECS = 3600.0
"""How long a row may be in coming after its artefact was kept."""

_ABANDONED_SECS = 24 * 3600.0
_HASH = re.compile(r"[0-9a-f]{64}")


def corrupt(problem: str) -> FailedPrecondition:
    """The error of an artefact that cannot be used: ARTEFACT_CORRUPT."""
    return FailedPrecondition(f"The model artefact {problem}.", reason="ARTEFACT_CORRUPT")


def unreadable(error: OSError) -> FailedPrecondition:
    """The error of an artefact that the disk does not give."""
    return corrupt(f"cannot be read: {error.strerror}")


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(actual: str, expected: str) -> None:
    """Raises ARTEFACT_CORRUPT where an artefact's content is not what its checksum names."""
    if actual != expected:
        raise corrupt("does not have the content that its checksum names")


class ArtefactStore(Protocol):
    """Where artefacts lie. Hashes are SHA-256 in lower-case hexadecimal; others are ValueErrors."""

    def path(self, content_hash: str) -> Path:
        """Where the artefact is, or would be: a file that can be mapped into memory."""

    def temporary(self) -> Path:
        """A path of the caller's own, on the same file system, at which nothing is yet."""

    def keep(self, temporary: Path, content_hash: str) -> int:
        """Moves a finished file to where its hash says, durably; returns its size in bytes.

        One that is there already is replaced by the same content, which mends a damaged one.
        Readers that have the old file open keep it.
        """

    def delete(self, content_hash: str, *, kept_before: float | None = None) -> int:
        """Removes an artefact.

        Args:
            kept_before: seconds since the epoch; an artefact kept after that stays.

        Returns:
            The bytes freed; 0 when it stays or was not there.
        """

    def hashes(self) -> list[str]:
        """The hashes of all artefacts, sorted."""

    def discard_temporary(self, written_before: float) -> int:
        """Removes what `temporary` gave out and nobody kept; returns how many files."""


class FileArtefactStore:
    """Artefacts in a directory, which several processes may share; readable by their owner only.

    Args:
        directory: made when needed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, content_hash: str) -> Path:  # noqa: D102 - as in ArtefactStore
        if not _HASH.fullmatch(content_hash):
            raise ValueError(f"{content_hash!r} is no SHA-256")
        return self._directory / content_hash[:2] / content_hash

    def temporary(self) -> Path:  # noqa: D102
        folder = self._directory / "temporary"
        self._make(folder)
        return folder / uuid.uuid4().hex

    def keep(self, temporary: Path, content_hash: str) -> int:  # noqa: D102
        target = self.path(content_hash)
        with temporary.open("rb+") as file:
            os.fchmod(file.fileno(), 0o600)
            os.utime(file.fileno())
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        self._make(target.parent)
        with self._locked():
            temporary.replace(target)
        _sync(target.parent)
        return size

    def delete(self, content_hash: str, *, kept_before: float | None = None) -> int:  # noqa: D102
        target = self.path(content_hash)
        with self._locked():
            try:
                found = target.stat()
            except FileNotFoundError:
                return 0
            if kept_before is not None and found.st_mtime >= kept_before:
                return 0
            target.unlink()
        _sync(target.parent)
        return found.st_size

    def hashes(self) -> list[str]:  # noqa: D102
        names = (path.name for path in self._directory.glob("[0-9a-f][0-9a-f]/*"))
        return sorted(name for name in names if _HASH.fullmatch(name))

    def discard_temporary(self, written_before: float) -> int:  # noqa: D102
        discarded = 0
        for path in (self._directory / "temporary").glob("*"):
            # The writer may keep it, or another process discard it, at any moment.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < written_before:
                    path.unlink()
                    discarded += 1
        return discarded

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Between looking at a file's age and removing it, nobody keeps the same hash."""
        self._make(self._directory)
        handle = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            for each in (self._directory, folder):
                each.mkdir(mode=0o700, exist_ok=True)
                _sync(each.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed: how many artefacts, and their bytes."""

    artefacts: int = 0
    size_bytes: int = 0


async def sweep(
    artefacts: ArtefactStore,
    hashes_in_use: Callable[[], Awaitable[Collection[str]]],
    *,
    among: Collection[str] | None = None,
    young_secs: float = YOUNG_SECS,
) -> Swept:
    """Removes the artefacts that no row names.

    Args:
        hashes_in_use: asks all tenants' rows (`ModelStore.hashes_in_use`).
        among: only these; None: all artefacts, and what was written and never kept.
        young_secs: artefacts kept within this time stay, since their row may be on its way.
    """
    begun = time.time()
    there = await asyncio.to_thread(artefacts.hashes)
    wanted = there if among is None else [name for name in there if name in set(among)]
    # Asked after the files were listed: a row committed since then cannot be missed.
    unused = sorted(set(wanted) - set(await hashes_in_use())) if wanted else []

    def remove() -> Swept:
        freed = [artefacts.delete(name, kept_before=begun - young_secs) for name in unused]
        if among is None:
            artefacts.discard_temporary(begun - _ABANDONED_SECS)
        return Swept(sum(size > 0 for size in freed), sum(freed))

    return await asyncio.to_thread(remove)
