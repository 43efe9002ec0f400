"""EntityService: upserts with their masks, batches, lists, and what is refused."""

import asyncio

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from penchant.v1 import entity_pb2 as pb
from penchant.v1.common_pb2 import EntityRef

from engine.features import extract_features
from tests.rpc.conftest import Service

DIMENSION = 512


def book(entity_id: str = "b", entity_type: str = "book") -> EntityRef:
    return EntityRef(entity_type=entity_type, entity_id=entity_id)


def struct(**values) -> Struct:
    made = Struct()
    made.update(values)
    return made


def nested(levels: int) -> Struct:
    """`levels` objects inside one another, the outermost counted."""
    made = inner = Struct()
    for _ in range(levels - 1):
        inner = inner.fields["x"].struct_value
        inner.SetInParent()
    return made


def upsert(entity_id: str = "b", mask: list[str] | None = None, **fields) -> pb.UpsertEntityRequest:
    request = pb.UpsertEntityRequest(entity=pb.Entity(entity=book(entity_id), **fields))
    if mask is not None:
        request.update_mask.CopyFrom(FieldMask(paths=mask))
    return request


async def stored(service: Service, entity_id: str = "b", tenant: str = "a") -> pb.Entity:
    request = pb.GetEntityRequest(entity=book(entity_id), include_vector=True)
    return (await service.call("GetEntity", request, tenant)).entity


def attributes(entity: pb.Entity) -> dict:
    return MessageToDict(entity.attributes)


async def test_upsert_creates_then_changes(service: Service):
    first = await service.call("UpsertEntity", upsert(attributes=struct(year=1999), hidden=True))
    again = await service.call("UpsertEntity", upsert(attributes=struct(year=2000)))
    assert (first.created, again.created) == (True, False)
    assert attributes(again.entity) == {"year": 2000}
    assert again.entity.hidden  # not populated, so left alone
    assert not again.entity.feature_vector
    assert again.entity.created_at == first.entity.created_at
    assert again.entity.updated_at.ToNanoseconds() > first.entity.updated_at.ToNanoseconds()
    kept = await stored(service)
    assert kept.updated_at == again.entity.updated_at
    assert len(kept.feature_vector) == DIMENSION


async def test_upsert_attributes_come_back_as_they_were(service: Service):
    value = {
        "text": "Ünïcode 🎈 'quotes\" \\u0000",
        "numbers": [0, -1, 0.1, 1e308, -1e-300, 2**53, 2**62],
        "nothing": None,
        "flags": [True, False],
        "deep": {"": {"list": [[], {}, [1, [2]]]}},
    }
    await service.call("UpsertEntity", upsert(attributes=struct(**value)))
    assert attributes(await stored(service)) == value


MASKS = {
    "one key merged": (["attributes.year"], {"year": 2000}, {"year": 2000, "genre": "sf"}),
    "one key removed": (["attributes.year"], {}, {"genre": "sf"}),
    "a key that is not there": (["attributes.other"], {}, {"year": 1999, "genre": "sf"}),
    "two keys": (["attributes.year", "attributes.new"], {"new": [1]}, {"genre": "sf", "new": [1]}),
    "all attributes": (["attributes"], {"new": 1}, {"new": 1}),
    "all attributes away": (["attributes"], {}, {}),
    "everything": (["*"], {"new": 1}, {"new": 1}),
    "another field": (["hidden"], {"new": 1}, {"year": 1999, "genre": "sf"}),
    "no path counts as no mask": ([], {"new": 1}, {"new": 1}),
    "absent mask": (None, {"new": 1}, {"new": 1}),
    "absent mask, nothing filled": (None, {}, {"year": 1999, "genre": "sf"}),
}


@pytest.mark.parametrize("case", MASKS, ids=str)
@pytest.mark.asyncio(loop_scope="module")
async def test_upsert_mask_changes_attributes(standing: Service, case: str):
    mask, given, expected = MASKS[case]
    begin = upsert(case, ["*"], attributes=struct(year=1999, genre="sf"))
    await standing.call("UpsertEntity", begin)
    change = upsert(case, mask)
    if given:
        change.entity.attributes.update(given)
    changed = await standing.call("UpsertEntity", change)
    assert attributes(changed.entity) == expected
    entity = await stored(standing, case)
    assert attributes(entity) == expected
    made = extract_features(expected, DIMENSION)
    assert list(entity.feature_vector) == pytest.approx([] if made is None else made, abs=1e-3)


async def test_upsert_star_mask_resets_what_is_not_given(service: Service):
    begin = Timestamp(seconds=1_000)
    await service.call(
        "UpsertEntity",
        upsert(attributes=struct(a=1), hidden=True, available_from=begin, feature_vector=[1] * 512),
    )
    await service.call("UpsertEntity", upsert(mask=["*"]))
    entity = await stored(service)
    assert (attributes(entity), entity.hidden, list(entity.feature_vector)) == ({}, False, [])
    assert not entity.HasField("available_from")


async def test_upsert_given_vector_stays_until_it_is_removed(service: Service):
    vector = [0.5] + [0.0] * (DIMENSION - 1)
    made = list(extract_features({"genre": "sf"}, DIMENSION))
    await service.call("UpsertEntity", upsert(feature_vector=vector))
    await service.call("UpsertEntity", upsert(attributes=struct(genre="sf")))
    assert list((await stored(service)).feature_vector) == vector
    await service.call("UpsertEntity", upsert(mask=["feature_vector"]))
    assert list((await stored(service)).feature_vector) == pytest.approx(made, abs=1e-3)
    await service.call("UpsertEntity", upsert(attributes=struct(genre="crime")))
    assert list((await stored(service)).feature_vector) != pytest.approx(made, abs=1e-3)


async def test_upsert_makes_an_entity_of_a_stub(service: Service):
    await service.did("ada", "b")
    stub = await stored(service)
    assert (stub.stub, list(stub.feature_vector)) == (True, [])
    made = await service.call("UpsertEntity", upsert(attributes=struct(genre="sf")))
    assert (made.created, made.entity.stub) == (True, False)
    assert not (await stored(service)).stub
    # Its users' profiles are made anew with the vector that it has now.
    await service.run_jobs()
    await service.put("other", genre="sf")
    answer = await service.recommend("ada")
    assert answer.items[0].reasons[0].because_of == [book()]


async def test_upsert_same_entity_at_once_loses_nothing(service: Service):
    masks = [[f"attributes.k{number}"] for number in range(20)]
    requests = [upsert(mask=mask) for mask in masks]
    for number, request in enumerate(requests):
        request.entity.attributes.update({f"k{number}": number})
    answers = await asyncio.gather(*(service.call("UpsertEntity", r) for r in requests))
    assert sum(answer.created for answer in answers) == 1
    assert attributes(await stored(service)) == {f"k{number}": number for number in range(20)}


def _attributes(value: Struct) -> dict:
    return {"attributes": value}


NOT_A_NUMBER = Struct(fields={"x": Value(number_value=float("nan"))})
INFINITE = Struct(fields={"x": Value(number_value=float("inf"))})
DAY = 86_400

REFUSED_ENTITIES = {
    "no name": ({"entity": EntityRef()}, "INVALID_ARGUMENT", "entity.entity.entity_type"),
    "no id": ({"entity": book("")}, "INVALID_ARGUMENT", "entity.entity.entity_id"),
    "id of 256 bytes": ({"entity": book("é" * 128)}, "INVALID_ARGUMENT", "entity.entity.entity_id"),
    "NUL in id": ({"entity": book("a\0")}, "INVALID_ARGUMENT", "entity.entity.entity_id"),
    "control in type": (
        {"entity": book("a", "x\x85")},
        "INVALID_ARGUMENT",
        "entity.entity.entity_type",
    ),
    "attributes over 64 KiB": (
        _attributes(struct(x="y" * 65_536)),
        "INVALID_ARGUMENT",
        "entity.attributes",
    ),
    "attributes 17 deep": (_attributes(nested(17)), "INVALID_ARGUMENT", "entity.attributes"),
    "NUL in attributes": (
        _attributes(struct(x=["a\0b"])),
        "INVALID_ARGUMENT",
        "entity.attributes",
    ),
    "NUL in a key": (_attributes(struct(**{"a\0": 1})), "INVALID_ARGUMENT", "entity.attributes"),
    "NaN in attributes": (_attributes(NOT_A_NUMBER), "INVALID_ARGUMENT", "entity.attributes"),
    "infinity in attributes": (_attributes(INFINITE), "INVALID_ARGUMENT", "entity.attributes"),
    "vector too short": (
        {"feature_vector": [1.0] * 511},
        "DIMENSION_MISMATCH",
        "entity.feature_vector",
    ),
    "vector too long": (
        {"feature_vector": [1.0] * 513},
        "DIMENSION_MISMATCH",
        "entity.feature_vector",
    ),
    "vector with NaN": (
        {"feature_vector": [float("nan")] + [1.0] * 511},
        "INVALID_ARGUMENT",
        "entity.feature_vector",
    ),
    "vector with infinity": (
        {"feature_vector": [float("-inf")] + [1.0] * 511},
        "INVALID_ARGUMENT",
        "entity.feature_vector",
    ),
    "vector all zero": (
        {"feature_vector": [0.0] * 512},
        "INVALID_ARGUMENT",
        "entity.feature_vector",
    ),
    "vector zero in half precision": (
        {"feature_vector": [1e-9] * 512},
        "INVALID_ARGUMENT",
        "entity.feature_vector",
    ),
    "vector beyond half precision": (
        {"feature_vector": [65_505.0] * 512},
        "INVALID_ARGUMENT",
        "entity.feature_vector",
    ),
    "window of no length": (
        {"available_from": Timestamp(seconds=DAY), "available_until": Timestamp(seconds=DAY)},
        "INVALID_ARGUMENT",
        "entity.available_until",
    ),
    "timestamp out of range": (
        {"available_from": Timestamp(seconds=10**15)},
        "INVALID_ARGUMENT",
        "entity.available_from",
    ),
    "nanos out of range": (
        {"available_until": Timestamp(seconds=1, nanos=-1)},
        "INVALID_ARGUMENT",
        "entity.available_until",
    ),
}


@pytest.mark.parametrize("case", REFUSED_ENTITIES, ids=str)
@pytest.mark.asyncio(loop_scope="module")
async def test_upsert_refuses(standing: Service, case: str):
    fields, reason, field = REFUSED_ENTITIES[case]
    request = pb.UpsertEntityRequest(entity=pb.Entity(**{"entity": book(), **fields}))
    refusal = await standing.refused("UpsertEntity", request)
    assert (refusal.code, refusal.reason, list(refusal.fields)) == (
        "INVALID_ARGUMENT",
        reason,
        [field],
    )
    batch = pb.BatchUpsertEntitiesRequest(requests=[upsert("good"), request])
    answer = await standing.call("BatchUpsertEntities", batch)
    assert answer.upserted_count == 1
    (error,) = answer.errors
    assert (error.index, error.code, error.reason, error.field) == (1, 3, reason, field)


@pytest.mark.parametrize(
    "path", ["entity", "stub", "created_at", "attributes.", "a\0", "x" * 300, "", "Attributes"]
)
@pytest.mark.asyncio(loop_scope="module")
async def test_upsert_refuses_mask_path(standing: Service, path: str):
    refusal = await standing.refused("UpsertEntity", upsert(mask=[path]))
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", ["update_mask"])


@pytest.mark.asyncio(loop_scope="module")
async def test_upsert_wrong_dimension_names_both(standing: Service):
    refusal = await standing.refused("UpsertEntity", upsert(feature_vector=[1.0] * 7))
    assert "7" in refusal.fields["entity.feature_vector"]
    assert "512" in refusal.fields["entity.feature_vector"]


@pytest.mark.asyncio(loop_scope="module")
async def test_upsert_at_the_limits_is_taken(standing: Service):
    longest = "y" * (65_536 - len('{"x":""}'))
    for request in (
        upsert("é" * 127, attributes=struct(x=longest)),
        upsert("deep", attributes=nested(16)),
        upsert("edge", feature_vector=[65_504.0] * 512),
        upsert("early", available_from=Timestamp(seconds=-62_135_596_800)),
        upsert("late", available_until=Timestamp(seconds=253_402_300_799, nanos=999_999_999)),
    ):
        assert (await standing.call("UpsertEntity", request)).created


async def test_upsert_window_is_checked_against_what_is_stored(service: Service):
    await service.call("UpsertEntity", upsert(available_from=Timestamp(seconds=2 * DAY)))
    refusal = await service.refused("UpsertEntity", upsert(available_until=Timestamp(seconds=DAY)))
    assert list(refusal.fields) == ["entity.available_until"]
    assert not (await stored(service)).HasField("available_until")


async def test_window_from_the_first_to_the_last_moment_is_kept(service: Service):
    """What asyncpg would take for infinities, and give back without a time zone."""
    first = Timestamp(seconds=-62135596800)
    last = Timestamp(seconds=253402300799, nanos=999_999_999)
    whole = upsert(available_from=first, available_until=last)
    for _ in range(2):  # the second is compared with what is stored
        await service.call("UpsertEntity", whole)
    entity = await stored(service)
    seconds = (entity.available_from.seconds, entity.available_until.seconds)
    assert seconds == (first.seconds, last.seconds)


async def test_batch_later_row_of_one_name_wins(service: Service):
    rows = [upsert(attributes=struct(n=1)), upsert("c"), upsert(attributes=struct(n=2))]
    answer = await service.call("BatchUpsertEntities", pb.BatchUpsertEntitiesRequest(requests=rows))
    assert (answer.upserted_count, list(answer.errors)) == (3, [])
    assert attributes(await stored(service)) == {"n": 2}


async def test_batch_of_a_thousand_is_taken_and_listed_by_page(service: Service):
    rows = [upsert(f"b{number:04}", attributes=struct(n=number)) for number in range(1000)]
    answer = await service.call("BatchUpsertEntities", pb.BatchUpsertEntitiesRequest(requests=rows))
    assert answer.upserted_count == 1000
    seen: list[str] = []
    request = pb.ListEntitiesRequest(page_size=300, filter="n >= 10")
    while True:
        page = await service.call("ListEntities", request)
        seen += [entity.entity.entity_id for entity in page.entities]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [f"b{number:04}" for number in range(10, 1000)]


@pytest.mark.parametrize("count", [0, 1001])
@pytest.mark.asyncio(loop_scope="module")
async def test_batch_refuses_size(standing: Service, count: int):
    request = pb.BatchUpsertEntitiesRequest(requests=[upsert()] * count)
    refusal = await standing.refused("BatchUpsertEntities", request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", ["requests"])


async def test_list_is_in_byte_order_with_hidden_ones(service: Service):
    for entity_id in ("b", "a", "B", "é", "a-", "Z"):
        await service.call("UpsertEntity", upsert(entity_id, hidden=entity_id == "a"))
    await service.put("first", entity_type="apple")
    response = await service.call("ListEntities", pb.ListEntitiesRequest())
    listed = [(e.entity.entity_type, e.entity.entity_id) for e in response.entities]
    assert listed == [("apple", "first"), *(("book", i) for i in ("B", "Z", "a", "a-", "b", "é"))]
    books = await service.call("ListEntities", pb.ListEntitiesRequest(entity_type="book"))
    assert len(books.entities) == 6


async def test_delete_removes_for_good(service: Service):
    await service.put("b", genre="sf")
    await service.call("DeleteEntity", pb.DeleteEntityRequest(entity=book()))
    for method, request in (
        ("GetEntity", pb.GetEntityRequest(entity=book())),
        ("DeleteEntity", pb.DeleteEntityRequest(entity=book())),
    ):
        refusal = await service.refused(method, request)
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "ENTITY_NOT_FOUND")


REFUSED = {
    "get without name": ("GetEntity", pb.GetEntityRequest(), "entity.entity_type"),
    "get without id": ("GetEntity", pb.GetEntityRequest(entity=book("")), "entity.entity_id"),
    "delete without name": ("DeleteEntity", pb.DeleteEntityRequest(), "entity.entity_type"),
    "upsert without anything": (
        "UpsertEntity",
        pb.UpsertEntityRequest(),
        "entity.entity.entity_type",
    ),
    "list negative": ("ListEntities", pb.ListEntitiesRequest(page_size=-1), "page_size"),
    "list type": ("ListEntities", pb.ListEntitiesRequest(entity_type="\n"), "entity_type"),
    "list filter": ("ListEntities", pb.ListEntitiesRequest(filter="a = "), "filter"),
    "list filter type": ("ListEntities", pb.ListEntitiesRequest(filter="created_at = 3"), "filter"),
    "list filter length": (
        "ListEntities",
        pb.ListEntitiesRequest(filter="a = 1 OR " * 500 + "a = 1"),
        "filter",
    ),
    "list token": ("ListEntities", pb.ListEntitiesRequest(page_token="AAAA"), "page_token"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
@pytest.mark.asyncio(loop_scope="module")
async def test_entity_service_refuses(standing: Service, case: str):
    method, request, field = REFUSED[case]
    refusal = await standing.refused(method, request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_list_token_of_another_request_is_refused(service: Service):
    await service.put("a")
    await service.put("b")
    token = (
        await service.call("ListEntities", pb.ListEntitiesRequest(page_size=1))
    ).next_page_token
    refusal = await service.refused(
        "ListEntities", pb.ListEntitiesRequest(page_token=token, filter="a = 1")
    )
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_MISMATCH")
