-- name: listed
-- The caller's own list (Rerank): every source's score of exactly these entities.
WITH listed AS MATERIALIZED (
    SELECT e.*
    FROM unnest($4::text[], $5::text[]) AS i (entity_type, entity_id)
    JOIN entities e ON e.placement = $3 AND e.tenant_id = $1
        AND e.entity_type = i.entity_type AND e.entity_id = i.entity_id
    WHERE NOT e.hidden
        AND (e.available_from IS NULL OR e.available_from <= now())
        AND (e.available_until IS NULL OR now() < e.available_until)
), related AS MATERIALIZED (
    SELECT n.entity_no, sum(h.weight * n.score) AS raw,
        (array_agg(h.entity_no ORDER BY h.weight * n.score DESC, h.entity_no))[1:3] AS because
    FROM unnest($8::bigint[], $9::double precision[]) AS h (entity_no, weight)
    JOIN entity_neighbours en ON en.tenant_id = $1 AND en.entity_no = h.entity_no
    CROSS JOIN LATERAL unnest(en.neighbour_nos, en.scores) AS n (entity_no, score)
    GROUP BY n.entity_no
    HAVING sum(h.weight * n.score) > 0
), said AS (
    SELECT 'content' AS source, l.entity_no, 1 - (l.feature_vector <=> $6::halfvec) AS raw, NULL::bigint[] AS because
    FROM listed l WHERE $6::halfvec IS NOT NULL AND l.feature_vector IS NOT NULL
    UNION ALL
    SELECT 'context', l.entity_no, 1 - (l.feature_vector <=> $7::halfvec), NULL
    FROM listed l WHERE $7::halfvec IS NOT NULL AND l.feature_vector IS NOT NULL
    UNION ALL
    SELECT 'item_to_item', r.entity_no, r.raw, r.because FROM related r
    UNION ALL
    SELECT 'trending', l.entity_no, t.score, NULL
    FROM listed l JOIN trending_entities t ON t.tenant_id = $1
        AND t.entity_type = l.entity_type AND t.entity_id = l.entity_id
    UNION ALL
    SELECT 'popular', l.entity_no, p.score, NULL
    FROM listed l JOIN popular_entities p ON p.tenant_id = $1 AND p.segment = ''
        AND p.entity_type = l.entity_type AND p.entity_id = l.entity_id
), grouped AS (
    SELECT s.entity_no, array_agg(s.source) AS sources, array_agg(s.raw) AS raws, max(s.because) AS because
    FROM said s WHERE s.raw > 0 GROUP BY s.entity_no
)
SELECT e.entity_no, coalesce(g.sources, '{}') AS sources, coalesce(g.raws, '{}') AS raws, g.because,
    e.entity_type, e.entity_id, e.attributes::text AS attributes_text, e.feature_vector,
    CASE WHEN cardinality($10::text[]) > 0 THEN ARRAY(
        SELECT penchant_matches(e.attributes, e.entity_type, e.entity_id, e.created_at, e.updated_at,
            b.path::jsonpath, b.variables)
        FROM unnest($10::text[], $11::jsonb[]) WITH ORDINALITY AS b (path, variables, place)
        ORDER BY b.place
    ) END AS boosts
FROM listed e
LEFT JOIN grouped g USING (entity_no)
WHERE (SELECT penchant_guard_read($1, $2))
ORDER BY e.entity_no;

-- name: by_numbers
-- Entities of a page's snapshot that may still be shown, by number.
SELECT e.entity_no, e.entity_type, e.entity_id, e.attributes::text AS attributes_text
FROM entities e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.placement = $3 AND e.tenant_id = $1
    AND e.entity_no = ANY($4::bigint[]) AND NOT e.hidden
    AND (e.available_from IS NULL OR e.available_from <= now())
    AND (e.available_until IS NULL OR now() < e.available_until);

-- name: trending_window
-- The window that was last counted.
SELECT min(t.window_start) AS window_start, max(t.window_end) AS window_end
FROM trending_entities t WHERE t.tenant_id = $1;
