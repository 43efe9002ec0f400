-- name: get_tenant
-- A tenant with its interaction types, under the tenant's own row-level security.
-- The lock: a move that this row speaks of is complete, and its partition known, once it is had.
SELECT t.*, pg_advisory_xact_lock_shared(1346719312, t.tenant_no) AS settled, coalesce(
    (SELECT jsonb_object_agg(i.interaction_type, jsonb_build_array(i.weight, i.marks_seen))
     FROM interaction_types i WHERE i.tenant_id = t.tenant_id), '{}'
)::text AS interaction_types
FROM tenants t
WHERE t.tenant_id = $1 AND t.state = 'active';

-- name: list_tenants
-- A page of tenants after an id (maintenance).
SELECT t.*, coalesce(
    (SELECT jsonb_object_agg(i.interaction_type, jsonb_build_array(i.weight, i.marks_seen))
     FROM interaction_types i WHERE i.tenant_id = t.tenant_id), '{}'
)::text AS interaction_types
FROM tenants t
WHERE t.tenant_id > $1 AND t.state = 'active'
ORDER BY t.tenant_id
LIMIT $2;

-- name: create_tenant
-- A new tenant with the default interaction types; no row when the name is or was taken (maintenance).
WITH made AS (
    INSERT INTO tenants (tenant_id, display_name, dimension, profile_half_life_secs, settings)
    VALUES ($1, $2, $3, $4, $5::jsonb)
    ON CONFLICT (tenant_id) DO NOTHING
    RETURNING tenant_id
), slots AS (
    INSERT INTO catalogue_revisions (tenant_id, slot)
    SELECT made.tenant_id, slot FROM made, generate_series(0, 15) AS slot
)
INSERT INTO interaction_types (tenant_id, interaction_type, weight, marks_seen)
SELECT made.tenant_id, d.interaction_type, d.weight, d.marks_seen
FROM made, (VALUES
    ('view', 1, true), ('like', 2, true), ('add_to_cart', 3, true), ('purchase', 5, true),
    ('impression', 0, false)
) AS d (interaction_type, weight, marks_seen)
RETURNING tenant_id;

-- name: update_tenant
-- New display name and settings; every worker notices by the version (maintenance).
UPDATE tenants
SET display_name = $2, settings = $3::jsonb, version = nextval('revision_seq'), updated_at = now()
WHERE tenant_id = $1 AND state = 'active'
RETURNING tenant_id;

-- name: lock_tenant
-- Keeps writers of a tenant out until the transaction ends (owner or maintenance).
SELECT pg_advisory_xact_lock(1346719310, $1::integer);

-- name: begin_erasure
-- From here on nobody finds the tenant (maintenance).
UPDATE tenants
SET state = 'erasing', version = nextval('revision_seq'), updated_at = now()
WHERE tenant_id = $1 AND state = 'active'
RETURNING tenant_no;

-- name: list_erasing_tenants
-- Tenants whose rows are still to be deleted (maintenance).
SELECT tenant_id, tenant_no, placement FROM tenants WHERE state = 'erasing' ORDER BY tenant_id;

-- name: finish_erasure
-- Nothing is left but the name, which is never used again (maintenance).
UPDATE tenants SET state = 'erased', display_name = '', settings = '{}', erased_counts = '{}', updated_at = now()
WHERE tenant_id = $1 AND state = 'erasing';

-- name: count_tenants
-- How many tenants there are, counted to two at most, and the id of the first (maintenance).
SELECT count(*) AS tenant_count, min(tenant_id) AS tenant_id
FROM (SELECT tenant_id FROM tenants WHERE state = 'active' ORDER BY tenant_id LIMIT 2) AS few;

-- name: touch_tenant
-- A new version, so that every worker reads the row again (maintenance).
UPDATE tenants SET version = nextval('revision_seq'), updated_at = now()
WHERE tenant_id = $1 AND state = 'active'
RETURNING tenant_id;

-- name: set_interaction_type
-- Makes or changes an interaction type (maintenance).
INSERT INTO interaction_types (tenant_id, interaction_type, weight, marks_seen)
VALUES ($1, $2, $3, coalesce($4, $2 <> 'impression'))
ON CONFLICT (tenant_id, interaction_type)
DO UPDATE SET weight = EXCLUDED.weight, marks_seen = coalesce($4, interaction_types.marks_seen)
RETURNING interaction_type, weight, marks_seen;

-- name: delete_interaction_type
-- Removes an interaction type (maintenance).
DELETE FROM interaction_types WHERE tenant_id = $1 AND interaction_type = $2 RETURNING interaction_type;

-- name: bump_catalogue
-- Makes cached answers of the tenant unusable; slots keep writers out of each other's way.
UPDATE catalogue_revisions SET revision = nextval('revision_seq')
WHERE tenant_id = $1 AND slot = pg_backend_pid() % 16;

-- name: index_stats
-- Size and use of a tenant's placement (owner's view of the catalogue; maintenance). The shared one's
-- size would tell a tenant of the others: it is 0.
SELECT t.placement,
    (SELECT count(*) FROM entities e WHERE e.placement = t.placement AND e.tenant_id = t.tenant_id) AS entity_count,
    (SELECT count(e.feature_vector) FROM entities e WHERE e.placement = t.placement AND e.tenant_id = t.tenant_id) AS vector_count,
    CASE WHEN t.placement = 0 THEN 0
        ELSE coalesce(pg_total_relation_size(to_regclass('entities_p' || t.placement)), 0)
    END AS table_bytes,
    i.indexrelname AS index_name,
    coalesce(pg_relation_size(i.indexrelid), 0) AS index_bytes,
    coalesce(i.idx_scan, 0) AS index_scans, q.recall, q.measured_at,
    CASE WHEN i.indexrelid IS NULL THEN 0 ELSE t.ef_search END AS ef_search
FROM tenants t
LEFT JOIN pg_stat_all_indexes i
    ON i.relid = to_regclass('entities_p' || t.placement) AND i.indexrelname LIKE '%\_hnsw'
LEFT JOIN index_quality q ON q.tenant_id = t.tenant_id AND i.indexrelid IS NOT NULL
WHERE t.tenant_id = $1 AND t.state = 'active';

-- name: bump_catalogue_as_maintenance
-- Like bump_catalogue, for the jobs.
UPDATE catalogue_revisions SET revision = nextval('revision_seq') WHERE tenant_id = $1 AND slot = 0;

-- name: placement_phase
-- Where a tenant is, how far its move has got, and how far the index is built (maintenance).
SELECT t.placement, m.phase, CASE WHEN m.phase = 'indexing' THEN
    penchant_index_share(to_regclass('entities_p' || m.to_placement))
END AS index_share
FROM tenants t LEFT JOIN placement_moves m USING (tenant_id)
WHERE t.tenant_id = $1 AND t.state = 'active';
