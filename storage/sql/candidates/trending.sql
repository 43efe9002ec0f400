-- name: trending
-- What gathered the most interactions lately.
SELECT * FROM (
    SELECT 'trending' AS source, e.entity_no, t.score AS raw, NULL::bigint[] AS because,
        {entity}
    FROM trending_entities t
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = t.entity_type AND e.entity_id = t.entity_id
    WHERE t.tenant_id = $1 AND {eligible}
    ORDER BY t.score DESC, e.entity_no
    LIMIT $5
) AS n
