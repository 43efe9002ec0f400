-- name: model
-- What a trained model offers, scored before the statement: numbers and scores. Entities are looked up in the
-- order of the scores, until enough may be shown.
SELECT * FROM (
    SELECT 'model' AS source, e.entity_no, m.raw, NULL::bigint[] AS because,
        {entity}
    FROM (
        SELECT u.entity_no, u.raw FROM unnest($19::bigint[], $20::double precision[]) AS u (entity_no, raw)
        ORDER BY u.raw DESC, u.entity_no
    ) AS m
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1 AND e.entity_no = m.entity_no
    WHERE {eligible}
    ORDER BY m.raw DESC, m.entity_no
    LIMIT $5
) AS n
