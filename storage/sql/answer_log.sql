-- name: hold_tenants
-- Keeps tenants from being erased until the transaction ends (maintenance).
SELECT count(pg_advisory_xact_lock_shared(1346719310, t.tenant_no)) FROM tenants t WHERE t.tenant_id = ANY ($1::text[]);

-- name: insert_answers
-- Stores answers of several tenants, but for tenants and users that are gone; which were stored (maintenance).
INSERT INTO answer_log (tenant_id, recommendation_id, user_id, answered_at, expires_at, model_versions, payload)
SELECT n.tenant_id, n.recommendation_id, n.user_id, n.answered_at, n.expires_at,
    ARRAY(SELECT jsonb_array_elements_text(n.model_versions::jsonb)), n.payload
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::bytea[], $8::bytea[]
) AS n (tenant_id, recommendation_id, user_id, answered_at, expires_at, model_versions, payload, user_hash)
JOIN tenants t ON t.tenant_id = n.tenant_id AND t.state = 'active'
WHERE NOT EXISTS (
    SELECT 1 FROM erased_users e
    WHERE e.tenant_id = n.tenant_id AND e.user_hash = n.user_hash
        AND (NOT e.readmitted OR n.answered_at <= e.erased_at)
)
RETURNING recommendation_id;

-- name: get_answer
-- A tenant's answer by its id; no row once its time is over.
SELECT l.recommendation_id, l.user_id, l.answered_at, l.expires_at, l.model_versions, l.payload
FROM answer_log l
WHERE (SELECT penchant_guard_read($1, $2)) AND l.tenant_id = $1 AND l.recommendation_id = $3 AND l.expires_at > now();

-- name: count_answers_of_user
-- How many of a user's answers are kept, those whose time is over included.
SELECT count(*) FROM answer_log l WHERE l.tenant_id = $1 AND l.user_id = $2;

-- name: delete_answers_of_user
-- Forgets a user's answers; how many.
WITH gone AS (DELETE FROM answer_log l WHERE l.tenant_id = $1 AND l.user_id = $2 RETURNING 1)
SELECT count(*) FROM gone;

-- name: ensure_answer_partitions
-- Partitions of this day and the days to come; how many were made (owner).
SELECT penchant_ensure_answer_partitions($1);

-- name: drop_answer_partitions
-- Drops the days that ended before an instant; how many (owner).
SELECT penchant_drop_answer_partitions($1);

-- name: purge_answers
-- Deletes up to $2 answers older than an instant outside the days' partitions; how many (maintenance).
WITH gone AS (
    DELETE FROM answer_log_default WHERE ctid = ANY (ARRAY(
        SELECT d.ctid FROM answer_log_default d WHERE d.answered_at < $1 LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;
