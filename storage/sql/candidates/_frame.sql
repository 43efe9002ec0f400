-- name: eligible
-- Whether entity e may be in the answer at all. A fragment of every candidate source.
{eligible_plain}
    AND (($4::text IS NULL AND e.entity_type <> 'user') OR e.entity_type = $4)
    AND penchant_matches(e.attributes, e.entity_type, e.entity_id, e.created_at, e.updated_at,
        $6::text::jsonpath, $7::jsonb);

-- name: eligible_plain
-- The part of it that every answer asks for.
NOT e.hidden
    AND (e.available_from IS NULL OR e.available_from <= now())
    AND (e.available_until IS NULL OR now() < e.available_until)
    AND (e.entity_type, e.entity_id) NOT IN (SELECT b.entity_type, b.entity_id FROM blocked b);

-- name: plain
-- All of it where no type is named and there is no filter: such plans are kept, and hold no more than they need.
{eligible_plain} AND e.entity_type <> 'user';

-- name: entity
-- What a candidate source says of entity e itself. A fragment of every candidate source.
e.entity_type, e.entity_id, e.attributes, e.feature_vector, e.created_at, e.updated_at,
            e.hidden, e.available_from, e.available_until;

-- name: wanted
-- Entities by number, whatever may be said of them ($22): what is not known of those that were ranked before.
SELECT 'wanted' AS source, e.entity_no, 0::double precision AS raw, NULL::bigint[] AS because,
    {entity}
FROM entities e
WHERE e.placement = {placement} AND e.tenant_id = $1 AND e.entity_no = ANY($22::bigint[]);

-- name: related
-- In the place of item_to_item where the neighbours were summed before the statement: numbers and sums.
SELECT * FROM (
    SELECT 'item_to_item' AS source, e.entity_no, h.raw, NULL::bigint[] AS because,
        {entity}
    FROM (
        SELECT u.entity_no, u.raw FROM unnest($14::bigint[], $15::double precision[]) AS u (entity_no, raw)
        ORDER BY u.raw DESC, u.entity_no
    ) AS h
    JOIN entities e ON e.placement = {placement} AND e.tenant_id = $1 AND e.entity_no = h.entity_no
    WHERE {eligible}
    ORDER BY h.raw DESC, h.entity_no
    LIMIT $5
) AS n;

-- name: seen
-- What the user has seen, in full. It is part of the statement only where it is not known beforehand: planning
-- for all partitions of the log takes longer than reading a few rows of them.
UNION ALL
    SELECT i.entity_type, i.entity_id FROM interactions i
    WHERE $10::text IS NOT NULL AND i.tenant_id = $1 AND i.user_id = $10 AND i.interaction_type = ANY($11::text[]);

-- name: arguments
-- What the frames around the chosen sources begin with. Parameters:
-- $1 tenant_id, $2 tenant version, $3 placement, $4 entity_type or NULL (all but users),
-- $5 candidates a source, $6 filter path, $7 filter variables,
-- $8, $9 excluded types and ids (`storage/text_lists.py`), $10 user whose seen entities are left out or NULL, $11 types that mark seen,
-- $12 profile vector, $13 context vector, $14, $15 history numbers and weights, or related numbers and sums,
-- $16 segment or NULL, $17, $18 boost filter paths and variables, $19, $20 numbers and scores of a model,
-- $21 sources whose candidates are wanted with their vectors, $22 numbers of entities that are wanted themselves.
-- {placement} is $3, or the number itself: a plan that is kept (`plan_cache_mode`) is one for a single partition.
{blocked}, arguments AS (
    SELECT $10::text AS seen_by, $11::text[] AS seen_types, $12::halfvec AS profile, $13::halfvec AS context, $14::bigint[] AS history_nos,
        $15::double precision[] AS history_weights, $16::text AS segment, $5::integer AS wanted,
        $19::bigint[] AS model_nos, $20::double precision[] AS model_scores, $3::integer AS placement,
        $4::text AS entity_type, $6::text AS filter_path, $7::jsonb AS filter_variables,
        $17::text[] AS boost_paths, $18::jsonb[] AS boost_variables, $21::text[] AS with_vectors, $22::bigint[] AS wanted_nos
);

-- name: blocked
-- What must not be offered.
WITH blocked AS MATERIALIZED (
    SELECT x.entity_type, x.entity_id
    FROM unnest(string_to_array($8, E'\x1f'), string_to_array($9, E'\x1f')) AS x (entity_type, entity_id)
    {seen}
);

-- name: guard
-- Fails unless the tenant's row is the one that the caller knows. The function, which raises, costs more than the look.
WHERE (SELECT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = $1 AND t.version = $2 AND t.state = 'active')
    OR penchant_guard_read($1, $2));

-- name: nearest
-- What the chosen sources offer by number alone, a row a source: for who knows the entities. As bytes, one after the other.
{blocked}
SELECT o.source, string_agg(int8send(o.entity_no), '') AS numbers, string_agg(float8send(o.raw), '') AS raws,
    (SELECT sum(c.revision)::bigint FROM catalogue_revisions c WHERE c.tenant_id = $1) AS catalogue_revision
FROM (
    {sources}
) AS o
{guard}
GROUP BY o.source;

-- name: frame
-- A row for what each source offers, with the entity itself and which boosts it matches: what two sources
-- offer comes twice, which costs less than to look every entity up once more.
{arguments}
SELECT o.source, o.entity_no, o.raw, o.because, o.entity_type, o.entity_id,
    o.attributes::text AS attributes_text,
    CASE WHEN o.source = ANY($21::text[]) THEN o.feature_vector END AS feature_vector,
    CASE WHEN cardinality($17::text[]) > 0 THEN ARRAY(
        SELECT penchant_matches(o.attributes, o.entity_type, o.entity_id, o.created_at, o.updated_at,
            b.path::jsonpath, b.variables)
        FROM unnest($17::text[], $18::jsonb[]) WITH ORDINALITY AS b (path, variables, place)
        ORDER BY b.place
    ) END AS boosts,
    o.hidden, o.available_from, o.available_until,
    (SELECT sum(c.revision)::bigint FROM catalogue_revisions c WHERE c.tenant_id = $1) AS catalogue_revision
FROM (
    {sources}
) AS o
{guard};
