-- name: create_model
-- A new model, or one of a deleted model's name: its version numbers go on. No row when the name is taken.
INSERT INTO models (tenant_id, model_name, algorithm, hyperparameters, schedule, next_run_at, promotion,
    keep_versions, retention_days)
SELECT $1, $4, $5, $6::jsonb, $7, $8, $9, $10, $11
WHERE (SELECT penchant_guard_write($1, $2, $3))
ON CONFLICT (tenant_id, model_name) DO UPDATE
SET algorithm = EXCLUDED.algorithm, hyperparameters = EXCLUDED.hyperparameters, schedule = EXCLUDED.schedule,
    next_run_at = EXCLUDED.next_run_at, promotion = EXCLUDED.promotion, keep_versions = EXCLUDED.keep_versions,
    retention_days = EXCLUDED.retention_days, created_at = now(), updated_at = now(), deleted_at = NULL
WHERE models.deleted_at IS NOT NULL
RETURNING *;

-- name: get_model
-- A model that is not deleted.
SELECT m.* FROM models m
WHERE (SELECT penchant_guard_read($1, $2)) AND m.tenant_id = $1 AND m.model_name = $3 AND m.deleted_at IS NULL;

-- name: list_models
-- A page of models after a name, in byte order.
SELECT m.* FROM models m
WHERE (SELECT penchant_guard_read($1, $2)) AND m.tenant_id = $1 AND m.model_name > $3
    AND ($4::boolean OR m.deleted_at IS NULL)
ORDER BY m.model_name
LIMIT $5;

-- name: update_model
-- New values of the columns that $5 names.
UPDATE models m
SET algorithm = CASE WHEN 'algorithm' = ANY($5::text[]) THEN $6 ELSE m.algorithm END,
    hyperparameters = CASE WHEN 'hyperparameters' = ANY($5) THEN $7::jsonb ELSE m.hyperparameters END,
    schedule = CASE WHEN 'schedule' = ANY($5) THEN $8 ELSE m.schedule END,
    next_run_at = CASE WHEN 'next_run_at' = ANY($5) THEN $9 ELSE m.next_run_at END,
    promotion = CASE WHEN 'promotion' = ANY($5) THEN $10 ELSE m.promotion END,
    keep_versions = CASE WHEN 'keep_versions' = ANY($5) THEN $11 ELSE m.keep_versions END,
    retention_days = CASE WHEN 'retention_days' = ANY($5) THEN $12 ELSE m.retention_days END,
    updated_at = now()
WHERE (SELECT penchant_guard_write($1, $2, $3)) AND m.tenant_id = $1 AND m.model_name = $4
    AND m.deleted_at IS NULL
RETURNING m.*;

-- name: delete_model
-- Retires a model and its versions; one row when there was such a model (the lock is held).
WITH gone AS (
    UPDATE models SET deleted_at = now(), updated_at = now(), next_run_at = NULL
    WHERE tenant_id = $1 AND model_name = $2 AND deleted_at IS NULL
    RETURNING model_name
), versions AS (
    UPDATE ml_models SET is_active = false
    WHERE tenant_id = $1 AND model_name = $2 AND is_active AND EXISTS (SELECT 1 FROM gone)
)
SELECT model_name FROM gone;

-- name: add_version
-- A version with the next number, or under the name $5 ($6: its number, where it is one). The model's
-- row stays locked to the end, so that numbers and times of creation grow together. No row: no such
-- model, or the name was given before.
WITH numbered AS (
    UPDATE models m
    SET last_version = CASE WHEN $5::text IS NULL THEN m.last_version + 1
        ELSE greatest(m.last_version, $6::integer) END
    WHERE (SELECT penchant_guard_write($1, $2, $3)) AND m.tenant_id = $1 AND m.model_name = $4
        AND m.deleted_at IS NULL AND ($6::integer IS NULL OR $6::integer > m.last_version)
    RETURNING m.last_version
)
INSERT INTO ml_models (tenant_id, model_name, version, model_data, metadata, created_at, content_hash, size_bytes)
SELECT $1, $4, coalesce($5, n.last_version::text), $7, $8::jsonb, clock_timestamp(), $9, $10
FROM numbered n
ON CONFLICT (tenant_id, model_name, version) DO NOTHING
RETURNING *;

-- name: get_version
-- One version of a model; the newest active one for "latest".
SELECT v.* FROM ml_models v
WHERE (SELECT penchant_guard_read($1, $2)) AND v.tenant_id = $1 AND v.model_name = $3
    AND ($4 = 'latest' OR v.version = $4) AND (v.is_active OR ($5::boolean AND $4 <> 'latest'))
ORDER BY v.created_at DESC, v.version DESC
LIMIT 1;

-- name: latest_versions
-- The newest active version of each of some models ($3; NULL: of all).
SELECT DISTINCT ON (v.model_name) v.* FROM ml_models v
WHERE (SELECT penchant_guard_read($1, $2)) AND v.tenant_id = $1 AND v.is_active
    AND ($3::text[] IS NULL OR v.model_name = ANY($3))
ORDER BY v.model_name, v.created_at DESC, v.version DESC;

-- name: list_versions
-- A page of a model's versions, newest first, after one of them.
SELECT v.* FROM ml_models v
WHERE (SELECT penchant_guard_read($1, $2)) AND v.tenant_id = $1 AND v.model_name = $3
    AND ($4::timestamptz IS NULL OR (v.created_at, v.version) < ($4, $5))
    AND ($6::boolean OR v.is_active)
ORDER BY v.created_at DESC, v.version DESC
LIMIT $7;

-- name: set_problem
-- What keeps a version from serving; empty: nothing does.
UPDATE ml_models v SET problem = $6
WHERE (SELECT penchant_guard_write($1, $2, $3)) AND v.tenant_id = $1 AND v.model_name = $4 AND v.version = $5
RETURNING v.version;

-- name: retire_version
-- Marks a version inactive (the lock is held).
UPDATE ml_models v SET is_active = false
WHERE v.tenant_id = $1 AND v.model_name = $2 AND v.version = $3 AND v.is_active
RETURNING v.version;

-- name: clean_up
-- Removes versions of one model ($2) or all: those that are deleted, beyond the newest $3 or older than $4
-- days (NULL: as the model says); never the one that serves (the lock is held).
DELETE FROM ml_models v
USING (
    SELECT o.id, m.keep_versions, m.retention_days,
        row_number() OVER (PARTITION BY o.model_name, o.is_active ORDER BY o.created_at DESC, o.version DESC) AS place
    FROM ml_models o JOIN models m ON m.tenant_id = o.tenant_id AND m.model_name = o.model_name
    WHERE o.tenant_id = $1 AND ($2::text IS NULL OR o.model_name = $2)
) AS r
WHERE v.tenant_id = $1 AND v.id = r.id
    AND (NOT v.is_active OR r.place > coalesce($3::integer, r.keep_versions)
        OR v.created_at < now() - make_interval(days => coalesce($4::integer, r.retention_days)))
    AND NOT EXISTS (
        SELECT 1 FROM (
            SELECT p.model_name, p.version FROM model_promotions p
            WHERE p.tenant_id = $1 ORDER BY p.revision DESC LIMIT 1
        ) AS s
        WHERE s.model_name = v.model_name AND s.version = v.version
    )
RETURNING v.*;

-- name: storage_stats
-- Versions and bytes of each model that has any; deleted ones included.
SELECT v.model_name, count(*) AS versions, count(*) FILTER (WHERE v.is_active) AS active_versions,
    sum(v.size_bytes)::bigint AS size_bytes, min(v.created_at) AS oldest, max(v.created_at) AS newest
FROM ml_models v
WHERE (SELECT penchant_guard_read($1, $2)) AND v.tenant_id = $1
GROUP BY v.model_name
ORDER BY v.model_name;

-- name: hashes_in_use
-- Every artefact that a version of any tenant names (maintenance).
SELECT DISTINCT content_hash FROM ml_models;
