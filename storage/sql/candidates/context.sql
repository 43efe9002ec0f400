-- name: context
-- Entities whose feature vector is nearest to the mean of the context entities (cosine).
SELECT 'context' AS source, n.entity_no, n.raw, NULL::bigint[] AS because,
    n.entity_type, n.entity_id, n.attributes, n.feature_vector, n.created_at, n.updated_at,
    n.hidden, n.available_from, n.available_until
FROM (
    SELECT e.entity_no, 1 - (e.feature_vector::halfvec({dimension}) <=> $13::halfvec({dimension})) AS raw,
        {entity}
    FROM entities e
    WHERE $13::halfvec IS NOT NULL AND e.placement = {placement} AND e.tenant_id = $1 AND e.feature_vector IS NOT NULL
        AND {eligible}
    ORDER BY e.feature_vector::halfvec({dimension}) <=> $13::halfvec({dimension})
    LIMIT $5
) AS n
WHERE n.raw > 0
