"""Row-level security: nobody but maintenance sees rows of a tenant that is not set."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE

READER = "penchant_test_reader"
TABLES = """
SELECT DISTINCT c.table_name::text FROM information_schema.columns c
WHERE c.table_schema = 'public' AND c.column_name = 'tenant_id' ORDER BY 1
"""
PARTITIONS = ("entities_", "interactions_", "answer_log_")
FILL = """
INSERT INTO tenants (tenant_id) VALUES ('a'), ('b');
INSERT INTO interaction_types (tenant_id, interaction_type, weight)
    VALUES ('a', 'v', 1), ('b', 'v', 1);
INSERT INTO catalogue_revisions (tenant_id, slot) VALUES ('a', 0), ('b', 0);
SELECT penchant_move_prepare('a', 0, 7);
INSERT INTO entities_p7 (placement, tenant_id, entity_type, entity_id)
    VALUES (7, 'a', 't', 'x'), (7, 'b', 't', 'x');
INSERT INTO entities (placement, tenant_id, entity_type, entity_id)
    VALUES (0, 'a', 't', 'e'), (0, 'b', 't', 'e');
INSERT INTO interactions (tenant_id, interaction_id, user_id, entity_type, entity_id,
    interaction_type, weight, "timestamp", received_at)
SELECT t, 'i', 'u', 't', 'e', 'v', 1, now(), m
FROM unnest(ARRAY['a', 'b']) AS t,
    unnest(ARRAY[now(), now() + interval '1 month', now() + interval '2 months', 'epoch']) AS m;
INSERT INTO interaction_keys (tenant_id, interaction_id, payload_hash)
    VALUES ('a', 'i', ''), ('b', 'i', '');
INSERT INTO user_profiles (tenant_id, user_id, landmark)
    VALUES ('a', 'u', now()), ('b', 'u', now());
INSERT INTO profile_rebuilds (tenant_id, entity_type, entity_id)
    VALUES ('a', 't', 'e'), ('b', 't', 'e');
INSERT INTO trending_entities
    VALUES ('a', 't', 'e', 1, now(), now()), ('b', 't', 'e', 1, now(), now());
INSERT INTO popular_entities VALUES ('a', '', 't', 'e', 1), ('b', '', 't', 'e', 1);
INSERT INTO entity_neighbours VALUES ('a', 1, '{2}', '{1}'), ('b', 1, '{2}', '{1}');
INSERT INTO job_states (tenant_id, job, input_mark) VALUES ('a', 'j', ''), ('b', 'j', '');
INSERT INTO placement_moves (tenant_id, from_placement, to_placement)
    VALUES ('a', 0, 7), ('b', 0, 8);
INSERT INTO placement_changes (tenant_id, entity_type, entity_id)
    VALUES ('a', 't', 'e'), ('b', 't', 'e');
INSERT INTO models (tenant_id, model_name, algorithm) VALUES ('a', 'm', 'x'), ('b', 'm', 'x');
INSERT INTO ml_models (tenant_id, model_name, version, model_data, content_hash, size_bytes)
    VALUES ('a', 'm', '1', '{}', '', 0), ('b', 'm', '1', '{}', '', 0);
INSERT INTO model_promotions (tenant_id, model_name, version, reason)
    VALUES ('a', 'm', '1', ''), ('b', 'm', '1', '');
INSERT INTO training_metrics (tenant_id, model_name, version, metrics)
    VALUES ('a', 'm', '1', '{}'), ('b', 'm', '1', '{}');
INSERT INTO embeddings (tenant_id, entity_type, entity_id, embeddings, dimension)
    VALUES ('a', 't', 'e', float4send(0), 1), ('b', 't', 'e', float4send(0), 1);
INSERT INTO prediction_cache (tenant_id, cache_key, predictions, expires_at)
    VALUES ('a', 'k', '', now() + interval '1 hour'), ('b', 'k', '', now() + interval '1 hour');
INSERT INTO user_segments (tenant_id, user_id, segment, factors)
    VALUES ('a', 'u', 's', '[1]'), ('b', 'u', 's', '[1]');
INSERT INTO operations (tenant_id, kind, target) VALUES ('a', 'train', 'm'), ('b', 'train', 'm');
INSERT INTO erased_users (tenant_id, user_hash, erased_at)
    SELECT t, sha256('u'), now() FROM unnest(ARRAY['a', 'b']) AS t;
INSERT INTO erasure_receipts (tenant_id, receipt_id, subject, erased_at, payload, signature, key_id)
    SELECT t, 'r', 'user', now(), '{}', sha256('p') || sha256('q'), 'k'
    FROM unnest(ARRAY['a', 'b']) AS t;
INSERT INTO answer_log
    SELECT t, 'r', 'u', at, at, '{}', '' FROM unnest(ARRAY['a', 'b']) AS t,
        (SELECT now() + n * interval '24 hours' AS at FROM generate_series(-1, 3) AS n) AS days;
INSERT INTO quota_usage (tenant_id, day, slot) VALUES ('a', 'epoch', 0), ('b', 'epoch', 0);
INSERT INTO quota_measures (tenant_id, entities_base, stored_bytes) VALUES ('a', 0, 0), ('b', 0, 0);
INSERT INTO index_quality (tenant_id, measured_at, recall, sampled_queries, ef_search)
    VALUES ('a', now(), 1, 1, 100), ('b', now(), 1, 1, 100);
INSERT INTO audit_events (actor, method, tenant_id, target, code, peer, request_id)
    VALUES ('x', 'm', 'a', '', 'OK', '', ''), ('x', 'm', 'b', '', 'OK', '', '');
INSERT INTO api_keys (key_id, tenant_id, scopes, secret_hash, pepper)
    VALUES ('aaaaaaaaaaaa', 'a', '{x}', decode(repeat('00', 32), 'hex'), ''),
    ('bbbbbbbbbbbb', 'b', '{x}', decode(repeat('00', 32), 'hex'), '');
"""


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to a database in which two tenants have rows everywhere."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"SET ROLE {MAINTENANCE_ROLE}")
    for statement in filter(str.strip, FILL.split(";\n")):
        if "penchant_move_prepare" in statement or "entities_p7" in statement:
            await connection.execute("RESET ROLE")
        await connection.execute(statement)
        await connection.execute(f"SET ROLE {MAINTENANCE_ROLE}")
    await connection.execute("RESET ROLE")
    yield connection
    await connection.close()


@pytest.fixture
async def reader(owner: asyncpg.Connection, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A login role without BYPASSRLS that may SELECT from every table."""
    await owner.execute(f"CREATE ROLE {READER} LOGIN NOBYPASSRLS")
    await owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
    connection = await asyncpg.connect(database_url, user=READER)
    try:
        yield connection
    finally:
        await connection.close()
        await owner.execute(f"DROP OWNED BY {READER}")
        await owner.execute(f"DROP ROLE {READER}")


async def tables(connection: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await connection.fetch(TABLES)]


async def seen(connection: asyncpg.Connection, table: str, condition: str = "true") -> dict:
    sql = f'SELECT tenant_id, count(*) FROM "{table}" WHERE {condition} GROUP BY tenant_id'
    return dict(await connection.fetch(sql))


async def set_tenant(connection: asyncpg.Connection, tenant_id: str) -> None:
    await connection.execute("SELECT set_config('penchant.tenant_id', $1, false)", tenant_id)


async def test_every_tenant_table_forces_row_level_security(owner: asyncpg.Connection):
    rows = await owner.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class"
        " WHERE relname = ANY($1) AND relnamespace = 'public'::regnamespace",
        await tables(owner),
    )
    assert {row["relname"] for row in rows if not row["forced"]} == set()


async def test_maintenance_sees_both_tenants_everywhere(owner: asyncpg.Connection):
    names = await tables(owner)
    assert len(names) >= 26
    await owner.execute(f"SET ROLE {MAINTENANCE_ROLE}")
    empty = {name for name in names if set(await seen(owner, name)) != {"a", "b"}}
    assert empty == set()


async def test_reader_without_a_tenant_sees_nothing(reader: asyncpg.Connection):
    names = await tables(reader)
    counts = {n: await reader.fetchval(f'SELECT count(*) FROM "{n}"') for n in names}
    assert counts == dict.fromkeys(names, 0)
    await set_tenant(reader, "")
    assert {name: await seen(reader, name) for name in names} == {name: {} for name in names}


async def test_reader_of_a_tenant_sees_its_rows_alone(reader: asyncpg.Connection):
    names = await tables(reader)
    await set_tenant(reader, "a")
    assert {name: set(await seen(reader, name)) for name in names} == {n: {"a"} for n in names}
    assert {name: await seen(reader, name, "tenant_id = 'b'") for name in names} == {
        name: {} for name in names
    }


async def test_service_role_sees_what_it_may_read_of_one_tenant(owner: asyncpg.Connection):
    await owner.execute(f"SET ROLE {SERVICE_ROLE}")
    readable = [
        name
        for name in await tables(owner)
        if await owner.fetchval("SELECT has_table_privilege($1, 'SELECT')", name)
    ]
    assert {"entities", "interactions", "tenants", "user_profiles"} <= set(readable)
    # A partition by its own name is nobody's business.
    assert not [name for name in readable if name.startswith(PARTITIONS)]
    assert {name: await seen(owner, name) for name in readable} == {n: {} for n in readable}
    await set_tenant(owner, "a")
    assert {name: set(await seen(owner, name)) for name in readable} == {n: {"a"} for n in readable}
    assert {name: await seen(owner, name, "tenant_id = 'b'") for name in readable} == {
        name: {} for name in readable
    }


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO entities (placement, tenant_id, entity_type, entity_id)"
        " VALUES (0, 'b', 't', 'n')",
        "INSERT INTO user_profiles (tenant_id, user_id, landmark) VALUES ('b', 'n', now())",
        "INSERT INTO models (tenant_id, model_name, algorithm) VALUES ('b', 'n', 'x')",
        "INSERT INTO model_promotions (tenant_id, model_name, version, reason)"
        " VALUES ('b', 'm', '1', '')",
        "UPDATE ml_models SET tenant_id = 'b', version = '2'",
        "UPDATE prediction_cache SET tenant_id = 'b', cache_key = 'n'",
        "UPDATE interactions SET tenant_id = 'b'",
        "UPDATE entities SET tenant_id = 'b' WHERE entity_id = 'e'",
    ],
)
async def test_service_role_writes_nothing_for_another_tenant(
    owner: asyncpg.Connection, statement: str
):
    await owner.execute(f"SET ROLE {SERVICE_ROLE}")
    await set_tenant(owner, "a")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute(statement)


async def test_service_role_changes_nothing_of_another_tenant(owner: asyncpg.Connection):
    await owner.execute(f"SET ROLE {SERVICE_ROLE}")
    await set_tenant(owner, "a")
    assert await owner.execute("DELETE FROM interactions WHERE tenant_id = 'b'") == "DELETE 0"
    assert (
        await owner.execute("UPDATE entities SET hidden = true WHERE tenant_id = 'b'") == "UPDATE 0"
    )
