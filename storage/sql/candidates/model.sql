-- name: model
-- What a trained model offers, scored before the statement: numbers and scores.
SELECT * FROM (
    SELECT 'model' AS source, e.entity_no, m.raw, NULL::bigint[] AS because
    FROM unnest($19::bigint[], $20::double precision[]) AS m (entity_no, raw)
    JOIN entities e ON e.placement = $3 AND e.tenant_id = $1 AND e.entity_no = m.entity_no
    WHERE {eligible}
    ORDER BY m.raw DESC, e.entity_no
    LIMIT $5
) AS n
