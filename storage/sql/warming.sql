-- name: indexes_in_use
-- Tenants with a vector index, the most used first, as many as fit into PostgreSQL's buffers (maintenance).
SELECT s.tenant_id, s.placement, s.dimension, s.ef_search
FROM (
    SELECT t.tenant_id, t.placement, t.dimension, t.ef_search,
        sum(pg_relation_size(i.index)) OVER (
            ORDER BY pg_stat_get_numscans(i.index) DESC, t.tenant_no ROWS UNBOUNDED PRECEDING
        ) - pg_relation_size(i.index) AS bytes_before
    FROM tenants t CROSS JOIN LATERAL (SELECT to_regclass('entities_p' || t.placement || '_hnsw') AS index) AS i
    WHERE t.state = 'active' AND t.placement <> 0 AND i.index IS NOT NULL
) AS s
WHERE s.bytes_before < pg_size_bytes(current_setting('shared_buffers'))
ORDER BY s.bytes_before;

-- name: warm_placement
-- Searches of a tenant's index, which brings it into PostgreSQL's buffers (maintenance).
SELECT penchant_warm_placement($1, $2, $3, $4, $5);
