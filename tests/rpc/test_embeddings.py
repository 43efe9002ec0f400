"""EmbeddingService: vectors come back as they were, in sets of one dimension."""

import asyncio
from datetime import timedelta

import asyncpg
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from penchant import Client, Embedding, NotFound, SyncClient
from penchant.v1 import embedding_pb2 as pb
from penchant.v1.common_pb2 import EntityRef

from tests.rpc.conftest import Service, book


def row(entity_id: str = "b", values=(1.0, 2.0), version: str = "", entity_type: str = "book"):
    ref = EntityRef(entity_type=entity_type, entity_id=entity_id)
    return pb.Embedding(entity=ref, version=version, values=values)


def save(*rows: pb.Embedding) -> pb.SaveEmbeddingsRequest:
    return pb.SaveEmbeddingsRequest(embeddings=rows)


async def get(service: Service, entity_id: str = "b", version: str = "", tenant: str = "a"):
    request = pb.GetEmbeddingRequest(entity=book(entity_id), version=version)
    return (await service.call("GetEmbedding", request, tenant)).embedding


async def stats(service: Service, tenant: str = "a") -> list[tuple]:
    answer = await service.call("GetEmbeddingStats", pb.GetEmbeddingStatsRequest(), tenant)
    return [(s.entity_type, s.version, s.dimension, s.count, s.size_bytes) for s in answer.stats]


async def test_embedding_comes_back_exactly(service: Service):
    tiny, huge = float(np.float32(1e-45)), float(np.finfo(np.float32).max)
    values = np.array([0.1, -0.0, tiny, huge, -huge, 1 / 3], np.float32)
    answer = await service.call("SaveEmbeddings", save(row("é" * 127, values)))
    assert answer.saved == 1
    kept = await get(service, "é" * 127)
    assert np.array(kept.values, np.float32).tobytes() == values.tobytes()
    assert (kept.version, kept.entity.entity_type) == ("1", "book")
    assert kept.HasField("update_time")


async def test_longest_vector_comes_back_exactly(service: Service):
    values = np.random.default_rng(1).normal(size=16_000).astype(np.float32)
    rows = [row(f"b{number}", values + number) for number in range(4)]
    await service.call("SaveEmbeddings", save(*rows))
    page = await service.call("ListEmbeddings", pb.ListEmbeddingsRequest(entity_type="book"))
    got = [np.array(kept.values, np.float32) for kept in page.embeddings]
    np.testing.assert_array_equal(got, [values + number for number in range(4)])


async def test_saved_again_is_replaced(service: Service):
    await service.call("SaveEmbeddings", save(row()))
    first = await get(service)
    await service.call("SaveEmbeddings", save(row(values=[3.0, 4.0])))
    again = await get(service)
    assert list(again.values) == [3.0, 4.0]
    assert again.update_time.ToNanoseconds() > first.update_time.ToNanoseconds()
    assert await stats(service) == [("book", "1", 2, 1, 8)]


async def test_latest_is_the_version_written_last(service: Service):
    await service.call("SaveEmbeddings", save(row(version="v9"), row("c", version="v9")))
    await service.call("SaveEmbeddings", save(row(values=[1, 2, 3], version="v10")))
    assert (await get(service)).version == "v10"
    assert (await get(service, version="latest")).version == "v10"
    assert (await get(service, version="v9")).version == "v9"
    assert (await get(service, "c")).version == "v9"
    listed = pb.ListEmbeddingsRequest(entity_type="book")
    page = await service.call("ListEmbeddings", listed)
    assert [(e.version, e.entity.entity_id) for e in page.embeddings] == [("v10", "b")]
    await service.call("SaveEmbeddings", save(row("c", version="v9")))
    page = await service.call("ListEmbeddings", listed)
    assert [(e.version, e.entity.entity_id) for e in page.embeddings] == [("v9", "b"), ("v9", "c")]


@pytest.mark.parametrize(
    ("before", "rows", "field"),
    [
        ([], [row("x"), row("y", [1, 2, 3])], "embeddings[1].values"),
        ([row("old", [1, 2, 3])], [row("x"), row("y")], "embeddings[0].values"),
    ],
    ids=["within the batch", "with the stored"],
)
async def test_dimension_mismatch_names_both_and_stores_nothing(
    service: Service, before, rows, field
):
    if before:
        await service.call("SaveEmbeddings", save(*before))
    others = [row("x", [1.0], version="other"), row("x", [1.0], entity_type="film")]
    refusal = await service.refused("SaveEmbeddings", save(*rows, *others))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "DIMENSION_MISMATCH")
    assert list(refusal.fields) == [field]
    assert "2" in refusal.fields[field]
    assert "3" in refusal.fields[field]
    assert await stats(service) == ([("book", "1", 3, 1, 12)] if before else [])


async def test_list_pages_stay_with_the_version_of_the_first(service: Service):
    names = ["B", "Z", "a", "a-", "b", "é"]
    await service.call("SaveEmbeddings", save(*(row(name, version="v1") for name in names)))
    request = pb.ListEmbeddingsRequest(entity_type="book", page_size=4)
    first = await service.call("ListEmbeddings", request)
    await service.call("SaveEmbeddings", save(row("é", [1.0], version="v2")))
    request.page_token = first.next_page_token
    rest = await service.call("ListEmbeddings", request)
    listed = [e.entity.entity_id for page in (first, rest) for e in page.embeddings]
    assert (listed, rest.next_page_token) == (names, "")
    assert {e.version for e in rest.embeddings} == {"v1"}
    request.version = "v1"
    refusal = await service.refused("ListEmbeddings", request)
    assert refusal.reason == "PAGE_TOKEN_MISMATCH"


async def test_clean_up_removes_a_version(service: Service):
    await service.call("SaveEmbeddings", save(row(), row("c"), row(version="2")))
    await service.call("SaveEmbeddings", save(row(entity_type="film")))
    request = pb.CleanUpEmbeddingsRequest(version="1", entity_type="book")
    assert (await service.call("CleanUpEmbeddings", request)).removed == 2
    assert (await service.call("CleanUpEmbeddings", request)).removed == 0
    assert [s[:2] for s in await stats(service)] == [("book", "2"), ("film", "1")]
    # the set is gone, and with it its dimension
    await service.call("SaveEmbeddings", save(row(values=[1.0])))


async def test_clean_up_removes_what_is_old(service: Service, database_url: str):
    await service.call("SaveEmbeddings", save(row("old"), row("old", entity_type="film")))
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE embeddings SET updated_at = updated_at - interval '2 hours'"
        )
    finally:
        await connection.close()
    await service.call("SaveEmbeddings", save(row("new")))
    for age, entity_type, removed in (
        (Duration(seconds=315_576_000_000), "", 0),
        (Duration(seconds=3 * 3600), "", 0),
        (Duration(seconds=3600), "film", 1),
        (Duration(seconds=3600), "", 1),
    ):
        request = pb.CleanUpEmbeddingsRequest(older_than=age, entity_type=entity_type)
        assert (await service.call("CleanUpEmbeddings", request)).removed == removed
    assert list((await get(service, "new")).values) == [1.0, 2.0]


async def test_tenants_are_apart(service: Service):
    await service.make_tenant("b")
    await service.call("SaveEmbeddings", save(row(), row("mine")))
    await service.call("SaveEmbeddings", save(row(values=[7, 8, 9])), tenant="b")
    assert list((await get(service)).values) == [1, 2]
    assert list((await get(service, tenant="b")).values) == [7, 8, 9]
    assert await stats(service, "b") == [("book", "1", 3, 1, 12)]
    request = pb.GetEmbeddingRequest(entity=book("mine"))
    refusal = await service.refused("GetEmbedding", request, tenant="b")
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "EMBEDDING_NOT_FOUND")
    listed = pb.ListEmbeddingsRequest(entity_type="book", page_size=1)
    token = (await service.call("ListEmbeddings", listed)).next_page_token
    assert len((await service.call("ListEmbeddings", listed, "b")).embeddings) == 1
    listed.page_token = token
    assert (await service.refused("ListEmbeddings", listed, "b")).reason == "PAGE_TOKEN_MISMATCH"
    gone = pb.CleanUpEmbeddingsRequest(version="1", entity_type="book")
    assert (await service.call("CleanUpEmbeddings", gone, "b")).removed == 1
    assert await stats(service) == [("book", "1", 2, 2, 16)]


async def test_writers_of_one_set_agree_on_its_dimension(service: Service):
    requests = [save(row(f"b{n}", [1.0] * (2 + n % 2))) for n in range(12)]
    results = await asyncio.gather(
        *(service.call("SaveEmbeddings", request) for request in requests),
        return_exceptions=True,
    )
    saved = [result for result in results if not isinstance(result, BaseException)]
    assert len(saved) == 6
    ((_, _, dimension, count, _),) = await stats(service)
    assert (dimension in {2, 3}, count) == (True, 6)


NAN, INF = float("nan"), float("inf")
REFUSED = {
    "nothing": ("SaveEmbeddings", save(), "embeddings"),
    "too many": ("SaveEmbeddings", save(*[row()] * 1001), "embeddings"),
    "no entity": (
        "SaveEmbeddings",
        save(row(), pb.Embedding(values=[1])),
        "embeddings[1].entity.entity_type",
    ),
    "no id": ("SaveEmbeddings", save(row("")), "embeddings[0].entity.entity_id"),
    "long id": ("SaveEmbeddings", save(row("é" * 128)), "embeddings[0].entity.entity_id"),
    "control": ("SaveEmbeddings", save(row("a\0")), "embeddings[0].entity.entity_id"),
    "long version": ("SaveEmbeddings", save(row(version="é" * 26)), "embeddings[0].version"),
    "latest": ("SaveEmbeddings", save(row(version="latest")), "embeddings[0].version"),
    "no values": ("SaveEmbeddings", save(row(values=[])), "embeddings[0].values"),
    "long vector": ("SaveEmbeddings", save(row(values=[1] * 16_001)), "embeddings[0].values"),
    "NaN": ("SaveEmbeddings", save(row("x"), row(values=[1, NAN])), "embeddings[1].values"),
    "infinite": ("SaveEmbeddings", save(row(values=[-INF, 1])), "embeddings[0].values"),
    "twice": ("SaveEmbeddings", save(row(), row(version="1")), "embeddings[1].entity"),
    "get nothing": ("GetEmbedding", pb.GetEmbeddingRequest(), "entity.entity_type"),
    "get version": (
        "GetEmbedding",
        pb.GetEmbeddingRequest(entity=book(), version="v" * 51),
        "version",
    ),
    "list nothing": ("ListEmbeddings", pb.ListEmbeddingsRequest(), "entity_type"),
    "list negative": (
        "ListEmbeddings",
        pb.ListEmbeddingsRequest(entity_type="book", page_size=-1),
        "page_size",
    ),
    "list token": (
        "ListEmbeddings",
        pb.ListEmbeddingsRequest(entity_type="book", page_token="AAAA"),
        "page_token",
    ),
    "clean nothing": ("CleanUpEmbeddings", pb.CleanUpEmbeddingsRequest(), "version"),
    "clean without type": (
        "CleanUpEmbeddings",
        pb.CleanUpEmbeddingsRequest(version="1"),
        "entity_type",
    ),
    "clean latest": (
        "CleanUpEmbeddings",
        pb.CleanUpEmbeddingsRequest(version="latest", entity_type="book"),
        "version",
    ),
    "clean too young": (
        "CleanUpEmbeddings",
        pb.CleanUpEmbeddingsRequest(older_than=Duration(nanos=999_999_999)),
        "older_than",
    ),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
@pytest.mark.asyncio(loop_scope="module")
async def test_embedding_service_refuses(standing: Service, case: str):
    method, request, field = REFUSED[case]
    refusal = await standing.refused(method, request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_clients_save_and_read(service: Service):
    target = f"127.0.0.1:{service.port}"
    async with Client(target, tenant="a", timeout=20) as client:
        rows = [Embedding("book", f"b{number}", [0.5, number]) for number in range(5)]
        assert await client.save_embeddings(rows) == 5
        kept = await client.get_embedding("book", "b3")
        listed = [e async for e in client.list_embeddings("book", page_size=2)]
        (found,) = await client.embedding_stats()
        assert await client.clean_up_embeddings(older_than=timedelta(hours=1)) == 0
    assert (kept.values, kept.version, kept.update_time is None) == ((0.5, 3.0), "1", False)
    assert [e.entity_id for e in listed] == [f"b{number}" for number in range(5)]
    assert (found.dimension, found.count, found.size_bytes) == (2, 5, 40)

    def without_asyncio() -> int:
        with SyncClient(target, tenant="a", timeout=20) as client:
            assert client.get_embedding("book", "b3", version="1") == kept
            assert list(client.list_embeddings("book")) == listed
            removed = client.clean_up_embeddings(version="1", entity_type="book")
            with pytest.raises(NotFound) as caught:
                client.get_embedding("book", "b3")
            assert caught.value.reason == "EMBEDDING_NOT_FOUND"
            with pytest.raises(ValueError, match="only one of"):
                client.clean_up_embeddings(version="1", older_than=timedelta(hours=1))
            return removed

    assert await asyncio.to_thread(without_asyncio) == 5
