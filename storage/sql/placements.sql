-- name: request_move
-- Asks for a placement of a tenant's own; nothing where one was asked for or given (maintenance).
INSERT INTO placement_moves (tenant_id, from_placement, to_placement)
SELECT t.tenant_id, t.placement, nextval('placement_seq') FROM tenants t
WHERE t.tenant_id = $1 AND t.state = 'active' AND t.placement = 0
    AND NOT EXISTS (SELECT 1 FROM placement_moves m WHERE m.tenant_id = t.tenant_id)
ON CONFLICT (tenant_id) DO NOTHING;

-- name: request_crowded
-- Like request_move, for every tenant with more than $1 entities. Only catalogues that have changed
-- since they were last counted are counted again (maintenance).
WITH catalogues AS (
    SELECT t.tenant_id, sum(c.revision) || ':' || $1::integer AS mark
    FROM tenants t JOIN catalogue_revisions c USING (tenant_id)
    WHERE t.state = 'active' AND t.placement = 0
    GROUP BY t.tenant_id
), counted AS MATERIALIZED (
    SELECT c.tenant_id, c.mark, (
        SELECT count(*) FROM (
            SELECT 1 FROM entities e WHERE e.placement = 0 AND e.tenant_id = c.tenant_id LIMIT $1::integer + 1
        ) AS few
    ) AS entity_count
    FROM catalogues c
    LEFT JOIN job_states j ON j.tenant_id = c.tenant_id AND j.job = 'placements'
    WHERE j.input_mark IS DISTINCT FROM c.mark
), noted AS (
    INSERT INTO job_states (tenant_id, job, input_mark)
    SELECT tenant_id, 'placements', mark FROM counted ORDER BY tenant_id
    ON CONFLICT (tenant_id, job) DO UPDATE SET input_mark = EXCLUDED.input_mark, finished_at = now()
)
INSERT INTO placement_moves (tenant_id, from_placement, to_placement)
SELECT c.tenant_id, 0, nextval('placement_seq') FROM counted c
WHERE c.entity_count > $1::integer
    AND NOT EXISTS (SELECT 1 FROM placement_moves m WHERE m.tenant_id = c.tenant_id)
ORDER BY c.tenant_id
ON CONFLICT (tenant_id) DO NOTHING
RETURNING tenant_id;

-- name: unfinished_moves
-- Tenants that are waiting for a move or in the middle of one (maintenance).
SELECT m.tenant_id FROM placement_moves m JOIN tenants t USING (tenant_id)
WHERE m.phase <> 'done' AND t.state = 'active'
ORDER BY m.requested_at, m.tenant_id;

-- name: set_lock_timeout
-- How long this transaction waits for a lock before it gives way.
SELECT set_config('lock_timeout', $1::integer || 'ms', true);

-- name: lock_move
-- A move, kept from everybody else who would go on with it until the transaction ends (owner).
SELECT m.from_placement, m.to_placement, m.phase, m.cursor_no, t.tenant_no, t.dimension, t.state, t.placement
FROM placement_moves m JOIN tenants t USING (tenant_id)
WHERE m.tenant_id = $1
FOR UPDATE OF m;

-- name: advance_move
-- Where a move stands, in the transaction that brought it there (owner).
UPDATE placement_moves SET phase = $2, cursor_no = $3, updated_at = now() WHERE tenant_id = $1;

-- name: prepare
-- The new placement's table, and triggers that log changes of the old one's rows (owner).
SELECT penchant_move_prepare($1, $2, $3);

-- name: copy
-- One slice of entities; the last number copied, or NULL at the end (owner).
SELECT penchant_move_copy($1, $2, $3, $4, $5);

-- name: index
-- The new placement's HNSW index (owner).
SELECT penchant_move_index($1, $2);

-- name: drain
-- One slice of logged changes; how many lines there were (owner).
SELECT penchant_move_drain($1, $2, $3, $4);

-- name: settle
-- Whoever reads a tenant's row under the shared lock finds the switch that it speaks of complete.
SELECT pg_advisory_xact_lock(1346719312, $1::integer);

-- name: switch
-- The new placement in the old one's place; the tenant's new version, or NULL (owner).
SELECT penchant_move_switch($1, $2, $3);

-- name: clean
-- No triggers in the old placement any more (owner).
SELECT penchant_move_clean($1, $2);

-- name: drop_placement
-- A placement with all that is in it (owner).
SELECT penchant_drop_placement($1);

-- name: forget_move
-- A move that is given up, with the changes logged for it (owner).
WITH changes AS (DELETE FROM placement_changes WHERE tenant_id = $1)
DELETE FROM placement_moves WHERE tenant_id = $1;
