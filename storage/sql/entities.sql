-- name: lock_entities
-- The current rows of some names, locked until the transaction ends.
SELECT e.*, e.attributes::text AS attributes_text
FROM entities e
WHERE penchant_guard_write($1, $2, $3) AND e.placement = $4 AND e.tenant_id = $1
    AND (e.entity_type, e.entity_id) IN (SELECT * FROM unnest($5::text[], $6::text[]))
ORDER BY e.entity_type, e.entity_id
FOR UPDATE OF e;

-- name: guard_write
-- Keeps the tenant in place until the transaction ends.
SELECT penchant_guard_write($1, $2, $3);

-- name: insert_entities
-- New entities; a name that appeared meanwhile returns no row.
INSERT INTO entities (placement, tenant_id, entity_type, entity_id, attributes, feature_vector,
    vector_given, hidden, available_from, available_until)
SELECT $1, $2, i.*
FROM unnest($3::text[], $4::text[], $5::jsonb[], $6::halfvec[], $7::boolean[], $8::boolean[],
    $9::timestamptz[], $10::timestamptz[])
    AS i (entity_type, entity_id, attributes, feature_vector, vector_given, hidden, available_from, available_until)
ORDER BY i.entity_type, i.entity_id
ON CONFLICT (placement, tenant_id, entity_type, entity_id) DO NOTHING
RETURNING entity_type, entity_id, created_at, updated_at;

-- name: update_entities
-- Whole new states of rows that this transaction has locked.
UPDATE entities e
SET attributes = i.attributes, feature_vector = i.feature_vector, vector_given = i.vector_given,
    hidden = i.hidden, available_from = i.available_from, available_until = i.available_until,
    stub = false, updated_at = now(),
    created_at = CASE WHEN e.stub THEN now() ELSE e.created_at END
FROM unnest($3::text[], $4::text[], $5::jsonb[], $6::halfvec[], $7::boolean[], $8::boolean[],
    $9::timestamptz[], $10::timestamptz[])
    AS i (entity_type, entity_id, attributes, feature_vector, vector_given, hidden, available_from, available_until)
WHERE e.placement = $1 AND e.tenant_id = $2 AND e.entity_type = i.entity_type AND e.entity_id = i.entity_id
RETURNING e.entity_type, e.entity_id, e.created_at, e.updated_at;

-- name: request_profile_rebuilds
-- Users who met these entities before they had a vector get their profiles made anew.
INSERT INTO profile_rebuilds (tenant_id, entity_type, entity_id)
SELECT $1, i.entity_type, i.entity_id FROM unnest($2::text[], $3::text[]) AS i (entity_type, entity_id)
ORDER BY i.entity_type, i.entity_id
ON CONFLICT (tenant_id, entity_type, entity_id) DO UPDATE SET requested_at = now();

-- name: get_entities
-- Entities by name.
SELECT e.entity_type, e.entity_id, e.entity_no, e.attributes::text AS attributes_text, e.feature_vector,
    e.vector_given, e.hidden, e.stub, e.available_from, e.available_until, e.created_at, e.updated_at
FROM entities e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.placement = $3 AND e.tenant_id = $1
    AND (e.entity_type, e.entity_id) IN (SELECT * FROM unnest($4::text[], $5::text[]))
ORDER BY e.entity_type, e.entity_id;

-- name: list_entities
-- A page of entities after a name, in byte order.
SELECT e.entity_type, e.entity_id, e.entity_no, e.attributes::text AS attributes_text,
    NULL::halfvec AS feature_vector, e.vector_given, e.hidden, e.stub, e.available_from, e.available_until,
    e.created_at, e.updated_at
FROM entities e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.placement = $3 AND e.tenant_id = $1
    AND (e.entity_type, e.entity_id) > ($4, $5)
    AND ($6::text IS NULL OR e.entity_type = $6)
    AND penchant_matches(e.attributes, e.entity_type, e.entity_id, e.created_at, e.updated_at,
        $7::text::jsonpath, $8::jsonb)
ORDER BY e.entity_type, e.entity_id
LIMIT $9;

-- name: delete_entity
-- Removes an entity and what was computed about it.
WITH gone AS (
    -- The guard in a sub-select is asked once and first, and not only where there is a row.
    DELETE FROM entities e
    WHERE (SELECT penchant_guard_write($1, $2, $3)) AND e.placement = $4 AND e.tenant_id = $1
        AND e.entity_type = $5 AND e.entity_id = $6
    RETURNING e.entity_no
), bumped AS (
    UPDATE catalogue_revisions SET revision = nextval('revision_seq')
    WHERE tenant_id = $1 AND slot = pg_backend_pid() % 16 AND EXISTS (SELECT 1 FROM gone)
)
SELECT entity_no FROM gone;
