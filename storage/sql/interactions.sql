-- name: ingest_interactions
-- A batch in one statement: keys (idempotency), the event log, stubs of unknown entities and the
-- profiles' accumulators. Returns one row for each input row, in order. Rows whose id was stored by
-- a transaction that committed after this statement's snapshot return no hash: see get_keys.
-- The transaction of a row that was stored before is the latest one that there is: who was told meanwhile of later
-- ones, and goes on with this ack, must not be given an answer that lacks those.
WITH guard AS MATERIALIZED (
    SELECT penchant_guard_write($1, $2, $3) AS ok
), refusals AS MATERIALIZED (
    SELECT penchant_refused(guard.ok, $1, $19::bytea[], $20::bytea[], $12::timestamptz[]) AS rows FROM guard
), input AS MATERIALIZED (
    SELECT u.*, e.entity_no, e.feature_vector
    FROM refusals, unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::double precision[],
        $11::jsonb[], $12::timestamptz[], $13::text[], $14::integer[], $15::bytea[], $16::boolean[], refusals.rows)
        WITH ORDINALITY AS u (interaction_id, user_id, entity_type, entity_id, interaction_type, weight,
            metadata, happened_at, recommendation_id, place, payload_hash, touches_profile, refused, ord)
    LEFT JOIN entities e ON e.placement = $4 AND e.tenant_id = $1
        AND e.entity_type = u.entity_type AND e.entity_id = u.entity_id
), chosen AS MATERIALIZED (
    SELECT DISTINCT ON (i.interaction_id) i.*
    FROM input i
    WHERE ($17 OR i.entity_no IS NOT NULL) AND i.refused IS NOT TRUE
    ORDER BY i.interaction_id, i.ord
), new_keys AS (
    INSERT INTO interaction_keys (tenant_id, interaction_id, payload_hash)
    SELECT $1, c.interaction_id, c.payload_hash FROM chosen c
    ON CONFLICT (tenant_id, interaction_id) DO NOTHING
    RETURNING interaction_id, payload_hash, received_at, transaction_id
), fresh AS MATERIALIZED (
    SELECT c.*, n.received_at FROM chosen c JOIN new_keys n USING (interaction_id)
), events AS (
    INSERT INTO interactions (tenant_id, interaction_id, user_id, entity_type, entity_id, interaction_type,
        weight, metadata, "timestamp", received_at, recommendation_id, position)
    SELECT $1, f.interaction_id, f.user_id, f.entity_type, f.entity_id, f.interaction_type,
        f.weight, f.metadata, f.happened_at, f.received_at, f.recommendation_id, f.place
    FROM fresh f
), stubs AS (
    INSERT INTO entities (placement, tenant_id, entity_type, entity_id, stub)
    SELECT DISTINCT $4, $1, f.entity_type, f.entity_id, true
    FROM fresh f WHERE f.entity_no IS NULL
    ORDER BY 3, 4
    ON CONFLICT (placement, tenant_id, entity_type, entity_id) DO NOTHING
    RETURNING entity_no
), landmarks AS MATERIALIZED (
    -- Of a grid, a cell as wide as e^20: a profile mostly has the same one, and what is added to it
    -- needs no factor.
    SELECT f.user_id, to_timestamp(floor(date_part('epoch', max(f.happened_at)) * $18 / 20) * 20 / $18) AS landmark,
        count(*) FILTER (WHERE f.weight <> 0) AS interaction_count,
        max(f.happened_at) FILTER (WHERE f.weight <> 0) AS last_interaction_at
    FROM fresh f WHERE f.touches_profile
    GROUP BY f.user_id
), shares AS MATERIALIZED (
    -- What a float cannot hold is an error: tiny weights count nothing, and nothing counts less than e^-100.
    SELECT f.user_id, f.feature_vector, vector_dims(f.feature_vector) AS size,
        CASE WHEN abs(f.weight) < 1e-12 THEN 0
            ELSE f.weight * exp(-least($18 * date_part('epoch', l.landmark - f.happened_at), 100)) END AS factor
    FROM fresh f JOIN landmarks l USING (user_id)
    WHERE f.touches_profile AND f.weight <> 0 AND f.feature_vector IS NOT NULL
), scales AS MATERIALIZED (
    -- pgvector multiplies by vectors alone. To make one costs as much as all else about a row's gain,
    -- and rows of a batch mostly share theirs; penchant_scale, a call, costs several times as much.
    SELECT d.factor, d.size,
        array_fill(CASE WHEN abs(d.factor) < 1e-12 THEN 0 ELSE d.factor END::real, ARRAY[d.size])::vector AS scale
    FROM (SELECT DISTINCT s.factor, s.size FROM shares s) d
), gains AS MATERIALIZED (
    SELECT s.user_id, sum(l2_normalize(s.feature_vector)::vector * c.scale) AS accumulator
    FROM shares s JOIN scales c USING (factor, size)
    GROUP BY s.user_id
), profiles AS (
    INSERT INTO user_profiles AS p (tenant_id, user_id, accumulator, landmark, interaction_count, last_interaction_at)
    SELECT $1, l.user_id, g.accumulator, l.landmark, l.interaction_count, l.last_interaction_at
    FROM landmarks l LEFT JOIN gains g USING (user_id)
    ORDER BY l.user_id
    ON CONFLICT (tenant_id, user_id) DO UPDATE SET
        -- An exponent may reach 20 in a cell and 10 beyond it: e^30 is far from a float's end.
        accumulator = CASE
            WHEN EXCLUDED.accumulator IS NULL THEN p.accumulator
            WHEN p.accumulator IS NULL THEN EXCLUDED.accumulator
            WHEN EXCLUDED.landmark = p.landmark THEN p.accumulator + EXCLUDED.accumulator
            WHEN $18 * date_part('epoch', EXCLUDED.landmark - p.landmark) > 10 THEN
                penchant_rebase(p.accumulator,
                    exp(-least($18 * date_part('epoch', EXCLUDED.landmark - p.landmark), 100)))
                + EXCLUDED.accumulator
            ELSE p.accumulator + EXCLUDED.accumulator * array_fill(
                CASE
                    WHEN $18 * date_part('epoch', EXCLUDED.landmark - p.landmark) < ln(1e-12::double precision) THEN 0
                    ELSE exp($18 * date_part('epoch', EXCLUDED.landmark - p.landmark))
                END::real, ARRAY[vector_dims(EXCLUDED.accumulator)])::vector
        END,
        landmark = CASE
            WHEN EXCLUDED.accumulator IS NULL THEN p.landmark
            WHEN p.accumulator IS NULL THEN EXCLUDED.landmark
            WHEN $18 * date_part('epoch', EXCLUDED.landmark - p.landmark) > 10 THEN EXCLUDED.landmark
            ELSE p.landmark
        END,
        interaction_count = p.interaction_count + EXCLUDED.interaction_count,
        last_interaction_at = greatest(p.last_interaction_at, EXCLUDED.last_interaction_at),
        -- EXCLUDED has drawn one already.
        preference_stale = true, revision = EXCLUDED.revision, updated_at = now()
)
SELECT n.interaction_id IS NOT NULL AS stored,
    i.refused IS TRUE AS refused,
    NOT $17 AND i.entity_no IS NULL AS unknown_entity,
    coalesce(n.payload_hash, o.payload_hash) AS payload_hash,
    coalesce(n.received_at, o.received_at) AS received_at,
    coalesce(n.transaction_id, greatest(o.transaction_id, (pg_snapshot_xmax(pg_current_snapshot())::text)::bigint - 1)) AS transaction_id,
    (SELECT count(*) FROM stubs) AS stub_count
FROM input i
LEFT JOIN new_keys n USING (interaction_id)
LEFT JOIN interaction_keys o ON o.tenant_id = $1
    AND o.interaction_id = CASE WHEN n.interaction_id IS NULL THEN i.interaction_id END
ORDER BY i.ord;

-- name: get_keys
-- What is remembered of some interaction ids, with the latest transaction that there is.
SELECT interaction_id, payload_hash, received_at,
    greatest(transaction_id, (pg_snapshot_xmax(pg_current_snapshot())::text)::bigint - 1) AS transaction_id
FROM interaction_keys
WHERE tenant_id = $1 AND interaction_id = ANY($2::text[]);

-- name: list_interactions_by_user
-- A page of one user's interactions, newest first, after a position.
SELECT i.*, i.metadata::text AS metadata_text FROM interactions i
WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1 AND i.user_id = $3
    AND ($4::text IS NULL OR i.interaction_type = $4)
    AND (i."timestamp", i.interaction_id) < ($5, $6)
ORDER BY i."timestamp" DESC, i.interaction_id DESC
LIMIT $7;

-- name: list_interactions_by_entity
-- A page of one entity's interactions, newest first, after a position.
SELECT i.*, i.metadata::text AS metadata_text FROM interactions i
WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1 AND i.entity_type = $3 AND i.entity_id = $4
    AND ($5::text IS NULL OR i.interaction_type = $5)
    AND (i."timestamp", i.interaction_id) < ($6, $7)
ORDER BY i."timestamp" DESC, i.interaction_id DESC
LIMIT $8;

-- name: delete_interactions
-- Removes interactions that satisfy every given condition; returns the users concerned, with counts.
WITH gone AS (
    DELETE FROM interactions i
    WHERE i.tenant_id = $1
        AND ($2::text IS NULL OR i.user_id = $2)
        AND ($3::text IS NULL OR i.entity_type = $3)
        AND ($4::text IS NULL OR i.entity_id = $4)
        AND ($5::text[] IS NULL OR i.interaction_id = ANY($5))
        AND ($6::timestamptz IS NULL OR i."timestamp" < $6)
    RETURNING i.user_id
)
SELECT user_id, count(*) AS deleted_count FROM gone GROUP BY user_id ORDER BY user_id;

-- name: lock_profiles
-- Profiles of some users, made where they do not exist, locked until the transaction ends.
WITH wanted AS MATERIALIZED (
    SELECT DISTINCT user_id FROM unnest($2::text[]) AS u (user_id)
), made AS (
    INSERT INTO user_profiles (tenant_id, user_id, landmark)
    SELECT $1, user_id, 'epoch' FROM wanted ORDER BY user_id
    ON CONFLICT (tenant_id, user_id) DO UPDATE SET updated_at = now()
    RETURNING user_id
)
SELECT count(*) FROM made;

-- name: rebuild_profiles
-- Profiles of some (locked) users made anew from the log, as ingest would have made them.
WITH wanted AS MATERIALIZED (
    SELECT DISTINCT user_id FROM unnest($3::text[]) AS u (user_id)
), events AS MATERIALIZED (
    SELECT i.user_id, i.weight, i."timestamp" AS happened_at, e.feature_vector
    FROM wanted w
    JOIN interactions i ON i.tenant_id = $1 AND i.user_id = w.user_id AND i.weight <> 0
    LEFT JOIN entities e ON e.placement = $2 AND e.tenant_id = $1
        AND e.entity_type = i.entity_type AND e.entity_id = i.entity_id
), landmarks AS (
    SELECT user_id, to_timestamp(floor(date_part('epoch', max(happened_at)) * $4 / 20) * 20 / $4) AS landmark,
        max(happened_at) AS newest, count(*) AS interaction_count
    FROM events GROUP BY user_id
), shares AS MATERIALIZED (
    SELECT v.user_id, v.feature_vector,
        CASE WHEN abs(v.weight) < 1e-12 THEN 0
            ELSE v.weight * exp(-least($4 * date_part('epoch', l.landmark - v.happened_at), 100)) END AS factor
    FROM landmarks l JOIN events v USING (user_id)
), sums AS (
    SELECT l.user_id, l.landmark, l.newest, l.interaction_count, sum(
        l2_normalize(v.feature_vector)::vector * array_fill(
            CASE WHEN abs(v.factor) < 1e-12 THEN 0 ELSE v.factor END::real, ARRAY[vector_dims(v.feature_vector)]
        )::vector
    ) FILTER (WHERE v.feature_vector IS NOT NULL) AS accumulator
    FROM landmarks l JOIN shares v USING (user_id)
    GROUP BY l.user_id, l.landmark, l.newest, l.interaction_count
)
UPDATE user_profiles p
SET accumulator = s.accumulator, landmark = coalesce(s.landmark, 'epoch'),
    interaction_count = coalesce(s.interaction_count, 0), last_interaction_at = s.newest,
    preference_stale = true, revision = nextval('revision_seq'), updated_at = now()
FROM wanted w LEFT JOIN sums s USING (user_id)
WHERE p.tenant_id = $1 AND p.user_id = w.user_id;

-- name: delete_empty_profiles
-- Profiles of users who have no interactions left at all.
DELETE FROM user_profiles p
WHERE p.tenant_id = $1 AND p.user_id = ANY($2::text[]) AND p.interaction_count = 0
    AND NOT EXISTS (SELECT 1 FROM interactions i WHERE i.tenant_id = $1 AND i.user_id = p.user_id);

-- name: move_interactions
-- All interactions of one user become another's.
WITH moved AS (
    UPDATE interactions SET user_id = $3 WHERE tenant_id = $1 AND user_id = $2 RETURNING 1
)
SELECT count(*) FROM moved;

-- name: purge_keys
-- Forgets idempotency keys older than an instant, a slice at a time (maintenance).
WITH old AS (
    SELECT tenant_id, interaction_id FROM interaction_keys WHERE received_at < $1 ORDER BY received_at LIMIT $2
), gone AS (
    DELETE FROM interaction_keys k USING old
    WHERE k.tenant_id = old.tenant_id AND k.interaction_id = old.interaction_id
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: latest_ingests
-- When each tenant ingested something last, of those that did since an instant (maintenance).
SELECT k.tenant_id, max(k.received_at) AS received_at
FROM interaction_keys k WHERE k.received_at >= $1 GROUP BY k.tenant_id;

-- name: ensure_interaction_partitions
-- Partitions of the log for the months to come (owner).
SELECT penchant_ensure_interaction_partitions($1);

-- name: current_transaction
-- The number of the transaction under way.
SELECT (pg_current_xact_id()::text)::bigint;
