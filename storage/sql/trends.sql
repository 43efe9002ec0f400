-- name: plan_for_whole_tenants
-- For statements over all of a tenant's rows: without statistics (after a fresh import) the planner takes
-- tables for almost empty and loops over them. Until the end of the transaction (maintenance).
SELECT set_config('enable_nestloop', 'off', true);

-- name: refresh_trending
-- Counts a tenant's window anew: $2 window and $3 half-life in seconds, $4 entities kept a type. The
-- window ends now, or at the newest interaction when that is older than the whole window. Rows that would
-- stay as they are, but for a float's last digits, are not written. (maintenance)
WITH bounds AS MATERIALIZED (
    SELECT CASE WHEN n.newest < now() - make_interval(secs => $2) THEN n.newest ELSE now() END AS window_end
    FROM (SELECT max("timestamp") AS newest FROM interactions WHERE tenant_id = $1) AS n
    WHERE n.newest IS NOT NULL
), scored AS (
    SELECT i.entity_type, i.entity_id,
        -- Not below e^-100: what a float cannot hold is an error.
        sum(i.weight * exp(-least(ln(2) * extract(epoch FROM b.window_end - i."timestamp")::double precision / $3, 100))) AS score
    FROM bounds b
    JOIN interactions i ON i.tenant_id = $1
        AND i."timestamp" > b.window_end - make_interval(secs => $2) AND i."timestamp" <= b.window_end
        AND abs(i.weight) >= 1e-12
    GROUP BY i.entity_type, i.entity_id
), ranked AS (
    SELECT s.*, row_number() OVER (PARTITION BY s.entity_type ORDER BY s.score DESC, s.entity_id) AS place
    FROM scored s WHERE s.score > 1e-9
), kept AS MATERIALIZED (
    SELECT r.entity_type, r.entity_id, r.score, b.window_end - make_interval(secs => $2) AS window_start, b.window_end
    FROM ranked r, bounds b WHERE r.place <= $4
), written AS (
    INSERT INTO trending_entities AS t (tenant_id, entity_type, entity_id, score, window_start, window_end)
    SELECT $1, k.entity_type, k.entity_id, k.score, k.window_start, k.window_end FROM kept k
    ORDER BY 2, 3
    ON CONFLICT (tenant_id, entity_type, entity_id)
    DO UPDATE SET score = EXCLUDED.score, window_start = EXCLUDED.window_start, window_end = EXCLUDED.window_end
    WHERE (t.score::real, t.window_start, t.window_end)
        IS DISTINCT FROM (EXCLUDED.score::real, EXCLUDED.window_start, EXCLUDED.window_end)
    RETURNING 1
), dropped AS (
    DELETE FROM trending_entities t
    WHERE t.tenant_id = $1 AND (t.entity_type, t.entity_id) NOT IN (SELECT entity_type, entity_id FROM kept)
    RETURNING 1
)
SELECT (SELECT count(*) FROM kept) AS kept, (SELECT count(*) FROM written) + (SELECT count(*) FROM dropped) AS changed;

-- name: refresh_popular
-- Counts users an entity over the latest $4 positive interactions, for the whole tenant and by segment
-- ($2 names the attribute of user entities; NULL: the learned segments), $3 entities kept a segment and type.
-- Rows that would stay as they are are not written. (maintenance)
WITH liked AS MATERIALIZED (
    SELECT DISTINCT s.user_id, s.entity_type, s.entity_id
    FROM (
        SELECT i.user_id, i.entity_type, i.entity_id FROM interactions i
        WHERE i.tenant_id = $1 AND i.weight > 0 ORDER BY i."timestamp" DESC LIMIT $4
    ) AS s
), segments AS (
    SELECT u.entity_id AS user_id, u.attributes ->> $2 AS segment
    FROM tenants t
    JOIN entities u ON u.placement = t.placement AND u.tenant_id = t.tenant_id AND u.entity_type = 'user'
    WHERE t.tenant_id = $1 AND $2::text IS NOT NULL AND u.attributes ->> $2 <> ''
    UNION ALL
    SELECT s.user_id, s.segment FROM user_segments s WHERE s.tenant_id = $1 AND $2::text IS NULL
), counted AS (
    SELECT '' AS segment, l.entity_type, l.entity_id, count(*) AS score FROM liked l GROUP BY 1, 2, 3
    UNION ALL
    SELECT s.segment, l.entity_type, l.entity_id, count(*)
    FROM liked l JOIN segments s USING (user_id) GROUP BY 1, 2, 3
), ranked AS (
    SELECT c.*, row_number() OVER (PARTITION BY c.segment, c.entity_type ORDER BY c.score DESC, c.entity_id) AS place
    FROM counted c
), kept AS MATERIALIZED (
    SELECT r.segment, r.entity_type, r.entity_id, r.score FROM ranked r WHERE r.place <= $3
), written AS (
    INSERT INTO popular_entities AS p (tenant_id, segment, entity_type, entity_id, score)
    SELECT $1, k.segment, k.entity_type, k.entity_id, k.score FROM kept k
    ORDER BY 2, 3, 4
    ON CONFLICT (tenant_id, segment, entity_type, entity_id) DO UPDATE SET score = EXCLUDED.score
    WHERE p.score <> EXCLUDED.score
    RETURNING 1
), dropped AS (
    DELETE FROM popular_entities p
    WHERE p.tenant_id = $1
        AND (p.segment, p.entity_type, p.entity_id) NOT IN (SELECT segment, entity_type, entity_id FROM kept)
    RETURNING 1
)
SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM dropped) AS changed;

-- name: read_preferences
-- Who interacted positively with what, for co-interaction: the latest $2 pairs (maintenance).
SELECT u.user_no, e.entity_no, u.weight
FROM (
    SELECT dense_rank() OVER (ORDER BY s.user_id) - 1 AS user_no, s.entity_type, s.entity_id, sum(s.weight) AS weight
    FROM (
        SELECT i.user_id, i.entity_type, i.entity_id, i.weight FROM interactions i
        WHERE i.tenant_id = $1 AND i.weight > 0 ORDER BY i."timestamp" DESC LIMIT $2
    ) AS s
    GROUP BY s.user_id, s.entity_type, s.entity_id
) AS u
JOIN tenants t ON t.tenant_id = $1
JOIN entities e ON e.placement = t.placement AND e.tenant_id = $1
    AND e.entity_type = u.entity_type AND e.entity_id = u.entity_id;

-- name: clear_neighbours
-- Makes room for a tenant's new neighbours (maintenance).
DELETE FROM entity_neighbours WHERE tenant_id = $1;

-- name: insert_neighbours
-- One entity's neighbours (maintenance).
INSERT INTO entity_neighbours (tenant_id, entity_no, neighbour_nos, scores) VALUES ($1, $2, $3, $4);

-- name: finish_job
-- Remembers what a job has worked up, in the transaction of its work, or what stood there at $4 (maintenance).
INSERT INTO job_states (tenant_id, job, input_mark, finished_at) VALUES ($1, $2, $3, coalesce($4, now()))
ON CONFLICT (tenant_id, job) DO UPDATE SET input_mark = EXCLUDED.input_mark, finished_at = EXCLUDED.finished_at;

-- name: present
-- The instant at which the running transaction began.
SELECT now();

-- name: job_finished_at
-- When jobs of one name last finished, by tenant (maintenance).
SELECT tenant_id, finished_at, input_mark FROM job_states WHERE job = $1;
