-- name: popular
-- What most users interacted with, in the whole tenant.
SELECT * FROM (
    SELECT 'popular' AS source, e.entity_no, p.score AS raw, NULL::bigint[] AS because,
        {entity}
    FROM popular_entities p
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = p.entity_type AND e.entity_id = p.entity_id
    WHERE p.tenant_id = $1 AND p.segment = '' AND {eligible}
    ORDER BY p.score DESC, e.entity_no
    LIMIT $5
) AS n
