-- name: newest
-- The latest entities: what is left when nobody has interacted yet, so that no answer is empty.
SELECT * FROM (
    SELECT 'newest' AS source, e.entity_no, extract(epoch FROM e.created_at)::double precision AS raw,
        NULL::bigint[] AS because,
        {entity}
    FROM entities e
    WHERE e.placement = {placement} AND e.tenant_id = $1 AND {eligible}
    ORDER BY e.created_at DESC, e.entity_no DESC
    LIMIT $5
) AS n
