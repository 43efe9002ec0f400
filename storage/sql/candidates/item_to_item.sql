-- name: item_to_item
-- Neighbours by co-interaction of the recent history and the context, weighted and summed.
SELECT * FROM (
    SELECT 'item_to_item' AS source, s.entity_no, s.raw, s.because
    FROM (
        SELECT n.entity_no, sum(h.weight * n.score) AS raw,
            (array_agg(h.entity_no ORDER BY h.weight * n.score DESC, h.entity_no))[1:3] AS because
        FROM unnest($14::bigint[], $15::double precision[]) AS h (entity_no, weight)
        JOIN entity_neighbours en ON en.tenant_id = $1 AND en.entity_no = h.entity_no
        CROSS JOIN LATERAL unnest(en.neighbour_nos, en.scores) AS n (entity_no, score)
        GROUP BY n.entity_no
        HAVING sum(h.weight * n.score) > 0
    ) AS s
    JOIN entities e ON e.placement = $3 AND e.tenant_id = $1 AND e.entity_no = s.entity_no
    WHERE {eligible}
    ORDER BY s.raw DESC, s.entity_no
    LIMIT $5
) AS n
