-- name: measure_recall
-- What the tenant's index finds of what exact search finds, for some of its vectors (maintenance).
SELECT recall, sampled_queries FROM penchant_index_recall($1, $2, $3, $4, $5, $6);

-- name: record_quality
-- What was measured last; one row a tenant (maintenance).
INSERT INTO index_quality (tenant_id, measured_at, recall, sampled_queries, ef_search)
VALUES ($1, now(), $2, $3, $4)
ON CONFLICT (tenant_id) DO UPDATE SET measured_at = EXCLUDED.measured_at, recall = EXCLUDED.recall,
    sampled_queries = EXCLUDED.sampled_queries, ef_search = EXCLUDED.ef_search;

-- name: set_ef_search
-- How widely to search from now on; every worker notices by the version (maintenance).
UPDATE tenants SET ef_search = $2, version = nextval('revision_seq'), updated_at = now()
WHERE tenant_id = $1 AND state = 'active' AND ef_search <> $2;

-- name: order_rebuild
-- Orders a rebuild unless one was ordered within so many seconds; no row then (maintenance).
UPDATE index_quality SET rebuild_requested_at = now()
WHERE tenant_id = $1
    AND (rebuild_requested_at IS NULL OR rebuild_requested_at < now() - make_interval(secs => $2))
RETURNING rebuild_requested_at;

-- name: list_recalls
-- What was measured last, of all tenants (maintenance).
SELECT q.recall FROM index_quality q JOIN tenants t USING (tenant_id) WHERE t.state = 'active' AND t.placement <> 0;
