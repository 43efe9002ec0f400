-- name: cache_predictions
-- Stores predictions under a key for $7 seconds; what the key held is gone, and its counts with it.
INSERT INTO prediction_cache (tenant_id, cache_key, predictions, metadata, expires_at)
SELECT $1, $4, $5, $6::jsonb, now() + make_interval(secs => $7::double precision)
WHERE (SELECT penchant_guard_write($1, $2, $3))
ON CONFLICT (tenant_id, cache_key) DO UPDATE
SET predictions = EXCLUDED.predictions, metadata = EXCLUDED.metadata, cached_at = now(),
    expires_at = EXCLUDED.expires_at, access_count = 0, last_accessed = now()
RETURNING expires_at;

-- name: get_cached_predictions
-- What a key holds, and counts the access; no row once it has expired.
UPDATE prediction_cache p
SET access_count = least(p.access_count, 2147483646) + 1, last_accessed = now()
WHERE (SELECT penchant_guard_write($1, $2, $3)) AND p.tenant_id = $1 AND p.cache_key = $4 AND p.expires_at > now()
RETURNING p.cache_key, p.predictions, p.metadata, p.cached_at, p.expires_at, p.access_count, p.last_accessed;

-- name: clear_cache
-- Removes the keys that a LIKE pattern matches; how many.
WITH gone AS (
    DELETE FROM prediction_cache p
    WHERE (SELECT penchant_guard_write($1, $2, $3)) AND p.tenant_id = $1 AND p.cache_key LIKE $4
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: cache_statistics
-- Entries, bytes and accesses of a tenant's cache.
SELECT count(*) AS entries, count(*) FILTER (WHERE p.expires_at <= now()) AS expired_entries,
    coalesce(sum(octet_length(p.predictions)), 0)::bigint AS size_bytes,
    coalesce(sum(p.access_count), 0)::bigint AS accesses,
    count(*) FILTER (WHERE p.access_count > 0) AS entries_used,
    min(p.cached_at) AS oldest, max(p.cached_at) AS newest, max(p.last_accessed) FILTER (WHERE p.access_count > 0) AS last_accessed
FROM prediction_cache p
WHERE (SELECT penchant_guard_read($1, $2)) AND p.tenant_id = $1;

-- name: purge_expired
-- Up to $1 entries of all tenants that have expired; how many went (maintenance).
WITH gone AS (
    DELETE FROM prediction_cache WHERE id IN (
        SELECT p.id FROM prediction_cache p WHERE p.expires_at <= now()
        ORDER BY p.expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
)
SELECT count(*) FROM gone;
