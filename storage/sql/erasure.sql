-- name: put_tombstone
-- Refuses a user from now on (the tenant's writers are locked out); when that is (maintenance).
INSERT INTO erased_users (tenant_id, user_hash, erased_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (tenant_id, user_hash) DO UPDATE SET erased_at = EXCLUDED.erased_at, readmitted = false
RETURNING erased_at;

-- name: flag_tenant
-- From its first erased user on, all who write for a tenant hash the ids (maintenance).
UPDATE tenants SET has_erased_users = true, version = nextval('revision_seq'), updated_at = now()
WHERE tenant_id = $1 AND NOT has_erased_users;

-- name: erased_among
-- Those of some hashes whose users are refused whatever the time.
SELECT e.user_hash FROM erased_users e
WHERE e.tenant_id = $1 AND e.user_hash = ANY ($2::bytea[]) AND NOT e.readmitted;

-- name: merge_is_refused
-- Whether one of two users ($2 hashes) is erased, or was and shall get back ($3: source) what is older than that.
SELECT EXISTS (
    SELECT 1 FROM erased_users e
    WHERE e.tenant_id = $1 AND e.user_hash = ANY ($2::bytea[]) AND (NOT e.readmitted OR EXISTS (
        SELECT 1 FROM interactions i
        WHERE i.tenant_id = $1 AND i.user_id = $3 AND i."timestamp" <= e.erased_at
    ))
);

-- name: move_under_way
-- Whether a copy of the user's entity may lie in a placement that is being made (maintenance).
SELECT EXISTS (
    SELECT 1 FROM placement_moves m
    WHERE m.tenant_id = $1 AND m.phase IN ('copying', 'indexing', 'switching')
) AND EXISTS (
    SELECT 1 FROM entities e
    WHERE e.placement = $3 AND e.tenant_id = $1 AND e.entity_type = 'user' AND e.entity_id = $2
);

-- name: lock_tombstone
-- What an interrupted erasure of the user has removed; the row stays locked (maintenance).
SELECT removed::text FROM erased_users WHERE tenant_id = $1 AND user_hash = $2 FOR UPDATE;

-- name: versions_that_saw
-- Versions made after the user's first interaction came in, as name@version (maintenance).
SELECT v.model_name || '@' || v.version AS label
FROM ml_models v
WHERE v.tenant_id = $1 AND v.is_active
    AND v.created_at >= (SELECT min(i.received_at) FROM interactions i WHERE i.tenant_id = $1 AND i.user_id = $2)
ORDER BY v.model_name, v.created_at, v.version;

-- name: remove_keys
-- Ids of interactions of or about a user, before those go (maintenance).
WITH gone AS (
    DELETE FROM interaction_keys k USING interactions i
    WHERE i.tenant_id = $1 AND (i.user_id = $2 OR (i.entity_type = 'user' AND i.entity_id = $2))
        AND k.tenant_id = $1 AND k.interaction_id = i.interaction_id
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_interactions
-- Interactions of or about a user; by users, the user too (maintenance).
WITH gone AS (
    DELETE FROM interactions i
    WHERE i.tenant_id = $1 AND (i.user_id = $2 OR (i.entity_type = 'user' AND i.entity_id = $2))
    RETURNING i.user_id
)
SELECT user_id, count(*) AS removed FROM gone GROUP BY user_id ORDER BY user_id;

-- name: remove_profile
-- A user's profile and preference (maintenance).
WITH gone AS (DELETE FROM user_profiles p WHERE p.tenant_id = $1 AND p.user_id = $2 RETURNING 1)
SELECT count(*) FROM gone;

-- name: remove_segment
-- A user's learned segment and factors (maintenance).
WITH gone AS (DELETE FROM user_segments s WHERE s.tenant_id = $1 AND s.user_id = $2 RETURNING 1)
SELECT count(*) FROM gone;

-- name: remove_neighbours
-- What goes together with a user's entity, before that goes (maintenance).
WITH gone AS (
    DELETE FROM entity_neighbours n USING entities e, tenants t
    WHERE t.tenant_id = $1 AND e.placement = t.placement AND e.tenant_id = $1
        AND e.entity_type = 'user' AND e.entity_id = $2
        AND n.tenant_id = $1 AND n.entity_no = e.entity_no
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_entity
-- The entity that is the user (maintenance).
WITH gone AS (
    DELETE FROM entities e USING tenants t
    WHERE t.tenant_id = $1 AND e.placement = t.placement AND e.tenant_id = $1
        AND e.entity_type = 'user' AND e.entity_id = $2
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_rebuild
-- The wish to rebuild the profiles of who met the user's entity (maintenance).
WITH gone AS (
    DELETE FROM profile_rebuilds r WHERE r.tenant_id = $1 AND r.entity_type = 'user' AND r.entity_id = $2 RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_embeddings
-- Embeddings of the user, of all versions (maintenance).
WITH gone AS (
    DELETE FROM embeddings e WHERE e.tenant_id = $1 AND e.entity_type = 'user' AND e.entity_id = $2 RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_trending
-- The user's entity among what trends (maintenance).
WITH gone AS (
    DELETE FROM trending_entities t WHERE t.tenant_id = $1 AND t.entity_type = 'user' AND t.entity_id = $2 RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_popular
-- The user's entity among what is popular (maintenance).
WITH gone AS (
    DELETE FROM popular_entities p WHERE p.tenant_id = $1 AND p.entity_type = 'user' AND p.entity_id = $2 RETURNING 1
)
SELECT count(*) FROM gone;

-- name: remove_predictions
-- Cached predictions whose key has the user's id in it, between separators (maintenance).
WITH gone AS (
    DELETE FROM prediction_cache p
    WHERE p.tenant_id = $1 AND strpos(
        ':' || translate(p.cache_key, '/|,;=&?# ', ':::::::::') || ':',
        ':' || translate($2::text, '/|,;=&?# ', ':::::::::') || ':'
    ) > 0
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: restart_trainings
-- Trainings under way have read what is being removed: they begin anew (maintenance).
WITH restarted AS (
    UPDATE operations
    SET state = 'pending', worker = '', lease_until = NULL, started_at = NULL, phase = '', share = 0
    WHERE tenant_id = $1 AND kind = 'train' AND state = 'running' AND NOT cancel_requested
    RETURNING 1
)
SELECT count(*) FROM restarted;

-- name: note_removed
-- What is removed so far, and ($4) whether only what is older than the erasure is refused (maintenance).
UPDATE erased_users SET removed = $3::jsonb, readmitted = $4 WHERE tenant_id = $1 AND user_hash = $2;

-- name: anything_to_train
-- Whether there are interactions that a model can learn from (maintenance).
SELECT EXISTS (
    SELECT 1 FROM interactions i WHERE i.tenant_id = $1 AND i.weight <> 0 AND i.entity_type <> 'user'
);

-- name: find_user
-- How often a user is found, by table (maintenance).
SELECT
    (SELECT count(*) FROM interactions i
     WHERE i.tenant_id = $1 AND (i.user_id = $2 OR (i.entity_type = 'user' AND i.entity_id = $2))) AS interactions,
    (SELECT count(*) FROM interaction_keys k JOIN interactions i USING (tenant_id, interaction_id)
     WHERE k.tenant_id = $1 AND (i.user_id = $2 OR (i.entity_type = 'user' AND i.entity_id = $2))) AS interaction_keys,
    (SELECT count(*) FROM user_profiles p WHERE p.tenant_id = $1 AND p.user_id = $2) AS user_profiles,
    (SELECT count(*) FROM user_segments s WHERE s.tenant_id = $1 AND s.user_id = $2) AS user_segments,
    (SELECT count(*) FROM entity_neighbours n JOIN entities e USING (tenant_id, entity_no)
     JOIN tenants t ON t.tenant_id = $1 AND t.placement = e.placement
     WHERE n.tenant_id = $1 AND e.entity_type = 'user' AND e.entity_id = $2) AS entity_neighbours,
    (SELECT count(*) FROM entities e JOIN tenants t USING (tenant_id, placement)
     WHERE e.tenant_id = $1 AND e.entity_type = 'user' AND e.entity_id = $2) AS entities,
    (SELECT count(*) FROM placement_changes c
     WHERE c.tenant_id = $1 AND c.entity_type = 'user' AND c.entity_id = $2) AS placement_changes,
    (SELECT count(*) FROM profile_rebuilds r
     WHERE r.tenant_id = $1 AND r.entity_type = 'user' AND r.entity_id = $2) AS profile_rebuilds,
    (SELECT count(*) FROM embeddings e
     WHERE e.tenant_id = $1 AND e.entity_type = 'user' AND e.entity_id = $2) AS embeddings,
    (SELECT count(*) FROM trending_entities t
     WHERE t.tenant_id = $1 AND t.entity_type = 'user' AND t.entity_id = $2) AS trending_entities,
    (SELECT count(*) FROM popular_entities p
     WHERE p.tenant_id = $1 AND p.entity_type = 'user' AND p.entity_id = $2) AS popular_entities,
    (SELECT count(*) FROM prediction_cache p
     WHERE p.tenant_id = $1 AND strpos(
         ':' || translate(p.cache_key, '/|,;=&?# ', ':::::::::') || ':',
         ':' || translate($2::text, '/|,;=&?# ', ':::::::::') || ':'
     ) > 0) AS prediction_cache,
    (SELECT count(*) FROM answer_log l WHERE l.tenant_id = $1 AND l.user_id = $2) AS answer_log;

-- name: is_refused
-- Whether all interactions of an erased user are refused; no row for one who was not erased.
SELECT NOT readmitted FROM erased_users WHERE tenant_id = $1 AND user_hash = $2;

-- name: readmit
-- Refuses only what is older than the erasure (maintenance).
UPDATE erased_users SET readmitted = true WHERE tenant_id = $1 AND user_hash = $2 RETURNING true;

-- name: add_receipt
-- Keeps a receipt.
INSERT INTO erasure_receipts (tenant_id, receipt_id, subject, erased_at, payload, signature, key_id)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: forget_removed
-- The receipt has it now (maintenance).
UPDATE erased_users SET removed = '{}' WHERE tenant_id = $1 AND user_hash = $2;

-- name: get_receipt
-- A tenant's receipt by its id.
SELECT tenant_id, receipt_id, subject, erased_at, payload, signature, key_id
FROM erasure_receipts WHERE tenant_id = $1 AND receipt_id = $2;

-- name: tenant_state
-- Where the erasure of a tenant stands (maintenance).
SELECT state FROM tenants WHERE tenant_id = $1;

-- name: get_tenant_receipt
-- The receipt of an erased tenant (maintenance).
SELECT tenant_id, receipt_id, subject, erased_at, payload, signature, key_id
FROM erasure_receipts WHERE tenant_id = $1 AND subject = 'tenant';

-- name: erased_lately
-- Users erased within the last $1 seconds, over all tenants (maintenance).
SELECT t.tenant_id, t.tenant_no, e.user_hash, e.erased_at, e.readmitted
FROM erased_users e JOIN tenants t USING (tenant_id)
WHERE e.erased_at > now() - make_interval(secs => $1::double precision);

-- name: tenants_erased_lately
-- Tenants whose erasure began, or went on, within the last $1 seconds (maintenance).
SELECT tenant_no FROM tenants
WHERE state <> 'active' AND updated_at > now() - make_interval(secs => $1::double precision);

-- name: flag_restored
-- Tenants whose tombstones were brought back, and whose rows are of before them (maintenance).
UPDATE tenants t SET has_erased_users = true, version = nextval('revision_seq'), updated_at = now()
WHERE NOT t.has_erased_users AND t.state = 'active'
    AND EXISTS (SELECT 1 FROM erased_users e WHERE e.tenant_id = t.tenant_id);

-- name: tombstones
-- All erased users of a tenant (maintenance).
SELECT t.tenant_id, t.tenant_no, e.user_hash, e.erased_at, e.readmitted
FROM erased_users e JOIN tenants t USING (tenant_id)
WHERE e.tenant_id = $1;

-- name: people
-- Up to $3 ids after $2 of all who left anything, in byte order (maintenance).
SELECT u.user_id FROM (
    (SELECT DISTINCT i.user_id FROM interactions i
     WHERE i.tenant_id = $1 AND i.user_id > $2 ORDER BY i.user_id LIMIT $3)
    UNION
    (SELECT p.user_id FROM user_profiles p
     WHERE p.tenant_id = $1 AND p.user_id > $2 ORDER BY p.user_id LIMIT $3)
    UNION
    (SELECT s.user_id FROM user_segments s
     WHERE s.tenant_id = $1 AND s.user_id > $2 ORDER BY s.user_id LIMIT $3)
    UNION
    (SELECT DISTINCT l.user_id FROM answer_log l
     WHERE l.tenant_id = $1 AND l.user_id > $2 ORDER BY l.user_id LIMIT $3)
    UNION
    (SELECT e.entity_id FROM entities e JOIN tenants t USING (tenant_id, placement)
     WHERE e.tenant_id = $1 AND e.entity_type = 'user' AND e.entity_id > $2 ORDER BY e.entity_id LIMIT $3)
) AS u (user_id)
ORDER BY u.user_id COLLATE "C"
LIMIT $3;
