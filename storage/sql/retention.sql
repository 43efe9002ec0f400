-- name: lock_erasing
-- A tenant whose erasure has begun, locked until the transaction ends (owner).
SELECT tenant_no, placement FROM tenants WHERE tenant_id = $1 AND state = 'erasing' FOR UPDATE;

-- name: leave_placement
-- The tenant's own placement is about to be dropped (owner).
UPDATE tenants SET placement = 0, updated_at = now() WHERE tenant_id = $1;

-- name: tenant_tables
-- Every table that holds rows of tenants, partitions one by one; placements of single tenants apart.
SELECT c.oid::regclass::text AS name
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relname <> 'tenants' AND c.relname !~ '^entities_p[1-9]'
    AND c.relnamespace = (SELECT t.relnamespace FROM pg_class t WHERE t.oid = 'tenants'::regclass)
ORDER BY c.relname;

-- name: erase_rows
-- Up to $3 rows of a tenant in one table; how many went (owner).
SELECT penchant_erase_rows($1::text::regclass, $2, $3);

-- name: analyze
-- Statistics of what grows fast (owner).
ANALYZE entities, interactions, interaction_keys, user_profiles;

-- name: analyze_models
-- Statistics of the models' tables (owner).
ANALYZE models, ml_models, model_promotions, training_metrics, embeddings, prediction_cache;
