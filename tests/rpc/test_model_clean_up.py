"""CleanUpModels: old versions go, then files that no version names."""

import os
import time

from penchant.v1 import model_pb2 as pb

from storage.models import VersionRow
from tests.rpc.conftest import Service
from tests.rpc.model_worlds import (
    add_version,
    artefacts_of,
    export,
    make_model,
    promote,
    send,
    versions_of,
)


def age_file(service: Service, row: VersionRow, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(artefacts_of(service).path(row.content_hash), (then, then))


async def test_clean_up_removes_rows_and_files_but_never_what_serves(service: Service):
    await make_model(service, keep_versions=2)
    rows = [await add_version(service, seed=seed) for seed in range(5)]
    for row in rows:
        age_file(service, row, 120)
    await promote(service, version="1")
    gone = await service.call("CleanUpModels", pb.CleanUpModelsRequest())
    assert list(gone.removed) == ["main@2", "main@3"]
    assert gone.artefacts_removed == 2
    assert gone.bytes_freed == rows[1].size_bytes + rows[2].size_bytes
    kept = artefacts_of(service).hashes()
    assert kept == sorted(rows[place].content_hash for place in (0, 3, 4))
    more = pb.CleanUpModelsRequest(name="main", keep_versions=1)
    assert list((await service.call("CleanUpModels", more)).removed) == ["main@4"]
    assert list((await service.call("CleanUpModels", more)).removed) == []
    assert [version.version for version in await versions_of(service)] == ["5", "1"]


async def test_clean_up_leaves_a_file_that_a_training_may_just_have_kept_again(service: Service):
    await make_model(service, keep_versions=1)
    row, _ = [await add_version(service, seed=seed) for seed in range(2)]
    gone = await service.call("CleanUpModels", pb.CleanUpModelsRequest())
    assert (list(gone.removed), gone.artefacts_removed) == (["main@1"], 0)
    assert row.content_hash in artefacts_of(service).hashes()
    age_file(service, row, 7200)
    gone = await service.call("CleanUpModels", pb.CleanUpModelsRequest())
    assert (gone.artefacts_removed, gone.bytes_freed) == (1, row.size_bytes)
    assert row.content_hash not in artefacts_of(service).hashes()


async def test_artefact_that_two_versions_share_outlives_one(service: Service):
    await make_model(service)
    row = await add_version(service)
    await send(service, *await export(service))
    age_file(service, row, 7200)
    request = pb.CleanUpModelsRequest(keep_versions=1)
    gone = await service.call("CleanUpModels", request)
    assert (list(gone.removed), gone.artefacts_removed) == (["main@1"], 0)
    assert len((await export(service))[1]) > 0
