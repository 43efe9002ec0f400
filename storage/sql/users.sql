-- name: user_versions
-- The versions that a cached answer for a user depends on; cheap, since every call asks.
SELECT
    (SELECT sum(c.revision)::bigint FROM catalogue_revisions c WHERE c.tenant_id = $1) AS catalogue_revision,
    (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS transaction_id,
    (SELECT p.revision FROM user_profiles p WHERE p.tenant_id = $1 AND p.user_id = $3) AS revision,
    (SELECT m.revision FROM model_promotions m WHERE m.tenant_id = $1 ORDER BY m.revision DESC LIMIT 1) AS model_revision
WHERE (SELECT penchant_guard_read($1, $2));

-- name: user_context
-- What an answer for a user starts from, in one round trip: profile and recent history
-- (one place an entity, newest first, with the sum of its weights).
SELECT
    p.interaction_count, p.accumulator,
    h.entity_nos, h.entity_types, h.entity_ids, h.weights, h.happened_at, h.vectors,
    coalesce(
        (SELECT u.attributes ->> $5 FROM entities u
         WHERE $5::text IS NOT NULL AND u.placement = $3 AND u.tenant_id = $1 AND u.entity_type = 'user'
             AND u.entity_id = $4),
        (SELECT s.segment FROM user_segments s WHERE s.tenant_id = $1 AND s.user_id = $4)
    ) AS segment
FROM (VALUES (1)) AS one
LEFT JOIN user_profiles p ON p.tenant_id = $1 AND p.user_id = $4
LEFT JOIN LATERAL (
    SELECT array_agg(e.entity_no ORDER BY r.happened_at DESC) AS entity_nos,
        array_agg(e.entity_type ORDER BY r.happened_at DESC) AS entity_types,
        array_agg(e.entity_id ORDER BY r.happened_at DESC) AS entity_ids,
        array_agg(r.weight ORDER BY r.happened_at DESC) AS weights,
        array_agg(r.happened_at ORDER BY r.happened_at DESC) AS happened_at,
        array_agg(CASE WHEN r.place <= $7 AND r.weight > 0 THEN e.feature_vector END ORDER BY r.happened_at DESC) AS vectors
    FROM (
        SELECT s.entity_type, s.entity_id, sum(s.weight) AS weight, max(s."timestamp") AS happened_at,
            row_number() OVER (ORDER BY max(s."timestamp") DESC) AS place
        FROM (
            SELECT i.entity_type, i.entity_id, i.weight, i."timestamp"
            FROM interactions i
            WHERE i.tenant_id = $1 AND i.user_id = $4 AND i.weight <> 0
            ORDER BY i."timestamp" DESC, i.interaction_id
            LIMIT $6
        ) AS s
        GROUP BY s.entity_type, s.entity_id
    ) AS r
    JOIN entities e ON e.placement = $3 AND e.tenant_id = $1
        AND e.entity_type = r.entity_type AND e.entity_id = r.entity_id
) AS h ON p.user_id IS NOT NULL
WHERE (SELECT penchant_guard_read($1, $2));

-- name: refresh_preferences
-- preference_vector of the users whose accumulator has changed, a slice at a time (maintenance).
WITH stale AS MATERIALIZED (
    SELECT p.tenant_id, p.user_id FROM user_profiles p
    WHERE p.preference_stale
    ORDER BY p.tenant_id, p.user_id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), done AS (
    UPDATE user_profiles p
    SET preference_stale = false,
        preference_vector = CASE
            WHEN p.accumulator IS NULL OR vector_norm(p.accumulator) < 1e-9 THEN NULL
            ELSE l2_normalize(p.accumulator)::halfvec
        END
    FROM stale s WHERE p.tenant_id = s.tenant_id AND p.user_id = s.user_id
    RETURNING 1
)
SELECT count(*) FROM done;

-- name: take_profile_rebuilds
-- Entities whose users' profiles are to be made anew, taken off the list (maintenance).
WITH taken AS (
    DELETE FROM profile_rebuilds r
    USING (SELECT tenant_id, entity_type, entity_id FROM profile_rebuilds
           ORDER BY tenant_id, requested_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS next
    WHERE r.tenant_id = next.tenant_id AND r.entity_type = next.entity_type AND r.entity_id = next.entity_id
    RETURNING r.tenant_id, r.entity_type, r.entity_id
)
SELECT DISTINCT t.tenant_id, i.user_id
FROM taken t
JOIN interactions i ON i.tenant_id = t.tenant_id AND i.entity_type = t.entity_type AND i.entity_id = t.entity_id
ORDER BY 1, 2;

-- name: get_preference
-- A user's live preference: the accumulator as unit vector.
SELECT p.accumulator, p.interaction_count
FROM user_profiles p
WHERE (SELECT penchant_guard_read($1, $2)) AND p.tenant_id = $1 AND p.user_id = $3;

-- name: nearest_users
-- Users whose preference vector is nearest to a vector, searched exactly.
SELECT p.user_id, 1 - (p.preference_vector <=> $3::halfvec) AS score, p.interaction_count
FROM user_profiles p
WHERE (SELECT penchant_guard_read($1, $2)) AND p.tenant_id = $1 AND p.preference_vector IS NOT NULL
    AND p.user_id <> $4
    AND NOT EXISTS (
        SELECT 1 FROM interactions i
        WHERE $5::text IS NOT NULL AND i.tenant_id = $1 AND i.entity_type = $5 AND i.entity_id = $6
            AND i.user_id = p.user_id AND i.weight <> 0
    )
ORDER BY p.preference_vector <=> $3::halfvec, p.user_id
LIMIT $7;

-- name: same_segment_users
-- Users of a user's learned segment, those first whose factors point the same way; none where it has none.
SELECT o.user_id, 1 - (o.factors <=> s.factors) AS score, coalesce(p.interaction_count, 0) AS interaction_count
FROM user_segments s
JOIN user_segments o ON o.tenant_id = $1 AND o.segment = s.segment AND o.user_id <> s.user_id
LEFT JOIN user_profiles p ON p.tenant_id = $1 AND p.user_id = o.user_id
WHERE (SELECT penchant_guard_read($1, $2)) AND s.tenant_id = $1 AND s.user_id = $3
ORDER BY o.factors <=> s.factors, o.user_id
LIMIT $4;

-- name: clear_segments
-- Makes room for a tenant's new segments.
DELETE FROM user_segments WHERE tenant_id = $1;

-- name: insert_segments
-- Users' segments and factors.
INSERT INTO user_segments (tenant_id, user_id, segment, factors)
SELECT $1, n.user_id, n.segment, n.factors
FROM unnest($2::text[], $3::text[], $4::halfvec[]) AS n (user_id, segment, factors);

-- name: bump_users
-- Makes cached answers of users whose id matches a LIKE pattern unusable; returns how many.
WITH bumped AS (
    UPDATE user_profiles SET revision = nextval('revision_seq')
    WHERE tenant_id = $1 AND user_id LIKE $2
    RETURNING 1
)
SELECT count(*) FROM bumped;
