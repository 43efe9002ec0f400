-- name: eligible
-- Whether entity e may be in the answer at all. A fragment of every candidate source.
NOT e.hidden
    AND (e.available_from IS NULL OR e.available_from <= now())
    AND (e.available_until IS NULL OR now() < e.available_until)
    AND (($4::text IS NULL AND e.entity_type <> 'user') OR e.entity_type = $4)
    AND (e.entity_type, e.entity_id) NOT IN (SELECT b.entity_type, b.entity_id FROM blocked b)
    AND penchant_matches(e.attributes, e.entity_type, e.entity_id, e.created_at, e.updated_at,
        $6::text::jsonpath, $7::jsonb);

-- name: frame
-- The frame around the chosen sources. Parameters:
-- $1 tenant_id, $2 tenant version, $3 placement, $4 entity_type or NULL (all but users),
-- $5 candidates a source, $6 filter path, $7 filter variables,
-- $8, $9 excluded types and ids, $10 user whose seen entities are left out or NULL, $11 types that mark seen,
-- $12 profile vector, $13 context vector, $14, $15 history numbers and weights,
-- $16 segment or NULL, $17, $18 boost filter paths and variables, $19, $20 numbers and scores of a model.
-- Of each candidate: what every source said, the entity itself, and which boosts it matches.
WITH blocked AS MATERIALIZED (
    SELECT x.entity_type, x.entity_id FROM unnest($8::text[], $9::text[]) AS x (entity_type, entity_id)
    UNION ALL
    SELECT i.entity_type, i.entity_id FROM interactions i
    WHERE $10::text IS NOT NULL AND i.tenant_id = $1 AND i.user_id = $10 AND i.interaction_type = ANY($11::text[])
), arguments AS (
    SELECT $12::halfvec AS profile, $13::halfvec AS context, $14::bigint[] AS history_nos,
        $15::double precision[] AS history_weights, $16::text AS segment, $5::integer AS wanted,
        $19::bigint[] AS model_nos, $20::double precision[] AS model_scores
), offered AS MATERIALIZED (
    {sources}
), grouped AS (
    SELECT o.entity_no, array_agg(o.source) AS sources, array_agg(o.raw) AS raws, max(o.because) AS because
    FROM offered o GROUP BY o.entity_no
)
SELECT g.entity_no, g.sources, g.raws, g.because, e.entity_type, e.entity_id,
    e.attributes::text AS attributes_text, e.feature_vector,
    CASE WHEN cardinality($17::text[]) > 0 THEN ARRAY(
        SELECT penchant_matches(e.attributes, e.entity_type, e.entity_id, e.created_at, e.updated_at,
            b.path::jsonpath, b.variables)
        FROM unnest($17::text[], $18::jsonb[]) WITH ORDINALITY AS b (path, variables, place)
        ORDER BY b.place
    ) END AS boosts
FROM grouped g
JOIN entities e ON e.placement = $3 AND e.tenant_id = $1 AND e.entity_no = g.entity_no
WHERE (SELECT penchant_guard_read($1, $2))
ORDER BY g.entity_no;
