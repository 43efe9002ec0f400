-- name: user_situation
-- What an answer starts from, in one round trip and one snapshot: the versions it depends on, the user's profile,
-- the entities they met (newest first, with the sum of the weights of their latest $5 interactions; those that are
-- only seen have no number), the entities of the request's context ($8, $9), and the neighbours of the first $10
-- of all those. Vectors and neighbours come as bytes, one after the other, each as it is sent alone.
-- The placement stands in it as a number: the plan is kept, and is one for a single partition of entities.
WITH looked_at AS MATERIALIZED (
    SELECT l.place, e.entity_no, e.entity_type, e.entity_id, e.feature_vector
    FROM unnest($8::text[], $9::text[]) WITH ORDINALITY AS l (entity_type, entity_id, place)
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = l.entity_type AND e.entity_id = l.entity_id
), recent AS (
    SELECT i.entity_type, i.entity_id, i.weight, i."timestamp", i.interaction_type = ANY($7::text[]) AS seen,
        count(*) FILTER (WHERE i.weight <> 0) OVER (ORDER BY i."timestamp" DESC, i.interaction_id
            ROWS UNBOUNDED PRECEDING) AS place
    FROM interactions i
    WHERE i.tenant_id = $1 AND i.user_id = $3 AND (i.weight <> 0 OR i.interaction_type = ANY($7::text[]))
    ORDER BY i."timestamp" DESC, i.interaction_id
    LIMIT $11
), counted AS (
    SELECT r.entity_type, r.entity_id, count(*) AS rows, bool_or(r.seen) AS seen,
        sum(r.weight) FILTER (WHERE r.weight <> 0 AND r.place <= $5) AS weight,
        max(r."timestamp") FILTER (WHERE r.weight <> 0 AND r.place <= $5) AS happened_at
    FROM recent r GROUP BY r.entity_type, r.entity_id
), met AS MATERIALIZED (
    SELECT c.*, row_number() OVER (ORDER BY c.happened_at DESC NULLS LAST) AS place, e.entity_no, e.feature_vector
    FROM counted c
    LEFT JOIN entities e ON c.happened_at IS NOT NULL AND e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = c.entity_type AND e.entity_id = c.entity_id
), anchors AS (
    SELECT a.entity_no FROM (
        SELECT l.entity_no, 0 AS later, l.place FROM looked_at l
        UNION ALL
        SELECT m.entity_no, 1, m.place FROM met m WHERE m.entity_no IS NOT NULL
        ORDER BY 2, 3
        LIMIT $10
    ) AS a
)
SELECT
    (SELECT sum(c.revision)::bigint FROM catalogue_revisions c WHERE c.tenant_id = $1) AS catalogue_revision,
    (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS transaction_id,
    (SELECT m.revision FROM model_promotions m WHERE m.tenant_id = $1 ORDER BY m.revision DESC LIMIT 1) AS model_revision,
    now() AS read_at,
    p.revision, p.interaction_count, p.accumulator,
    h.entity_nos, h.entity_types, h.entity_ids, h.weights, h.happened_at, h.seen, h.row_count, h.has_vector, h.vectors,
    coalesce(
        (SELECT u.attributes ->> $4 FROM entities u
         WHERE $4::text IS NOT NULL AND u.placement = {placement} AND u.tenant_id = $1 AND u.entity_type = 'user'
             AND u.entity_id = $3),
        (SELECT s.segment FROM user_segments s WHERE s.tenant_id = $1 AND s.user_id = $3)
    ) AS segment,
    l.entity_nos AS looked_nos, l.entity_types AS looked_types, l.entity_ids AS looked_ids, l.has_vector AS looked_have_vector, l.looked_vectors,
    n.anchor_nos, n.lengths, n.neighbour_nos, n.scores
FROM (VALUES (1)) AS one
LEFT JOIN user_profiles p ON p.tenant_id = $1 AND p.user_id = $3
CROSS JOIN (
    SELECT array_agg(m.entity_no) AS entity_nos, array_agg(m.entity_type) AS entity_types,
        array_agg(m.entity_id) AS entity_ids, array_agg(m.weight) AS weights,
        array_agg(m.happened_at) AS happened_at, array_agg(m.seen) AS seen,
        array_agg(m.feature_vector IS NOT NULL) AS has_vector, sum(m.rows)::bigint AS row_count,
        string_agg(halfvec_send(m.feature_vector), '') FILTER (WHERE m.place <= $6 AND m.weight > 0) AS vectors
    FROM (SELECT * FROM met ORDER BY place) AS m
) AS h
CROSS JOIN (
    SELECT array_agg(l.entity_no) AS entity_nos, array_agg(l.entity_type) AS entity_types,
        array_agg(l.entity_id) AS entity_ids, array_agg(l.feature_vector IS NOT NULL) AS has_vector,
        string_agg(halfvec_send(l.feature_vector), '') AS looked_vectors
    FROM (SELECT * FROM looked_at ORDER BY place) AS l
) AS l
CROSS JOIN (
    SELECT array_agg(en.entity_no) AS anchor_nos, array_agg(cardinality(en.neighbour_nos)) AS lengths,
        string_agg(substring(array_send(en.neighbour_nos) FROM 21), '') AS neighbour_nos,
        string_agg(substring(array_send(en.scores) FROM 21), '') AS scores
    FROM (SELECT DISTINCT a.entity_no FROM anchors a) AS a
    JOIN entity_neighbours en ON en.tenant_id = $1 AND en.entity_no = a.entity_no
) AS n
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
