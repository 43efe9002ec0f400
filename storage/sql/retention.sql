-- name: lock_erasing
-- A tenant whose erasure has begun, locked until the transaction ends (owner).
SELECT tenant_no, placement FROM tenants WHERE tenant_id = $1 AND state = 'erasing' FOR UPDATE;

-- name: leave_placement
-- The tenant's own placement is about to be dropped; its entities are counted as gone (owner).
UPDATE tenants t SET placement = 0, updated_at = now(), erased_counts = jsonb_set(t.erased_counts, ARRAY['entities'], to_jsonb(
    coalesce((t.erased_counts ->> 'entities')::bigint, 0)
    + (SELECT count(*) FROM entities e WHERE e.placement = t.placement AND e.tenant_id = $1)
))
WHERE t.tenant_id = $1;

-- name: tenant_tables
-- Every table that holds rows of tenants, partitions one by one and with the table that they are of;
-- placements of single tenants apart. Tombstones, receipts and the audit outlive their tenant.
SELECT c.oid::regclass::text AS name, coalesce(pg_partition_root(c.oid), c.oid)::regclass::text AS store
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relname <> 'tenants' AND c.relname !~ '^entities_p[1-9]'
    AND c.relname NOT IN ('erased_users', 'erasure_receipts', 'audit_events')
    AND c.relnamespace = (SELECT t.relnamespace FROM pg_class t WHERE t.oid = 'tenants'::regclass)
ORDER BY c.relname;

-- name: erase_rows
-- Up to $3 rows of a tenant in one table, counted in its row as of $4; how many went (owner).
WITH gone AS MATERIALIZED (
    SELECT penchant_erase_rows($1::text::regclass, $2, $3) AS gone_count
)
UPDATE tenants t
SET erased_counts = jsonb_set(t.erased_counts, ARRAY[$4::text], to_jsonb(
    coalesce((t.erased_counts ->> $4::text)::bigint, 0) + gone.gone_count
))
FROM gone WHERE t.tenant_id = $2
RETURNING gone.gone_count;

-- name: note_erased
-- That at least $3 of something that is no table went with the tenant (owner).
UPDATE tenants t
SET erased_counts = jsonb_set(t.erased_counts, ARRAY[$2::text], to_jsonb(
    greatest(coalesce((t.erased_counts ->> $2::text)::bigint, 0), $3::bigint)
))
WHERE t.tenant_id = $1 AND t.state = 'erasing';

-- name: erased_counts
-- What went with a tenant whose last row is gone, and the time (owner).
SELECT erased_counts::text AS counts, clock_timestamp() AS erased_at FROM tenants WHERE tenant_id = $1;

-- name: artefacts_of_tenant
-- Hashes of the artefacts that only this tenant's versions name (maintenance).
SELECT DISTINCT v.content_hash FROM ml_models v
WHERE v.tenant_id = $1
    AND NOT EXISTS (SELECT 1 FROM ml_models o WHERE o.content_hash = v.content_hash AND o.tenant_id <> $1);

-- name: analyze
-- Statistics of what grows fast (owner).
ANALYZE entities, interactions, interaction_keys, user_profiles;

-- name: analyze_models
-- Statistics of the models' tables (owner).
ANALYZE models, ml_models, model_promotions, training_metrics, embeddings, prediction_cache;
