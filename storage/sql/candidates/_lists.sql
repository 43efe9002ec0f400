-- name: remembered_lists
-- The lists that all users of a tenant share, or those of a segment ($3), whole: numbers and scores, best first.
SELECT s.source,
    coalesce(array_agg(l.entity_no ORDER BY l.score DESC, l.entity_no) FILTER (WHERE l.entity_no IS NOT NULL), '{}')
        AS numbers,
    coalesce(array_agg(l.score ORDER BY l.score DESC, l.entity_no) FILTER (WHERE l.entity_no IS NOT NULL), '{}')
        AS scores,
    (SELECT sum(c.revision)::bigint FROM catalogue_revisions c WHERE c.tenant_id = $1) AS catalogue_revision
FROM (VALUES ('popular'), ('segment'), ('trending')) AS s (source)
LEFT JOIN (
    SELECT 'trending' AS source, e.entity_no, t.score
    FROM trending_entities t
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = t.entity_type AND e.entity_id = t.entity_id
    WHERE t.tenant_id = $1
    UNION ALL
    SELECT CASE p.segment WHEN '' THEN 'popular' ELSE 'segment' END, e.entity_no, p.score
    FROM popular_entities p
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1
        AND e.entity_type = p.entity_type AND e.entity_id = p.entity_id
    WHERE p.tenant_id = $1 AND p.segment IN ('', $3)
) AS l USING (source)
WHERE (SELECT penchant_guard_read($1, $2))
GROUP BY s.source;
