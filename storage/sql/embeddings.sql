-- name: lock_sets
-- Keeps the tenant in place and other writers of the same sets (types $4, versions $5) waiting, in one
-- order, until the transaction ends; how many sets there are.
SELECT penchant_guard_write($1, $2, $3), (
    SELECT count(pg_advisory_xact_lock(s.key)) FROM (
        SELECT DISTINCT hashtextextended(concat_ws(E'\x1f', $1::text, n.entity_type, n.version), 1346719315) AS key
        FROM unnest($4::text[], $5::text[]) AS n (entity_type, version) ORDER BY key
    ) AS s
) AS sets;

-- name: save_embeddings
-- Stores all or, when one has another dimension than its set has, none: then the places (from 0) of those
-- and the sets' dimensions come back (the sets are locked).
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::integer[])
        WITH ORDINALITY AS g (entity_type, entity_id, version, embeddings, dimension, place)
), mismatched AS MATERIALIZED (
    SELECT g.place, s.dimension FROM given g
    CROSS JOIN LATERAL (
        SELECT e.dimension FROM embeddings e
        WHERE e.tenant_id = $1 AND e.entity_type = g.entity_type AND e.version = g.version LIMIT 1
    ) AS s
    WHERE s.dimension <> g.dimension
), saved AS (
    INSERT INTO embeddings (tenant_id, entity_type, entity_id, version, embeddings, dimension)
    SELECT $1, g.entity_type, g.entity_id, g.version, g.embeddings, g.dimension FROM given g
    WHERE NOT EXISTS (SELECT 1 FROM mismatched)
    ORDER BY g.entity_type, g.entity_id, g.version
    ON CONFLICT (tenant_id, entity_type, entity_id, version)
    DO UPDATE SET embeddings = EXCLUDED.embeddings, dimension = EXCLUDED.dimension, updated_at = now()
)
SELECT (m.place - 1)::integer AS place, m.dimension FROM mismatched m ORDER BY m.place;

-- name: get_embedding
-- One embedding; of "latest" the one of the entity written last.
SELECT e.* FROM embeddings e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.tenant_id = $1 AND e.entity_type = $3 AND e.entity_id = $4
    AND ($5 = 'latest' OR e.version = $5)
ORDER BY e.updated_at DESC, e.version DESC
LIMIT 1;

-- name: list_embeddings
-- A page of a set after an id, in byte order; of "latest" the type's set that was written to last.
SELECT e.* FROM embeddings e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.tenant_id = $1 AND e.entity_type = $3
    AND e.version = CASE WHEN $4 = 'latest' THEN (
        SELECT l.version FROM embeddings l
        WHERE l.tenant_id = $1 AND l.entity_type = $3
        ORDER BY l.updated_at DESC, l.version DESC LIMIT 1
    ) ELSE $4 END
    AND e.entity_id > $5
ORDER BY e.entity_id
LIMIT $6;

-- name: embeddings_stats
-- Counts, bytes and time of the last write of each set.
SELECT e.entity_type, e.version, e.dimension, count(*) AS embedding_count,
    sum(octet_length(e.embeddings))::bigint AS size_bytes, max(e.updated_at) AS updated_at
FROM embeddings e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.tenant_id = $1
GROUP BY e.entity_type, e.version, e.dimension
ORDER BY e.entity_type, e.version, e.dimension;

-- name: remove_set
-- Removes a set; how many embeddings it had.
WITH gone AS (
    DELETE FROM embeddings e
    WHERE (SELECT penchant_guard_write($1, $2, $3)) AND e.tenant_id = $1 AND e.entity_type = $4 AND e.version = $5
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_older
-- Removes what was not written since an instant, of one type ($5) or all; how many.
WITH gone AS (
    DELETE FROM embeddings e
    WHERE (SELECT penchant_guard_write($1, $2, $3)) AND e.tenant_id = $1 AND e.updated_at < $4
        AND ($5::text IS NULL OR e.entity_type = $5)
    RETURNING 1
)
SELECT count(*) FROM gone;
