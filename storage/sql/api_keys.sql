-- name: create_api_key
-- A new key; no row when it is for a tenant that is not there (maintenance). The lock keeps the tenant
-- from being erased meanwhile.
WITH owner AS (
    SELECT $2::text AS tenant_id WHERE $2 = ''
    UNION ALL
    SELECT found.tenant_id
    FROM (SELECT t.tenant_id FROM tenants t WHERE t.tenant_id = $2 AND t.state = 'active' FOR SHARE) AS found
)
INSERT INTO api_keys (key_id, tenant_id, display_name, scopes, secret_hash, pepper, expires_at, lifetime)
SELECT $1, owner.tenant_id, $3, $4::text[], $5, $6, $7::timestamptz, $7::timestamptz - now() FROM owner
RETURNING *;

-- name: get_api_key
-- One key of a tenant, or of the operator; $1 NULL: whosever it is (maintenance).
SELECT * FROM api_keys WHERE ($1::text IS NULL OR tenant_id = $1) AND key_id = $2;

-- name: list_api_keys
-- A page of the keys of a tenant, or of the operator, after an id; $1 NULL: of all (maintenance).
SELECT * FROM api_keys
WHERE ($1::text IS NULL OR tenant_id = $1) AND key_id > $2
ORDER BY key_id
LIMIT $3;

-- name: hold_api_key
-- A key of a tenant, kept from being changed, and whether it has ended (maintenance).
SELECT *, revoked_at IS NOT NULL OR coalesce(expires_at <= now(), false) AS has_ended
FROM api_keys
WHERE tenant_id = $1 AND key_id = $2
FOR UPDATE;

-- name: follow_api_key
-- A key with the rights of another, which lives as long as that was to (maintenance).
INSERT INTO api_keys
    (key_id, tenant_id, display_name, scopes, secret_hash, pepper, expires_at, lifetime, rotated_from)
SELECT $2, k.tenant_id, k.display_name, k.scopes, $3, $4, now() + k.lifetime, k.lifetime, k.key_id
FROM api_keys k
WHERE k.key_id = $1
RETURNING *;

-- name: end_api_key_after
-- Ends a key after some seconds, unless it ends before (maintenance).
UPDATE api_keys
SET expires_at = least(expires_at, now() + make_interval(secs => $2)), revision = nextval('revision_seq')
WHERE key_id = $1
RETURNING *;

-- name: revoke_api_key
-- Ends a key now; one that was revoked before stays as it is (maintenance).
UPDATE api_keys SET revoked_at = now(), revision = nextval('revision_seq')
WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL
RETURNING *;

-- name: api_keys_mark
-- How many keys were ever made, and a number that any change of one of them changes (maintenance).
-- Revisions grow, so changes that commit in another order than they began in cannot hide in the sum.
SELECT count(*) AS key_count, coalesce(sum(revision), 0)::text AS mark FROM api_keys;

-- name: live_api_keys
-- Keys that work, for those who check them (maintenance).
SELECT key_id, tenant_id, scopes, secret_hash, pepper, expires_at
FROM api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: touch_api_keys
-- Notes that keys were used, at most once a minute each (maintenance). Workers do so at the same time:
-- what another has in hand is left to it.
WITH due AS (
    SELECT key_id FROM api_keys
    WHERE key_id = ANY($1::text[])
        AND (last_used_at IS NULL OR last_used_at <= now() - interval '50 seconds')
    ORDER BY key_id
    FOR UPDATE SKIP LOCKED
)
UPDATE api_keys k SET last_used_at = now() FROM due WHERE k.key_id = due.key_id;
