"""The ledger of the fault suite sees what it looks for: the suite would be worth nothing else."""

from datetime import UTC, datetime, timedelta

import asyncpg

from tests.faults.ledger import Ledger, Like, Row

LIKES = [Like(f"t-{number}", "t-ada", f"f{number}") for number in range(4)]


async def store(connection: asyncpg.Connection, like: Like, copies: int = 1) -> None:
    for copy in range(copies):
        received = datetime.now(UTC) - timedelta(seconds=copy)
        await connection.execute(
            """
            INSERT INTO interactions (
                tenant_id, interaction_id, user_id, entity_type, entity_id, interaction_type,
                weight, "timestamp", received_at
            ) VALUES ('default', $1, $2, 'film', $3, 'like', 1, $4, $4)
            """,
            *(like.id, like.user, like.film, received),
        )


async def test_lost_doubled_and_miscounted_are_found(database_url: str) -> None:
    ledger = Ledger("t")
    stored, lost, doubled, given_up = LIKES
    for like in LIKES:
        ledger.send(like)
    for like in (stored, lost, doubled):
        ledger.acknowledge(like, "")
    connection = await asyncpg.connect(database_url)
    await store(connection, stored)
    await store(connection, doubled, copies=2)
    await store(connection, given_up)
    await store(connection, Like("t-unsent", "t-bob", "f1"))
    await connection.close()
    row = await ledger.settle(database_url, "planted", 1)
    assert row == Row("planted", 1, 3, 2, 1, 1, 3, 0, 0)
    assert [text.partition(" ")[0] for text in ledger.wrong] == ["stored,", "profile", "profile"]
