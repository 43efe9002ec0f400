"""Artefacts: durable, private, never half there, and swept only when nobody names them."""

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from storage.artefacts import FileArtefactStore, Swept, sweep


@pytest.fixture
def store(tmp_path: Path) -> FileArtefactStore:
    return FileArtefactStore(tmp_path / "data" / "models")


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def keep(store: FileArtefactStore, content: bytes, age_secs: float = 0.0) -> str:
    name = hash_of(content)
    temporary = store.temporary()
    temporary.write_bytes(content)
    assert store.keep(temporary, name) == len(content)
    if age_secs:
        then = time.time() - age_secs
        os.utime(store.path(name), (then, then))
    return name


def test_kept_artefact_lies_under_its_hash(store: FileArtefactStore, tmp_path: Path) -> None:
    temporary = store.temporary()
    temporary.write_bytes(b"model")
    assert store.temporary() != temporary
    name = hash_of(b"model")
    assert store.keep(temporary, name) == 5
    assert store.path(name) == tmp_path / "data" / "models" / name[:2] / name
    assert store.path(name).read_bytes() == b"model"
    assert not temporary.exists()
    assert store.hashes() == [name]


def test_artefacts_are_readable_by_their_owner_only(store: FileArtefactStore) -> None:
    name = keep(store, b"model")
    path = store.path(name)
    modes = [p.stat().st_mode & 0o777 for p in (path, path.parent, path.parent.parent)]
    assert [oct(mode) for mode in modes] == ["0o600", "0o700", "0o700"]
    assert store.temporary().parent.stat().st_mode & 0o777 == 0o700


def test_keeping_again_mends_a_damaged_file_and_leaves_open_ones(store: FileArtefactStore) -> None:
    name = keep(store, b"model")
    with store.path(name).open("rb") as reader:
        store.path(name).write_bytes(b"cut")
        assert keep(store, b"model") == name
        assert store.path(name).read_bytes() == b"model"
        assert reader.read() == b"cut"
    assert store.hashes() == [name]


def test_delete_returns_the_bytes_freed(store: FileArtefactStore) -> None:
    name = keep(store, b"model")
    assert store.delete(name, kept_before=time.time() - 60) == 0
    assert store.delete(name, kept_before=time.time() + 1) == 5
    assert store.delete(name) == 0
    assert store.hashes() == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_what_is_no_hash_is_refused(store: FileArtefactStore, name: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        store.path(name)


def test_missing_temporary_file_is_an_error(store: FileArtefactStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.keep(store.temporary(), hash_of(b"x"))
    assert store.hashes() == []


def test_store_that_was_never_written_is_empty(store: FileArtefactStore, tmp_path: Path) -> None:
    assert store.hashes() == []
    assert store.discard_temporary(time.time()) == 0
    assert not (tmp_path / "data").exists()


def test_abandoned_temporary_files_are_discarded(store: FileArtefactStore) -> None:
    old, new = store.temporary(), store.temporary()
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert store.discard_temporary(time.time() - 60) == 1
    assert (old.exists(), new.exists()) == (False, True)


def test_keep_and_delete_at_once_never_lose_a_fresh_artefact(store: FileArtefactStore) -> None:
    name = keep(store, b"model", age_secs=100)
    border = time.time() - 50
    start = threading.Barrier(2)
    for _ in range(30):
        os.utime(store.path(name), (1, 1))

        def delete() -> None:
            start.wait()
            store.delete(name, kept_before=border)

        thread = threading.Thread(target=delete)
        thread.start()
        start.wait()
        keep(store, b"model")
        thread.join()
        assert store.path(name).read_bytes() == b"model"


async def test_sweep_removes_what_no_row_names(store: FileArtefactStore) -> None:
    used = keep(store, b"used", age_secs=7200)
    keep(store, b"unused", age_secs=7200)
    fresh = keep(store, b"fresh")

    async def in_use() -> set[str]:
        return {used}

    assert await sweep(store, in_use) == Swept(1, 6)
    assert store.hashes() == sorted([used, fresh])
    assert await sweep(store, in_use) == Swept(0, 0)
    assert await sweep(store, in_use, young_secs=-1) == Swept(1, 5)


async def test_sweep_among_some_leaves_the_others(store: FileArtefactStore) -> None:
    first, second = keep(store, b"1", age_secs=7200), keep(store, b"2", age_secs=7200)

    async def in_use() -> set[str]:
        return set()

    assert await sweep(store, in_use, among=[first, hash_of(b"not there")]) == Swept(1, 1)
    assert store.hashes() == [second]


async def test_sweep_asks_for_rows_after_it_has_listed_the_files(store: FileArtefactStore) -> None:
    old = keep(store, b"old", age_secs=7200)
    late: list[str] = []

    async def in_use() -> set[str]:
        late.append(keep(store, b"late", age_secs=7200))
        return set()

    assert await sweep(store, in_use) == Swept(1, 3)
    assert store.hashes() == late
    assert old not in store.hashes()
