"""IngestInteractions, the stream; and what both ways to ingest refuse."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from penchant.v1 import interaction_pb2 as pb

from engine.freshness import check_freshness, encode_freshness
from engine.ingest import Ack
from storage.exceptions import NotFound, PenchantError
from storage.tenants import Tenant
from tests.rpc.conftest import Service, book, interaction, refusal_of

DAY = 86_400


def at(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds))


REFUSED = {
    "nobody": ({"user_id": None}, "INVALID_ARGUMENT", "user_id"),
    "user and session": ({"session_id": "s"}, "INVALID_ARGUMENT", "session_id"),
    "user of 256 bytes": ({"user_id": "u" * 256}, "INVALID_ARGUMENT", "user_id"),
    "user with NUL": ({"user_id": "\0"}, "INVALID_ARGUMENT", "user_id"),
    "user like a session": ({"user_id": "session:x"}, "INVALID_ARGUMENT", "user_id"),
    "session of 248 bytes": (
        {"user_id": None, "session_id": "s" * 248},
        "INVALID_ARGUMENT",
        "session_id",
    ),
    "id of 256 bytes": ({"interaction_id": "i" * 256}, "INVALID_ARGUMENT", "interaction_id"),
    "no entity": ({"entity": None}, "INVALID_ARGUMENT", "entity.entity_type"),
    "no entity id": ({"entity": book("")}, "INVALID_ARGUMENT", "entity.entity_id"),
    "no type": ({"interaction_type": ""}, "INVALID_ARGUMENT", "interaction_type"),
    "unknown type": (
        {"interaction_type": "Like"},
        "UNKNOWN_INTERACTION_TYPE",
        "interaction_type",
    ),
    "weight NaN": ({"weight": float("nan")}, "INVALID_ARGUMENT", "weight"),
    "weight infinite": ({"weight": float("-inf")}, "INVALID_ARGUMENT", "weight"),
    "weight too large": ({"weight": -1_000_001}, "INVALID_ARGUMENT", "weight"),
    "before 1970": ({"timestamp": Timestamp(seconds=-1)}, "INVALID_ARGUMENT", "timestamp"),
    "more than a day ahead": (
        {"timestamp": at(time.time() + 30 * DAY)},
        "INVALID_ARGUMENT",
        "timestamp",
    ),
    "no time at all": ({"timestamp": Timestamp(seconds=2**62)}, "INVALID_ARGUMENT", "timestamp"),
    "nanos": ({"timestamp": Timestamp(nanos=10**9)}, "INVALID_ARGUMENT", "timestamp"),
    "position": ({"position": -1}, "INVALID_ARGUMENT", "position"),
    "recommendation": ({"recommendation_id": "r" * 256}, "INVALID_ARGUMENT", "recommendation_id"),
    "metadata NUL": (
        {"metadata": Struct(fields={"a": Value(string_value="\0")})},
        "INVALID_ARGUMENT",
        "metadata",
    ),
    "metadata NaN": (
        {"metadata": Struct(fields={"a": Value(number_value=float("nan"))})},
        "INVALID_ARGUMENT",
        "metadata",
    ),
    "metadata over 64 KiB": (
        {"metadata": Struct(fields={"a": Value(string_value="x" * 65_536)})},
        "INVALID_ARGUMENT",
        "metadata",
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_ingest_refuses(standing: Service, case: str):
    fields, reason, field = REFUSED[case]
    request = pb.IngestInteractionRequest(interaction=interaction(**fields))
    refusal = await standing.refused("IngestInteraction", request)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert list(refusal.fields) == [f"interaction.{field}"]
    batch = pb.IngestInteractionsRequest(
        interactions=[interaction(), interaction(**fields), interaction()]
    )
    (answer,) = await stream(standing, batch)
    (error,) = answer.errors
    assert (error.index, error.code, error.reason, error.field) == (1, 3, reason, field)
    assert (answer.stored_count, answer.duplicate_count) == (2, 0)


async def stream(service: Service, *batches: pb.IngestInteractionsRequest) -> list:
    call = service.interaction.IngestInteractions(
        iter(batches), metadata=(("x-tenant-id", "a"),), timeout=90
    )
    return [answer async for answer in call]


async def test_stream_answers_in_order(library: Service):
    batches = [
        pb.IngestInteractionsRequest(
            sequence=sequence,
            interactions=[
                interaction(interaction_id=f"{sequence}-{n}")
                for n in range(1 + 40 * (10 - sequence))
            ],
        )
        for sequence in range(10)
    ]
    answers = await stream(library, *batches)
    assert [a.sequence for a in answers] == list(range(10))
    assert [a.stored_count for a in answers] == [len(b.interactions) for b in batches]
    assert all(a.freshness_token for a in answers)
    again = await stream(library, *batches)
    assert [(a.stored_count, a.duplicate_count) for a in again] == [
        (0, len(b.interactions)) for b in batches
    ]


async def test_token_of_a_stream_covers_all_that_it_acknowledged(
    library: Service, monkeypatch: pytest.MonkeyPatch
):
    """Two batches are stored at once: the second may have the earlier transaction."""
    tenant = await library.deps.tenants.get("a")
    transactions = [900, 850, 0, 700, 950, 940]
    numbers = iter(transactions)

    async def ingest(_: Tenant, drafts: Sequence[Any]) -> list[Ack | PenchantError]:
        number = next(numbers)
        if not number:
            return [NotFound("There is no such entity.") for _ in drafts]
        token = encode_freshness(tenant, number)
        return [Ack(f"i{number}", datetime.now(UTC), token, False) for _ in drafts]

    monkeypatch.setattr(library.deps.log, "ingest", ingest)
    batches = [
        pb.IngestInteractionsRequest(sequence=n, interactions=[interaction()])
        for n in range(len(transactions))
    ]
    answers = await stream(library, *batches)
    told = [check_freshness(tenant, a.freshness_token) for a in answers]
    assert told == [900, 900, 0, 900, 950, 950]


async def test_stream_duplicates_within_a_batch(service: Service):
    rows = [
        interaction(interaction_id="i1"),
        interaction(interaction_id="i1"),
        interaction(interaction_id="i1", weight=9),
    ]
    (answer,) = await stream(service, pb.IngestInteractionsRequest(interactions=rows))
    assert (answer.stored_count, answer.duplicate_count) == (1, 1)
    (error,) = answer.errors
    assert (error.index, error.reason) == (2, "INTERACTION_ID_REUSED")
    assert error.code == grpc.StatusCode.ALREADY_EXISTS.value[0]


async def test_stream_batch_without_a_good_row_has_no_token(service: Service):
    rows = [interaction(weight=float("nan"))]
    (answer,) = await stream(service, pb.IngestInteractionsRequest(sequence=-7, interactions=rows))
    assert (answer.sequence, answer.stored_count, answer.freshness_token) == (-7, 0, "")


@pytest.mark.parametrize("count", [0, 10_001])
async def test_stream_ends_with_a_batch_of_wrong_size(service: Service, count: int):
    small = interaction()
    batches = [
        pb.IngestInteractionsRequest(sequence=1, interactions=[small]),
        pb.IngestInteractionsRequest(sequence=2, interactions=[small] * count),
    ]
    call = service.interaction.IngestInteractions(
        iter(batches), metadata=(("x-tenant-id", "a"),), timeout=90
    )
    answers = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for answer in call:
            answers.append(answer)
    refusal = refusal_of(caught.value)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", ["interactions"])
    assert [a.sequence for a in answers] == [1]


async def test_stream_takes_ten_thousand_rows(service: Service):
    rows = [interaction(user_id=f"u{n % 97}", entity=book(f"b{n % 31}")) for n in range(10_000)]
    (answer,) = await stream(service, pb.IngestInteractionsRequest(interactions=rows))
    assert (answer.stored_count, list(answer.errors)) == (10_000, [])
