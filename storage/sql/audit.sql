-- name: append_audit_event
-- One thing that was administrated; number and time are PostgreSQL's.
INSERT INTO audit_events (actor, method, tenant_id, target, code, peer, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: audit_is_there
-- Whether the schema has the table.
SELECT to_regclass('audit_events') IS NOT NULL;

-- name: list_audit_events
-- A page of events before a number, the newest first; $1 NULL: of all tenants and none (maintenance).
SELECT event_id, occurred_at, actor, method, tenant_id, target, code, peer, request_id
FROM audit_events
WHERE ($1::text IS NULL OR tenant_id = $1) AND ($2::bigint IS NULL OR event_id < $2)
ORDER BY event_id DESC
LIMIT $3;

-- name: purge_audit_events
-- Deletes up to $2 events of before an instant; how many went (owner).
WITH gone AS (
    DELETE FROM audit_events
    WHERE event_id = ANY (ARRAY(
        SELECT old.event_id FROM audit_events old WHERE old.occurred_at < $1 ORDER BY old.occurred_at LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;
