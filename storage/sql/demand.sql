-- name: entity_exists
-- Whether the tenant has an entity, stubs included.
SELECT EXISTS (
    SELECT 1 FROM entities e
    WHERE (SELECT penchant_guard_read($1, $2)) AND e.placement = $3 AND e.tenant_id = $1
        AND e.entity_type = $4 AND e.entity_id = $5
);

-- name: count_steps
-- Interactions of the types $6 in each of $7 full steps ($4 hour or day, in UTC, $5 its seconds), zeros included.
-- The last step is the one before now, or that of the tenant's newest interaction where it is older. $8 type and
-- $9 id of the entities, $10 key and $11 value of an attribute narrow it where they are not NULL.
WITH bounds AS MATERIALIZED (
    SELECT b.until - make_interval(secs => $5::double precision * $7::integer) AS since, b.until
    FROM (
        SELECT least(
            date_trunc($4::text, now(), 'UTC'),
            date_trunc($4::text, n.newest, 'UTC') + make_interval(secs => $5)
        ) AS until
        FROM (SELECT max("timestamp") AS newest FROM interactions WHERE tenant_id = $1) AS n
        WHERE n.newest IS NOT NULL
    ) AS b
    WHERE (SELECT penchant_guard_read($1, $2))
), counted AS (
    SELECT date_trunc($4::text, i."timestamp", 'UTC') AS start, count(*) AS number
    FROM bounds b
    JOIN interactions i ON i.tenant_id = $1 AND i."timestamp" >= b.since AND i."timestamp" < b.until
    WHERE i.interaction_type = ANY($6::text[])
        AND ($8::text IS NULL OR i.entity_type = $8)
        AND ($9::text IS NULL OR i.entity_id = $9)
        AND ($10::text IS NULL OR (i.entity_type, i.entity_id) IN (
            SELECT e.entity_type, e.entity_id FROM entities e
            WHERE e.placement = $3 AND e.tenant_id = $1
                AND (e.attributes ->> $10 = $11::text
                    OR (jsonb_typeof(e.attributes -> $10) = 'array' AND e.attributes -> $10 ? $11))
        ))
    GROUP BY 1
)
SELECT s.start, coalesce(c.number, 0) AS number
FROM bounds b
CROSS JOIN generate_series(b.since, b.until - make_interval(secs => $5), make_interval(secs => $5)) AS s (start)
LEFT JOIN counted c USING (start)
ORDER BY s.start;
