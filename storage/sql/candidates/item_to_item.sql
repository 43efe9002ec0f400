-- name: item_to_item
-- Neighbours by co-interaction of the recent history and the context, weighted and summed. Entities are looked
-- up in the order of the sums, until enough may be shown; what led to them is looked for at the end.
SELECT * FROM (
    WITH parts AS MATERIALIZED (
        SELECT h.entity_no AS anchor_no, n.entity_no, h.weight * n.score AS part
        FROM unnest($14::bigint[], $15::double precision[]) AS h (entity_no, weight)
        JOIN entity_neighbours en ON en.tenant_id = $1 AND en.entity_no = h.entity_no
        CROSS JOIN LATERAL unnest(en.neighbour_nos, en.scores) AS n (entity_no, score)
    ), best AS MATERIALIZED (
        SELECT s.entity_no, s.raw, {entity}
        FROM (
            SELECT p.entity_no, sum(p.part) AS raw FROM parts p
            GROUP BY p.entity_no HAVING sum(p.part) > 0
            ORDER BY raw DESC, p.entity_no
        ) AS s
        JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1 AND e.entity_no = s.entity_no
        WHERE {eligible}
        ORDER BY s.raw DESC, s.entity_no
        LIMIT $5
    ), causes AS (
        SELECT p.entity_no, (array_agg(p.anchor_no ORDER BY p.part DESC, p.anchor_no))[1:3] AS because
        FROM parts p WHERE p.entity_no IN (SELECT b.entity_no FROM best b)
        GROUP BY p.entity_no
    )
    SELECT 'item_to_item' AS source, b.entity_no, b.raw, c.because,
        b.entity_type, b.entity_id, b.attributes, b.feature_vector, b.created_at, b.updated_at,
        b.hidden, b.available_from, b.available_until
    FROM best b JOIN causes c USING (entity_no)
) AS n
