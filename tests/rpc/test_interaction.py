"""InteractionService: idempotent ingest, lists, deletion and merging."""

import asyncio
import time

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from penchant.v1 import admin_pb2
from penchant.v1 import interaction_pb2 as pb

from engine.freshness import check_freshness
from server.settings import Settings
from storage.database import Database
from tests.rpc.conftest import Service, book, ids, interaction, running


async def ingest(service: Service, tenant: str = "a", **fields) -> pb.IngestAck:
    request = pb.IngestInteractionRequest(interaction=interaction(**fields))
    return (await service.call("IngestInteraction", request, tenant)).ack


def first_storing(ack: pb.IngestAck) -> tuple[str, int]:
    """What all acks of one interaction share: their tokens are each of its own time."""
    return ack.interaction_id, ack.received_at.ToNanoseconds()


async def listed(service: Service, tenant: str = "a", **fields) -> list[pb.Interaction]:
    request = pb.ListInteractionsRequest(**fields)
    return list((await service.call("ListInteractions", request, tenant)).interactions)


async def profile(database: Database, user_id: str = "ada"):
    async with database.connection(None) as connection:
        return await connection.fetchrow(
            "SELECT interaction_count, last_interaction_at, accumulator IS NULL AS bare"
            " FROM user_profiles WHERE tenant_id = 'a' AND user_id = $1",
            user_id,
        )


def at(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


async def test_ingest_is_listed_as_it_was_sent(service: Service):
    metadata = Struct()
    metadata.update({"page": 3, "tags": ["a", None]})
    sent = interaction(
        interaction_id="i1",
        weight=-1.5,
        metadata=metadata,
        timestamp=Timestamp(seconds=1_000, nanos=123_456_789),
        recommendation_id="r1",
        position=0,
    )
    request = pb.IngestInteractionRequest(interaction=sent)
    ack = (await service.call("IngestInteraction", request)).ack
    (kept,) = await listed(service, user_id="ada")
    sent.timestamp.nanos = 123_456_000
    sent.received_at.CopyFrom(ack.received_at)
    assert kept == sent
    assert ack.interaction_id == "i1"
    assert ack.freshness_token


async def test_ingest_fills_in_id_time_and_weight(service: Service):
    before = time.time()
    ack = await ingest(service, interaction_type="purchase")
    (kept,) = await listed(service, user_id="ada")
    assert kept.interaction_id == ack.interaction_id
    assert (kept.weight, kept.HasField("metadata"), kept.HasField("position")) == (5, False, False)
    assert before - 1 < kept.timestamp.ToNanoseconds() / 1e9 < time.time() + 1


async def test_ingest_again_gives_the_same_ack_and_one_row(service: Service):
    ack = await ingest(service, interaction_id="i1")
    again = await ingest(service, interaction_id="i1")
    assert first_storing(again) == first_storing(ack)
    assert len(await listed(service, user_id="ada")) == 1


async def test_token_of_a_repetition_covers_what_was_acknowledged_meanwhile(service: Service):
    first = await ingest(service, interaction_id="i1")
    meanwhile = await ingest(service, interaction_id="i2")
    again = await ingest(service, interaction_id="i1")
    tenant = await service.deps.tenants.get("a")
    numbers = [check_freshness(tenant, ack.freshness_token) for ack in (first, meanwhile, again)]
    assert numbers[0] < numbers[1] <= numbers[2]
    # It is of the present, not of what is to come: the next answer is good enough for it.
    await ingest(service, interaction_id="i3")
    await service.recommend("ada", at_least_as_fresh=again.freshness_token)


async def test_ingest_again_with_metadata_in_another_order_is_the_same(service: Service):
    names = [f"key{number}" for number in range(40)]
    acks = []
    for order in (names, names[::-1]):
        metadata = Struct()
        for name in order:
            metadata.fields[name].number_value = len(name)
        acks.append(await ingest(service, interaction_id="i1", metadata=metadata))
    assert first_storing(acks[0]) == first_storing(acks[1])


OTHER = {
    "user": {"user_id": "ben"},
    "session": {"user_id": None, "session_id": "ada"},
    "entity": {"entity": book("b01")},
    "type": {"interaction_type": "view"},
    "weight": {"weight": 2},
    "metadata": {"metadata": Struct(fields={"a": Value(bool_value=True)})},
    "timestamp": {"timestamp": Timestamp(seconds=5)},
    "recommendation": {"recommendation_id": "r"},
    "position": {"position": 0},
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", OTHER, ids=str)
async def test_ingest_of_the_same_id_with_other_content_is_refused(standing: Service, case: str):
    interaction_id = f"reused-{case}"
    await ingest(standing, interaction_id=interaction_id)
    request = pb.IngestInteractionRequest(
        interaction=interaction(interaction_id=interaction_id, **OTHER[case])
    )
    refusal = await standing.refused("IngestInteraction", request)
    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "INTERACTION_ID_REUSED")
    assert refusal.metadata == {"interaction_id": interaction_id}


async def test_ingest_repeated_at_once_stores_one_row(
    service: Service, maintenance_database: Database
):
    acks = await asyncio.gather(*(ingest(service, interaction_id="i1") for _ in range(20)))
    assert len({first_storing(ack) for ack in acks}) == 1
    assert len(await listed(service, user_id="ada")) == 1
    assert (await profile(maintenance_database))["interaction_count"] == 1


async def test_ingest_of_unknown_entity_makes_a_stub_or_is_refused(service: Service):
    await ingest(service, entity=book("new"))
    tenant = admin_pb2.Tenant(tenant_id="a")
    tenant.settings.unknown_entities = admin_pb2.UNKNOWN_ENTITIES_REFUSE
    await service.call("UpdateTenant", admin_pb2.UpdateTenantRequest(tenant=tenant))
    await ingest(service, entity=book("new"))
    request = pb.IngestInteractionRequest(
        interaction=interaction(interaction_id="i1", entity=book("newer"))
    )
    refusal = await service.refused("IngestInteraction", request)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "ENTITY_NOT_FOUND")
    assert refusal.metadata == {"entity_type": "book", "entity_id": "newer"}
    assert len(await listed(service, user_id="ada")) == 2
    # Nothing of it is remembered: the same id is good once the entity is there.
    await service.put("newer")
    assert (await ingest(service, interaction_id="i1", entity=book("newer"))).interaction_id == "i1"


async def test_counts_are_exact_under_concurrent_ingests(
    library: Service, maintenance_database: Database
):
    now = int(time.time())
    calls = [
        ingest(
            library,
            user_id=f"u{number % 7}",
            entity=book(f"b{number % 60:02}"),
            timestamp=Timestamp(seconds=now - (number * 37) % 200),
        )
        for number in range(200)
    ]
    await asyncio.gather(*calls)
    for user in range(7):
        mine = [n for n in range(200) if n % 7 == user]
        row = await profile(maintenance_database, f"u{user}")
        assert row["interaction_count"] == len(mine)
        assert row["last_interaction_at"].timestamp() == max(now - n * 37 % 200 for n in mine)
        answer = await library.recommend(f"u{user}", explain=True)
        assert answer.explanation.interaction_count == len(mine)


@pytest.mark.asyncio(loop_scope="module")
async def test_ingest_at_the_limits_is_taken(standing: Service):
    for fields in (
        {"timestamp": Timestamp()},
        {"timestamp": at(time.time() + 86_340)},
        {"weight": 1e6},
        {"weight": -1e6},
        {"weight": 1e-300},
        {"position": 2**31 - 1},
        {"user_id": "é" * 127, "interaction_id": "i" * 255},
        {"user_id": None, "session_id": "s" * 247},
    ):
        assert (await ingest(standing, **fields)).freshness_token
    assert (await standing.recommend("ada", include_seen=True)).items


async def test_list_pages_by_user_session_and_entity(service: Service):
    for number in range(9):
        who = {"user_id": "ada"} if number % 3 else {"user_id": None, "session_id": "s"}
        await ingest(
            service,
            interaction_id=f"i{number}",
            timestamp=Timestamp(seconds=1_000 + number // 2),
            interaction_type="view" if number % 2 else "like",
            **who,
        )
    newest_first = ["i8", "i7", "i6", "i5", "i4", "i3", "i2", "i1", "i0"]
    wanted = {
        "user": ({"user_id": "ada"}, [i for i in newest_first if int(i[1]) % 3]),
        "session": ({"session_id": "s"}, ["i6", "i3", "i0"]),
        "entity": ({"entity": book()}, newest_first),
        "type": ({"entity": book(), "interaction_type": "view"}, ["i7", "i5", "i3", "i1"]),
        "nobody": ({"user_id": "nobody"}, []),
    }
    for fields, expected in wanted.values():
        seen: list[str] = []
        request = pb.ListInteractionsRequest(page_size=2, **fields)
        while True:
            page = await service.call("ListInteractions", request)
            assert len(page.interactions) <= 2
            seen += [i.interaction_id for i in page.interactions]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert seen == expected
    (last, *_) = await listed(service, session_id="s")
    assert (last.session_id, last.user_id) == ("s", "")


async def test_delete_rebuilds_the_profile(library: Service, maintenance_database: Database):
    await ingest(library, entity=book("b00"), interaction_id="keep", timestamp=at(1_000))
    for number in (1, 4, 7):
        await ingest(library, entity=book(f"b{number:02}"), timestamp=at(2_000))
    before = await library.recommend("ada", page_size=5)
    assert before.items[0].attributes["genres"][0] == "crime"
    request = pb.DeleteInteractionsRequest(user_id="ada")
    request.before.FromSeconds(1_000)
    assert (await library.call("DeleteInteractions", request)).deleted_count == 0
    for number in (1, 4, 7):
        request = pb.DeleteInteractionsRequest(user_id="ada", entity=book(f"b{number:02}"))
        answer = await library.call("DeleteInteractions", request)
        assert answer.deleted_count == 1
    row = await profile(maintenance_database)
    assert (row["interaction_count"], row["last_interaction_at"].timestamp()) == (1, 1_000)
    after = await library.recommend("ada", at_least_as_fresh=answer.freshness_token)
    assert after.items[0].attributes["genres"][0] == "sf"
    request = pb.DeleteInteractionsRequest(interaction_ids=["keep", "unknown"])
    assert (await library.call("DeleteInteractions", request)).deleted_count == 1
    assert await profile(maintenance_database) is None


async def test_merge_joins_profiles(library: Service, maintenance_database: Database):
    await ingest(library, user_id=None, session_id="s", entity=book("b01"))
    await ingest(library, entity=book("b04"))
    request = pb.MergeUsersRequest(source_session_id="s", target_user_id="ada")
    answer = await library.call("MergeUsers", request)
    assert answer.moved_count == 1
    assert await profile(maintenance_database, "session:s") is None
    assert (await profile(maintenance_database))["interaction_count"] == 2
    assert len(await listed(library, user_id="ada")) == 2
    assert await listed(library, session_id="s") == []
    assert not {"b01", "b04"} & set(ids(await library.recommend("ada", page_size=100)))
    assert (await library.call("MergeUsers", request)).moved_count == 0


REFUSED = {
    "list nothing": ("ListInteractions", pb.ListInteractionsRequest(), "of"),
    "list empty user": ("ListInteractions", pb.ListInteractionsRequest(user_id=""), "user_id"),
    "list empty session": (
        "ListInteractions",
        pb.ListInteractionsRequest(session_id=""),
        "session_id",
    ),
    "list entity": (
        "ListInteractions",
        pb.ListInteractionsRequest(entity=book("")),
        "entity.entity_id",
    ),
    "list size": (
        "ListInteractions",
        pb.ListInteractionsRequest(user_id="a", page_size=-1),
        "page_size",
    ),
    "list type": (
        "ListInteractions",
        pb.ListInteractionsRequest(user_id="a", interaction_type="\0"),
        "interaction_type",
    ),
    "list token": (
        "ListInteractions",
        pb.ListInteractionsRequest(user_id="a", page_token="x"),
        "page_token",
    ),
    "delete nothing": ("DeleteInteractions", pb.DeleteInteractionsRequest(), "user_id"),
    "delete only before": (
        "DeleteInteractions",
        pb.DeleteInteractionsRequest(before=Timestamp()),
        "user_id",
    ),
    "delete both": (
        "DeleteInteractions",
        pb.DeleteInteractionsRequest(user_id="a", session_id="b"),
        "session_id",
    ),
    "delete too many": (
        "DeleteInteractions",
        pb.DeleteInteractionsRequest(interaction_ids=["i"] * 1001),
        "interaction_ids",
    ),
    "delete bad id": (
        "DeleteInteractions",
        pb.DeleteInteractionsRequest(interaction_ids=["i", ""]),
        "interaction_ids[1]",
    ),
    "delete bad time": (
        "DeleteInteractions",
        pb.DeleteInteractionsRequest(user_id="a", before=Timestamp(seconds=2**60)),
        "before",
    ),
    "merge nobody": ("MergeUsers", pb.MergeUsersRequest(target_user_id="a"), "source"),
    "merge empty": (
        "MergeUsers",
        pb.MergeUsersRequest(source_user_id="", target_user_id="a"),
        "source_user_id",
    ),
    "merge into nobody": (
        "MergeUsers",
        pb.MergeUsersRequest(source_user_id="a"),
        "target_user_id",
    ),
    "merge into itself": (
        "MergeUsers",
        pb.MergeUsersRequest(source_user_id="a", target_user_id="a"),
        "target_user_id",
    ),
    "merge into a session": (
        "MergeUsers",
        pb.MergeUsersRequest(source_user_id="a", target_user_id="session:a"),
        "target_user_id",
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_interaction_service_refuses(standing: Service, case: str):
    method, request, field = REFUSED[case]
    refusal = await standing.refused(method, request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_list_renders_metadata_as_it_was(service: Service):
    metadata = Struct()
    metadata.update({"a": {"b": [1.5, "x", None, True]}})
    await ingest(service, metadata=metadata)
    (kept,) = await listed(service, entity=book())
    assert MessageToDict(kept.metadata) == {"a": {"b": [1.5, "x", None, True]}}


async def test_type_made_elsewhere_a_moment_ago_is_known(service: Service, settings: Settings):
    async with running(settings, make_tenant=False) as other:
        await other.did("ada", "b00")
        request = admin_pb2.SetInteractionTypeRequest(tenant_id="a")
        request.interaction_type.interaction_type = "applause"
        request.interaction_type.weight = 2
        await service.call("SetInteractionType", request, tenant=None)
        assert (await other.did("ada", "b01", "applause")).interaction_id
        refusal = await other.refused(
            "IngestInteraction",
            pb.IngestInteractionRequest(interaction=interaction(interaction_type="none")),
        )
        assert "applause" in refusal.fields["interaction.interaction_type"]
