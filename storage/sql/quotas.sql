-- name: use_quota
-- Adds interactions and entities to what a tenant used today; the sums with what others have committed.
WITH mine AS (
    INSERT INTO quota_usage AS q (tenant_id, day, slot, interactions, entities)
    VALUES ($1, (now() AT TIME ZONE 'UTC')::date, pg_backend_pid() % 16, $2, $3)
    ON CONFLICT (tenant_id, day, slot) DO UPDATE
    SET interactions = q.interactions + EXCLUDED.interactions, entities = q.entities + EXCLUDED.entities
    RETURNING q.day, q.slot, q.interactions, q.entities
)
SELECT (m.interactions + coalesce(
        (SELECT sum(o.interactions) FROM quota_usage o
         WHERE o.tenant_id = $1 AND o.day = m.day AND o.slot <> m.slot), 0))::bigint AS interactions,
    (m.entities + coalesce(
        (SELECT sum(o.entities) FROM quota_usage o
         WHERE o.tenant_id = $1 AND (o.day, o.slot) <> (m.day, m.slot)), 0)
    + coalesce((SELECT b.entities_base FROM quota_measures b WHERE b.tenant_id = $1), 0))::bigint AS entities
FROM mine m;

-- name: read_usage
-- What a tenant uses, as it is counted.
SELECT coalesce(sum(u.interactions) FILTER (WHERE u.day = (now() AT TIME ZONE 'UTC')::date), 0)::bigint AS interactions,
    coalesce(sum(u.training_secs) FILTER (WHERE u.day = (now() AT TIME ZONE 'UTC')::date), 0) AS training_secs,
    (coalesce(sum(u.entities), 0) + coalesce((SELECT b.entities_base FROM quota_measures b WHERE b.tenant_id = $1), 0))::bigint AS entities,
    coalesce((SELECT b.stored_bytes FROM quota_measures b WHERE b.tenant_id = $1), 0) AS stored_bytes,
    (SELECT b.measured_at FROM quota_measures b WHERE b.tenant_id = $1) AS measured_at
FROM quota_usage u
WHERE (SELECT penchant_guard_read($1, $2)) AND u.tenant_id = $1;

-- name: set_quotas
-- New limits; every worker notices by the version (maintenance).
UPDATE tenants SET quotas = $2::jsonb, version = nextval('revision_seq'), updated_at = now()
WHERE tenant_id = $1 AND state = 'active'
RETURNING tenant_id;

-- name: interactions_today
-- How many of the interactions that were stored since midnight (UTC) are there (maintenance).
SELECT count(*) FROM interactions i
WHERE i.tenant_id = $1 AND i.received_at >= date_trunc('day', now(), 'UTC');

-- name: seed_interactions
-- What was stored today before it was counted (maintenance).
WITH counted AS (
    SELECT count(*) AS interactions FROM interactions i
    WHERE i.tenant_id = $1 AND i.received_at >= date_trunc('day', now(), 'UTC')
), used AS (
    SELECT coalesce(sum(u.interactions), 0) AS interactions FROM quota_usage u
    WHERE u.tenant_id = $1 AND u.day = (now() AT TIME ZONE 'UTC')::date AND u.slot >= 0
)
INSERT INTO quota_usage AS q (tenant_id, day, slot, interactions)
SELECT $1, (now() AT TIME ZONE 'UTC')::date, -1, greatest(0, c.interactions - u.interactions) FROM counted c, used u
ON CONFLICT (tenant_id, day, slot) DO UPDATE SET interactions = greatest(q.interactions, EXCLUDED.interactions);

-- name: measure
-- Counts a tenant's entities and weighs its rows and artefacts (maintenance). Rows are weighed by a
-- sample of a thousand; a half is added for indexes and what lies between rows. All in one snapshot.
WITH counted AS MATERIALIZED (
    SELECT count(*) AS entities FROM entities e
    WHERE e.placement = (SELECT t.placement FROM tenants t WHERE t.tenant_id = $1) AND e.tenant_id = $1
), kept AS (
    SELECT coalesce(sum(u.entities), 0) AS entities FROM quota_usage u
    WHERE u.tenant_id = $1 AND u.day >= (now() AT TIME ZONE 'UTC')::date - 1
), gone AS (
    -- What is deleted here goes into the base; no transaction under way still writes to those days.
    DELETE FROM quota_usage u WHERE u.tenant_id = $1 AND u.day < (now() AT TIME ZONE 'UTC')::date - 1
), weights (row_count, row_bytes) AS (
    SELECT c.entities, (
        SELECT avg(pg_column_size(s)) FROM (
            SELECT e.* FROM entities e
            WHERE e.placement = (SELECT t.placement FROM tenants t WHERE t.tenant_id = $1) AND e.tenant_id = $1
            LIMIT 1000
        ) s)
    FROM counted c
    UNION ALL
    SELECT (SELECT count(*) FROM interactions i WHERE i.tenant_id = $1),
        (SELECT avg(pg_column_size(s)) FROM (SELECT i.* FROM interactions i WHERE i.tenant_id = $1 LIMIT 1000) s)
    UNION ALL
    SELECT (SELECT count(*) FROM interaction_keys k WHERE k.tenant_id = $1),
        (SELECT avg(pg_column_size(s)) FROM (SELECT k.* FROM interaction_keys k WHERE k.tenant_id = $1 LIMIT 1000) s)
    UNION ALL
    SELECT (SELECT count(*) FROM user_profiles p WHERE p.tenant_id = $1),
        (SELECT avg(pg_column_size(s)) FROM (SELECT p.* FROM user_profiles p WHERE p.tenant_id = $1 LIMIT 1000) s)
    UNION ALL
    SELECT (SELECT count(*) FROM embeddings e WHERE e.tenant_id = $1),
        (SELECT avg(pg_column_size(s)) FROM (SELECT e.* FROM embeddings e WHERE e.tenant_id = $1 LIMIT 1000) s)
    UNION ALL
    SELECT (SELECT count(*) FROM prediction_cache p WHERE p.tenant_id = $1),
        (SELECT avg(pg_column_size(s)) FROM (SELECT p.* FROM prediction_cache p WHERE p.tenant_id = $1 LIMIT 1000) s)
), artefacts AS (
    SELECT coalesce(sum(m.size_bytes), 0) AS bytes
    FROM (SELECT DISTINCT ON (v.content_hash) v.size_bytes FROM ml_models v WHERE v.tenant_id = $1) m
)
INSERT INTO quota_measures AS q (tenant_id, entities_base, stored_bytes)
SELECT $1, c.entities - k.entities,
    (1.5 * (SELECT coalesce(sum(w.row_count * w.row_bytes), 0) FROM weights w) + a.bytes)::bigint
FROM counted c, kept k, artefacts a
ON CONFLICT (tenant_id) DO UPDATE
SET entities_base = EXCLUDED.entities_base, stored_bytes = EXCLUDED.stored_bytes, measured_at = now();

-- name: purge_usage
-- Forgets past days of tenants whose entities are not counted (maintenance).
DELETE FROM quota_usage u WHERE u.day < (now() AT TIME ZONE 'UTC')::date - 1 AND u.entities = 0;
