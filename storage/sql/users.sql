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

-- name: list_profile_rebuilds
-- Entities whose users' profiles are to be made anew, with the users, but for those of some tenants (maintenance).
SELECT r.tenant_id, r.entity_type, r.entity_id, r.requested_at,
    ARRAY(SELECT DISTINCT i.user_id FROM interactions i
          WHERE i.tenant_id = r.tenant_id AND i.entity_type = r.entity_type AND i.entity_id = r.entity_id) AS user_ids
FROM profile_rebuilds r
WHERE r.tenant_id <> ALL ($2::text[])
ORDER BY r.tenant_id, r.requested_at
LIMIT $1;

-- name: end_profile_rebuilds
-- Takes entities off the list, unless they were put on it again since (maintenance).
DELETE FROM profile_rebuilds r
USING unnest($2::text[], $3::text[], $4::timestamptz[]) AS done (entity_type, entity_id, requested_at)
WHERE r.tenant_id = $1 AND r.entity_type = done.entity_type AND r.entity_id = done.entity_id
    AND r.requested_at = done.requested_at;

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
