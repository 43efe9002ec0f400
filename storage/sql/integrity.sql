-- name: active_versions
-- The artefacts that the tenant's active versions name.
SELECT v.model_name, v.version, v.content_hash, v.size_bytes FROM ml_models v
WHERE (SELECT penchant_guard_read($1, $2)) AND v.tenant_id = $1 AND v.is_active
ORDER BY v.model_name, v.version;

-- name: serving_version
-- Whether what was promoted last, if anything, is an active version without a problem.
SELECT count(*) AS examined, count(*) FILTER (WHERE v.id IS NULL) AS problems,
    array_agg(p.model_name || '@' || p.version) FILTER (WHERE v.id IS NULL) AS examples
FROM (
    SELECT n.* FROM model_promotions n
    WHERE (SELECT penchant_guard_read($1, $2)) AND n.tenant_id = $1
    ORDER BY n.revision DESC LIMIT 1
) AS p
LEFT JOIN ml_models v ON v.tenant_id = $1 AND v.model_name = p.model_name AND v.version = p.version
    AND v.is_active AND v.problem = ''
WHERE p.version <> '';

-- name: profile_counts
-- Users whose profile counts other interactions than the log has, of all users in either.
WITH logged AS (
    SELECT i.user_id, count(*) FILTER (WHERE i.weight <> 0) AS counted
    FROM interactions i
    WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1
    GROUP BY i.user_id
), kept AS (
    SELECT p.user_id, p.interaction_count FROM user_profiles p WHERE p.tenant_id = $1
), compared AS (
    SELECT user_id, coalesce(k.interaction_count, 0) <> coalesce(l.counted, 0) AS differs
    FROM logged l FULL JOIN kept k USING (user_id)
)
SELECT count(*) AS examined, count(*) FILTER (WHERE differs) AS problems,
    (array_agg(user_id ORDER BY user_id) FILTER (WHERE differs))[1:10] AS examples
FROM compared;

-- name: count_profiles
-- How many profiles a tenant has.
SELECT count(*) FROM user_profiles p WHERE (SELECT penchant_guard_read($1, $2)) AND p.tenant_id = $1;

-- name: accumulators
-- Profiles after a user, a share of all, each with what rebuild_profiles would make of the log. The log
-- cannot say what vector an entity had that was changed or deleted since: users who met one are absent.
-- A user is sure where that change is also too old to have been under way when the interaction came.
WITH chosen AS MATERIALIZED (
    SELECT p.user_id, p.accumulator, p.landmark FROM user_profiles p
    WHERE (SELECT penchant_guard_read($1, $2)) AND p.tenant_id = $1 AND p.user_id > $5
        AND (hashtextextended(p.user_id, $6) & 9223372036854775807) <= $7::double precision * 9223372036854775807
    ORDER BY p.user_id LIMIT $8
), events AS MATERIALIZED (
    SELECT i.user_id, i.weight, i."timestamp" AS happened_at, e.feature_vector,
        CASE WHEN e.stub THEN e.created_at <= i.received_at ELSE e.updated_at <= i.received_at END AS settled,
        CASE WHEN e.stub THEN true ELSE e.updated_at < i.received_at - make_interval(secs => $9) END AS sure
    FROM chosen s
    JOIN interactions i ON i.tenant_id = $1 AND i.user_id = s.user_id AND i.weight <> 0
    LEFT JOIN entities e ON e.placement = $3 AND e.tenant_id = $1
        AND e.entity_type = i.entity_type AND e.entity_id = i.entity_id
), landmarks AS (
    SELECT user_id, max(happened_at) AS landmark, bool_and(coalesce(settled, false)) AS settled, bool_and(sure) AS sure
    FROM events GROUP BY user_id
), sums AS (
    SELECT l.user_id, l.landmark, l.settled, l.sure, sum(penchant_scale(
        l2_normalize(v.feature_vector)::vector,
        CASE WHEN abs(v.weight) < 1e-12 THEN 0
            ELSE v.weight * exp(-least($4 * extract(epoch FROM l.landmark - v.happened_at)::double precision, 100)) END
    )) AS accumulator,
        sum(abs(v.weight) * exp(-least($4 * extract(epoch FROM l.landmark - v.happened_at)::double precision, 100)))
            FILTER (WHERE v.feature_vector IS NOT NULL AND abs(v.weight) >= 1e-12) AS mass
    FROM landmarks l JOIN events v USING (user_id)
    GROUP BY l.user_id, l.landmark, l.settled, l.sure
)
SELECT s.user_id, s.accumulator AS kept, extract(epoch FROM s.landmark)::double precision AS kept_landmark,
    r.accumulator AS expected, extract(epoch FROM coalesce(r.landmark, s.landmark))::double precision AS expected_landmark,
    coalesce(r.mass, 0) AS mass, coalesce(r.settled, true) AS settled, coalesce(r.sure, true) AS sure
FROM chosen s LEFT JOIN sums r USING (user_id)
ORDER BY s.user_id;

-- name: missing_keys
-- Interactions of the idempotency window, but for its last hour, whose id is not remembered.
SELECT count(*) AS examined, count(*) FILTER (WHERE k.interaction_id IS NULL) AS problems,
    (array_agg(i.interaction_id) FILTER (WHERE k.interaction_id IS NULL))[1:10] AS examples
FROM interactions i
LEFT JOIN interaction_keys k ON k.tenant_id = i.tenant_id AND k.interaction_id = i.interaction_id
WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1
    AND i.received_at >= now() - make_interval(days => $3) + interval '1 hour';

-- name: orphans_of_tenant
-- Rows that belong to nothing: entities outside their placement, changes logged for no move, versions of
-- no model. Only kinds that have some are named.
WITH found AS (
    SELECT 'entities outside the placement' AS kind, count(*) AS rows_found FROM entities e
    WHERE (SELECT penchant_guard_read($1, $2)) AND e.placement = 0 AND $3 <> 0 AND e.tenant_id = $1
    UNION ALL
    SELECT 'entities of others in the placement', count(*) FROM entities e
    WHERE e.placement = $3 AND $3 <> 0 AND e.tenant_id <> $1
    UNION ALL
    SELECT 'placement_changes', count(*) FROM placement_changes c
    WHERE c.tenant_id = $1 AND NOT EXISTS (
        SELECT 1 FROM placement_moves m
        WHERE m.tenant_id = $1 AND m.phase IN ('copying', 'indexing', 'switching', 'cleaning')
    )
    UNION ALL
    SELECT 'ml_models', count(*) FROM ml_models v
    WHERE v.tenant_id = $1
        AND NOT EXISTS (SELECT 1 FROM models m WHERE m.tenant_id = $1 AND m.model_name = v.model_name)
)
SELECT (
        SELECT count(*) FROM entities e WHERE e.placement = $3 AND e.tenant_id = $1
    ) + (SELECT count(*) FROM ml_models v WHERE v.tenant_id = $1) + sum(rows_found)::bigint AS examined,
    sum(rows_found)::bigint AS problems,
    array_agg(kind || ': ' || rows_found ORDER BY kind) FILTER (WHERE rows_found > 0) AS examples
FROM found;

-- name: orphans
-- Rows of tenants that do not exist or are erased, and entities outside their tenant's placement.
SELECT (SELECT count(*) FROM tenants) AS examined, coalesce(sum(o.row_count), 0)::bigint AS problems,
    (array_agg(o.store || ' of ' || o.owner || ': ' || o.row_count ORDER BY o.store, o.owner))[1:10] AS examples
FROM penchant_orphans() o;

-- name: indexes
-- Indexes that searches for the tenant may use and cannot, or that are missing. One that is being built
-- concurrently is not wrong yet: its builder holds a lock on it. Locks are seen as they are now and not
-- as in the snapshot, so only what a second look finds as well is wrong.
WITH tables AS (
    SELECT t.oid, t.relname FROM pg_class t
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE (SELECT penchant_guard_read($1, $2)) AND t.relkind IN ('r', 'p')
        AND t.relnamespace = (SELECT n.relnamespace FROM pg_class n WHERE n.oid = 'tenants'::regclass)
        AND (t.relname !~ '^entities_p[1-9]' OR t.relname = 'entities_p' || $3::integer)
), present AS (
    SELECT i.indexrelid AS number, c.relname::text AS name, i.indrelid, m.amname,
        (i.indisvalid AND i.indisready AND i.indislive) AS well
    FROM tables t JOIN pg_index i ON i.indrelid = t.oid
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    WHERE i.indisvalid OR NOT EXISTS (
        SELECT 1 FROM pg_locks l
        WHERE l.relation = i.indexrelid AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
            AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    )
), examined AS (
    SELECT number, name, well FROM present
    UNION ALL
    SELECT t.oid, t.relname || ' has no HNSW index', false FROM tables t
    WHERE $3::integer <> 0 AND t.relname = 'entities_p' || $3::integer
        AND NOT EXISTS (SELECT 1 FROM present p WHERE p.indrelid = t.oid AND p.amname = 'hnsw')
)
SELECT number::bigint, name, well FROM examined ORDER BY name;

-- name: tombstones
-- Whom the tenant has erased, but for the last minutes, in which an erasure may be under way.
SELECT u.user_hash, u.readmitted, u.erased_at FROM erased_users u
WHERE (SELECT penchant_guard_read($1, $2)) AND u.tenant_id = $1
    AND u.erased_at < now() - make_interval(secs => $3);

-- name: users_in_log
-- Users after one, each with the time of the first interaction.
SELECT i.user_id, min(i."timestamp") AS first_at FROM interactions i
WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1 AND i.user_id > $3
GROUP BY i.user_id ORDER BY i.user_id LIMIT $4;
