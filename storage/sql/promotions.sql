-- name: lock_promotions
-- Keeps the tenant in place, and everybody else who changes what serves waiting, until the transaction ends.
SELECT penchant_guard_write($1, $2, $3), pg_advisory_xact_lock(1346719314, $2);

-- name: serving
-- The newest promotion with its artefact; version "" where nothing serves.
SELECT p.revision, p.model_name, CASE WHEN v.id IS NULL THEN '' ELSE p.version END AS version,
    coalesce(v.content_hash, '') AS content_hash, coalesce(v.size_bytes, 0) AS size_bytes
FROM (
    SELECT n.* FROM model_promotions n
    WHERE (SELECT penchant_guard_read($1, $2)) AND n.tenant_id = $1
    ORDER BY n.revision DESC LIMIT 1
) AS p
LEFT JOIN ml_models v ON v.tenant_id = $1 AND v.model_name = p.model_name AND v.version = p.version;

-- name: list_promotions
-- The latest promotions, newest first.
SELECT p.revision, p.model_name, p.version, p.reason, p.promoted_at FROM model_promotions p
WHERE (SELECT penchant_guard_read($1, $2)) AND p.tenant_id = $1
ORDER BY p.revision DESC
LIMIT $3;

-- name: earlier_version
-- What served last before a promotion, or before the one that it went back to, and still can.
SELECT v.model_name, v.version, coalesce(p.returns_to, p.revision) AS returns_to
FROM model_promotions s
JOIN model_promotions p ON p.tenant_id = s.tenant_id AND p.revision < coalesce(s.returns_to, s.revision)
    AND (p.model_name, p.version) <> (s.model_name, s.version)
JOIN ml_models v ON v.tenant_id = p.tenant_id AND v.model_name = p.model_name AND v.version = p.version
WHERE s.tenant_id = $1 AND s.revision = $2 AND v.is_active AND v.problem = ''
ORDER BY p.revision DESC
LIMIT 1;

-- name: promote
-- From here on this version serves, or none (the lock is held).
INSERT INTO model_promotions (tenant_id, model_name, version, reason, returns_to) VALUES ($1, $2, $3, $4, $5)
RETURNING revision;
