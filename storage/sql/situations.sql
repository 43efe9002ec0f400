-- name: counted
-- The entities that the user met, with the sum of the weights of their latest $5 interactions; those that are only
-- seen ($6: by which types) have none. At most $7 interactions are looked at.
recent AS (
    SELECT i.entity_type, i.entity_id, i.weight, i."timestamp", i.interaction_type = ANY($6::text[]) AS seen,
        count(*) FILTER (WHERE i.weight <> 0) OVER (ORDER BY i."timestamp" DESC, i.interaction_id
            ROWS UNBOUNDED PRECEDING) AS place
    FROM interactions i
    WHERE i.tenant_id = $1 AND i.user_id = $3 AND (i.weight <> 0 OR i.interaction_type = ANY($6::text[]))
    ORDER BY i."timestamp" DESC, i.interaction_id
    LIMIT $7
), counted AS (
    SELECT r.entity_type, r.entity_id, count(*) AS rows, bool_or(r.seen) AS seen,
        sum(r.weight) FILTER (WHERE r.weight <> 0 AND r.place <= $5) AS weight,
        max(r."timestamp") FILTER (WHERE r.weight <> 0 AND r.place <= $5) AS happened_at
    FROM recent r GROUP BY r.entity_type, r.entity_id
);

-- name: read
-- What is read of versions, profile (p) and segment ($4: an attribute of the user's entity, or NULL).
(SELECT sum(c.revision)::bigint FROM catalogue_revisions c WHERE c.tenant_id = $1) AS catalogue_revision,
    (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS transaction_id,
    (SELECT m.revision FROM model_promotions m WHERE m.tenant_id = $1 ORDER BY m.revision DESC LIMIT 1) AS model_revision,
    now() AS read_at,
    p.revision, p.interaction_count, p.accumulator,
    coalesce(
        (SELECT u.attributes ->> $4 FROM entities u
         WHERE $4::text IS NOT NULL AND u.placement = {placement} AND u.tenant_id = $1 AND u.entity_type = 'user'
             AND u.entity_id = $3),
        (SELECT s.segment FROM user_segments s WHERE s.tenant_id = $1 AND s.user_id = $3)
    ) AS segment;

-- name: history
-- The columns of a history out of rows (m) of entities that were met, newest first.
array_agg(m.entity_no) AS entity_nos, array_agg(m.entity_type) AS entity_types,
        array_agg(m.entity_id) AS entity_ids, array_agg(m.weight) AS weights,
        array_agg(m.happened_at) AS happened_at, array_agg(m.seen) AS seen,
        array_agg(m.has_vector) AS has_vector, sum(m.rows)::bigint AS row_count;

-- name: user_situation
-- What an answer starts from, in one round trip and one snapshot: the versions it depends on, the user's profile,
-- the entities they met (newest first; those that are only seen have no number), the entities of the request's
-- context ($9, $10), and the neighbours of the first $11 of all those; of $8 the vectors. Vectors and neighbours
-- come as bytes, one after the other, each as it is sent alone.
-- The placement stands in it as a number: the plan is kept, and is one for a single partition of entities.
WITH looked_at AS MATERIALIZED (
    SELECT l.place, e.entity_no, e.entity_type, e.entity_id, e.feature_vector
    FROM unnest($9::text[], $10::text[]) WITH ORDINALITY AS l (entity_type, entity_id, place)
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = l.entity_type AND e.entity_id = l.entity_id
), {counted}, met AS MATERIALIZED (
    SELECT c.*, e.entity_no, e.feature_vector, e.feature_vector IS NOT NULL AS has_vector,
        row_number() OVER (ORDER BY c.happened_at DESC NULLS LAST, c.entity_type, c.entity_id) AS place
    FROM counted c
    LEFT JOIN entities e ON c.happened_at IS NOT NULL AND e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = c.entity_type AND e.entity_id = c.entity_id
), anchors AS (
    SELECT a.entity_no FROM (
        SELECT l.entity_no, 0 AS later, l.place FROM looked_at l
        UNION ALL
        SELECT m.entity_no, 1, m.place FROM met m WHERE m.entity_no IS NOT NULL
        ORDER BY 2, 3
        LIMIT $11
    ) AS a
)
SELECT
    {read},
    h.entity_nos, h.entity_types, h.entity_ids, h.weights, h.happened_at, h.seen, h.row_count, h.has_vector, h.vectors,
    l.entity_nos AS looked_nos, l.entity_types AS looked_types, l.entity_ids AS looked_ids, l.has_vector AS looked_have_vector, l.looked_vectors,
    n.anchor_nos, n.lengths, n.neighbour_nos, n.scores
FROM (VALUES (1)) AS one
LEFT JOIN user_profiles p ON p.tenant_id = $1 AND p.user_id = $3
CROSS JOIN (
    SELECT {history},
        string_agg(halfvec_send(m.feature_vector), '') FILTER (WHERE m.place <= $8 AND m.weight > 0) AS vectors
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
{guard};

-- name: recalled_situation
-- The same without a context, for who remembers vectors and neighbours: three quarters of the work.
WITH {counted}
SELECT
    {read},
    h.entity_nos, h.entity_types, h.entity_ids, h.weights, h.happened_at, h.seen, h.row_count, h.has_vector
FROM (VALUES (1)) AS one
LEFT JOIN user_profiles p ON p.tenant_id = $1 AND p.user_id = $3
CROSS JOIN (
    SELECT {history}
    FROM (
        SELECT c.*, e.entity_no, e.feature_vector IS NOT NULL AS has_vector
        FROM counted c
        LEFT JOIN entities e ON c.happened_at IS NOT NULL AND e.placement = {placement} AND e.tenant_id = $1
            AND e.entity_type = c.entity_type AND e.entity_id = c.entity_id
        ORDER BY c.happened_at DESC NULLS LAST, c.entity_type, c.entity_id
    ) AS m
) AS h
{guard};
