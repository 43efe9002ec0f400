-- name: start_operation
-- Asks for work, or returns the same work that waits or runs already.
INSERT INTO operations AS o (tenant_id, kind, target, request)
SELECT $1, $4, $5, $6::jsonb WHERE penchant_guard_write($1, $2, $3)
ON CONFLICT (tenant_id, kind, target) WHERE state IN ('pending', 'running') DO UPDATE SET target = o.target
RETURNING *, now() AS begun_at;

-- name: get_operation
-- One operation of a tenant.
SELECT * FROM operations WHERE tenant_id = $1 AND operation_id = $2;

-- name: list_operations
-- A tenant's operations before an id, newest first; $4 keeps one kind.
SELECT * FROM operations
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR operation_id < $2) AND ($4::text IS NULL OR kind = $4)
ORDER BY operation_id DESC
LIMIT $3;

-- name: cancel_operation
-- What waits ends at once; what runs is told by its next report. One that has ended returns no row.
UPDATE operations
SET cancel_requested = true,
    state = CASE state WHEN 'pending' THEN 'cancelled' ELSE state END,
    finished_at = CASE state WHEN 'pending' THEN now() END,
    error_code = CASE state WHEN 'pending' THEN $3::integer END,
    error_message = CASE state WHEN 'pending' THEN $4 END
WHERE tenant_id = $1 AND operation_id = $2 AND state IN ('pending', 'running')
RETURNING *;

-- name: claim_operation
-- Takes the oldest waiting operation of a tenant that has none running; $2 lease in seconds (maintenance).
WITH next AS (
    SELECT o.operation_id FROM operations o
    WHERE o.state = 'pending'
        AND NOT EXISTS (SELECT 1 FROM operations r WHERE r.tenant_id = o.tenant_id AND r.state = 'running')
    ORDER BY o.created_at, o.operation_id
    LIMIT 1
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE operations o
SET state = 'running', worker = $1, lease_until = now() + make_interval(secs => $2), started_at = now(),
    phase = '', share = 0
FROM next WHERE o.operation_id = next.operation_id AND o.state = 'pending'
RETURNING o.*;

-- name: get_claimed_operation
-- An operation that a worker holds (maintenance).
SELECT * FROM operations WHERE operation_id = $1 AND worker = $2 AND state = 'running';

-- name: report_operation
-- How far a worker has come, and that it lives: $5 lease in seconds (maintenance).
UPDATE operations SET phase = $3, share = $4, lease_until = now() + make_interval(secs => $5)
WHERE operation_id = $1 AND worker = $2 AND state = 'running'
RETURNING cancel_requested;

-- name: extend_lease
-- That the process around the worker lives: $3 lease in seconds (maintenance).
UPDATE operations SET lease_until = now() + make_interval(secs => $3)
WHERE operation_id = $1 AND worker = $2 AND state = 'running'
RETURNING true;

-- name: finish_operation
-- The end of what a worker holds; its time counts among what the tenant has trained today (maintenance).
WITH ended AS (
    UPDATE operations
    SET state = $3, finished_at = now(), lease_until = NULL, share = CASE $3 WHEN 'succeeded' THEN 1 ELSE share END,
        response = $4::jsonb, error_code = $5, error_reason = $6, error_message = $7
    WHERE operation_id = $1 AND worker = $2 AND state = 'running'
    RETURNING tenant_id, started_at
), used AS (
    INSERT INTO quota_usage AS q (tenant_id, day, slot, training_secs)
    SELECT e.tenant_id, (now() AT TIME ZONE 'UTC')::date, 0, greatest(0, extract(epoch FROM now() - e.started_at))
    FROM ended e JOIN tenants t ON t.tenant_id = e.tenant_id AND t.state = 'active'
    ON CONFLICT (tenant_id, day, slot) DO UPDATE SET training_secs = q.training_secs + EXCLUDED.training_secs
)
SELECT true FROM ended;

-- name: release_operation
-- A worker that stops gives back what it holds: it waits again, or ends when it was to be cancelled (maintenance).
UPDATE operations
SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'pending' END,
    finished_at = CASE WHEN cancel_requested THEN now() END,
    error_code = CASE WHEN cancel_requested THEN $3::integer END,
    error_message = CASE WHEN cancel_requested THEN $4 END,
    worker = '', lease_until = NULL, started_at = NULL, phase = '', share = 0
WHERE operation_id = $1 AND worker = $2 AND state = 'running'
RETURNING true;

-- name: fail_abandoned
-- Running operations whose lease is over have lost their worker (maintenance).
UPDATE operations o
SET state = 'failed', finished_at = now(), lease_until = NULL,
    error_code = $1, error_reason = 'TRAINER_DIED', error_message = $2
WHERE o.operation_id IN (
    SELECT operation_id FROM operations WHERE state = 'running' AND lease_until < now() FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- name: lock_due_models
-- Models whose time has come at $1, locked; a process that comes at the same instant gets others (maintenance).
SELECT m.tenant_id, m.model_name, m.schedule, m.next_run_at
FROM models m
WHERE m.next_run_at <= $1 AND m.deleted_at IS NULL
ORDER BY m.next_run_at
LIMIT $2
FOR UPDATE OF m SKIP LOCKED;

-- name: start_scheduled
-- Trainings of the models that are due, but for those that wait or run already or whose tenant has
-- trained enough today (maintenance).
INSERT INTO operations (tenant_id, kind, target, request)
SELECT d.tenant_id, 'train', d.model_name, '{"scheduled": true}'
FROM unnest($1::text[], $2::text[]) AS d (tenant_id, model_name)
JOIN tenants t ON t.tenant_id = d.tenant_id AND t.state = 'active'
WHERE coalesce((t.quotas->>'training_minutes_per_day')::double precision, 0) = 0
    OR (t.quotas->>'training_minutes_per_day')::double precision * 60 > (
        SELECT coalesce(sum(u.training_secs), 0) FROM quota_usage u
        WHERE u.tenant_id = t.tenant_id AND u.day = (now() AT TIME ZONE 'UTC')::date)
ON CONFLICT (tenant_id, kind, target) WHERE state IN ('pending', 'running') DO NOTHING;

-- name: move_due_models
-- When the models are due next; NULL: never (maintenance).
UPDATE models m SET next_run_at = d.next_run_at
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS d (tenant_id, model_name, next_run_at)
WHERE m.tenant_id = d.tenant_id AND m.model_name = d.model_name;
