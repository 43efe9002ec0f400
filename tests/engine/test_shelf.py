"""Models that calls name: opened once, whoever asks at the same time."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from engine import shelf as shelves
from engine.models.artefact import Opened, open_artefact, write_artefact
from engine.models.forms import NeighbourMatrix
from engine.shelf import ModelShelf
from storage.artefacts import FileArtefactStore, content_hash
from storage.database import Database
from storage.exceptions import FailedPrecondition
from storage.models import ModelStore
from storage.tenants import Tenant, TenantStore

CALLERS = 8


@pytest.fixture
async def tenant(database: Database, maintenance_database: Database) -> Tenant:
    return await TenantStore(database, maintenance_database).create("shop")


@pytest.fixture
def artefacts(tmp_path: Path) -> FileArtefactStore:
    return FileArtefactStore(tmp_path / "models")


@pytest.fixture
async def shelf(database: Database, tenant: Tenant, artefacts: FileArtefactStore) -> ModelShelf:
    """A shelf whose tenant has version 1 of the model m."""
    models = ModelStore(database)
    written = artefacts.temporary()
    links = sparse.csr_matrix(np.eye(50, k=1, dtype=np.float32))
    write_artefact(NeighbourMatrix.from_matrix(np.arange(50), links), written, {})
    digest = content_hash(written)
    size = artefacts.keep(written, digest)
    await models.create(tenant, "m", algorithm="item_knn")
    await models.add_version(
        tenant, "m", manifest={}, metadata={}, content_hash=digest, size_bytes=size
    )
    return ModelShelf(models, artefacts)


async def test_named_model_is_opened_once_for_all_who_ask_for_it(
    shelf: ModelShelf, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def slowly(path: Path, expected_hash: str) -> Opened:
        opened.append(path)
        time.sleep(0.3)  # the others have all asked for it meanwhile
        return open_artefact(path, expected_hash)

    monkeypatch.setattr(shelves, "open_artefact", slowly)
    found = await asyncio.gather(*(shelf.named(tenant, "m", "1") for _ in range(CALLERS)))
    assert {one.label for one in found} == {"m@1"}
    assert len(opened) == 1
    assert len({id(one) for one in found}) == 1
    assert await shelf.named(tenant, "m", "latest") is found[0]


async def test_named_model_that_is_damaged_is_refused_to_all_who_ask_for_it(
    shelf: ModelShelf, tenant: Tenant, artefacts: FileArtefactStore
) -> None:
    path = artefacts.path(artefacts.hashes()[0])
    path.write_bytes(path.read_bytes()[:-1])
    found = await asyncio.gather(
        *(shelf.named(tenant, "m", "1") for _ in range(CALLERS)), return_exceptions=True
    )
    assert [type(one) for one in found] == [FailedPrecondition] * CALLERS
    assert {getattr(one, "reason", "") for one in found} == {"ARTEFACT_CORRUPT"}


async def test_named_model_comes_although_another_caller_goes_away(
    shelf: ModelShelf, tenant: Tenant
) -> None:
    gone = asyncio.create_task(shelf.named(tenant, "m", "1"))
    stays = asyncio.create_task(shelf.named(tenant, "m", "1"))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).label == "m@1"
    assert gone.cancelled()
