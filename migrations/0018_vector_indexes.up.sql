-- Vector indexes: built by what was measured (docs/performance.md), judged by what users ask for, with the
-- progress of their build told, and warmed.
CREATE OR REPLACE FUNCTION penchant_move_index(p_to integer, p_dimension integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    target text := 'entities_p' || p_to;
    statement text := format(
        'CREATE INDEX %I ON %I USING hnsw ((feature_vector::halfvec(%s)) halfvec_cosine_ops)'
        ' WITH (m = 16, ef_construction = 128)',
        target || '_hnsw', target, p_dimension
    );
BEGIN
    -- The graph is built in memory, some one and a half times its vectors. A parallel build takes all
    -- of it at once, so no more is asked for than is needed.
    PERFORM set_config('maintenance_work_mem', least(
        greatest(65536, 2 * pg_table_size(target::regclass) / 1024), 2097152
    ) || 'kB', true);
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN disk_full OR out_of_memory THEN
        -- Shared memory is often small in containers, and only a parallel build needs it.
        PERFORM set_config('max_parallel_maintenance_workers', '0', true);
        EXECUTE statement;
    END;
    EXECUTE format('ANALYZE %I', target);
END
$$;

CREATE OR REPLACE FUNCTION penchant_index_recall(
    p_tenant_id text, p_placement integer, p_dimension integer, p_ef_search integer, p_queries integer, p_seed bigint,
    OUT recall double precision, OUT sampled_queries integer
)
LANGUAGE plpgsql AS $$
DECLARE
    wanted CONSTANT integer := 20;
    -- Only the first has the index's expression.
    by_index CONSTANT text := format(
        'SELECT array_agg(n.distance) FROM (SELECT e.feature_vector::halfvec(%1$s) <=> $3::halfvec(%1$s) AS distance'
        ' FROM entities e WHERE e.placement = $1 AND e.tenant_id = $2 AND e.feature_vector IS NOT NULL'
        ' ORDER BY e.feature_vector::halfvec(%1$s) <=> $3::halfvec(%1$s) LIMIT $4) AS n',
        p_dimension
    );
    exactly CONSTANT text :=
        'SELECT array_agg(n.distance ORDER BY n.distance) FROM (SELECT e.feature_vector <=> $3 AS distance'
        ' FROM entities e WHERE e.placement = $1 AND e.tenant_id = $2 AND e.feature_vector IS NOT NULL'
        ' ORDER BY e.feature_vector <=> $3 LIMIT $4) AS n WHERE n.distance <> ''NaN''';
    query halfvec;
    found double precision[];
    nearest double precision[];
    hits bigint := 0;
    possible bigint := 0;
BEGIN
    sampled_queries := 0;
    PERFORM set_config('hnsw.ef_search', p_ef_search::text, true);
    FOR query IN
        -- Half are preferences of users who did something lately, which lie between the entities and are found
        -- less easily; the others are entities at places that follow from the seed.
        WITH lately AS MATERIALIZED (
            SELECT i.user_id FROM interactions i WHERE i.tenant_id = p_tenant_id
            ORDER BY i."timestamp" DESC LIMIT 50 * p_queries
        ), users AS MATERIALIZED (
            SELECT u.preference_vector FROM (SELECT DISTINCT l.user_id FROM lately l) AS d
            JOIN user_profiles u ON u.tenant_id = p_tenant_id AND u.user_id = d.user_id
            WHERE u.preference_vector IS NOT NULL
            ORDER BY hashtextextended(d.user_id, p_seed) LIMIT p_queries / 2
        ), bounds AS MATERIALIZED (
            SELECT min(e.entity_no) AS low, max(e.entity_no) AS high FROM entities e
            WHERE e.placement = p_placement AND e.tenant_id = p_tenant_id
        ), picks AS MATERIALIZED (
            SELECT b.low + (hashint8extended(n, p_seed) & 9223372036854775807) % (b.high - b.low + 1) AS place
            FROM bounds b, generate_series(1, p_queries - (SELECT count(*) FROM users)) AS n
        )
        SELECT u.preference_vector FROM users u
        UNION ALL
        SELECT e.feature_vector FROM picks p CROSS JOIN LATERAL (
            SELECT c.feature_vector FROM entities c
            WHERE c.placement = p_placement AND c.tenant_id = p_tenant_id AND c.entity_no >= p.place
                AND c.feature_vector IS NOT NULL
            ORDER BY c.entity_no LIMIT 1
        ) AS e
    LOOP
        CONTINUE WHEN l2_norm(query) = 0;
        PERFORM set_config('enable_sort', 'off', true);
        EXECUTE by_index INTO found USING p_placement, p_tenant_id, query, wanted;
        PERFORM set_config('enable_sort', 'on', true);
        EXECUTE exactly INTO nearest USING p_placement, p_tenant_id, query, wanted;
        CONTINUE WHEN nearest IS NULL;
        -- By distance: entities with the same vector stand for each other.
        hits := hits + (SELECT count(*) FROM unnest(found) AS distance WHERE distance <= nearest[cardinality(nearest)]);
        possible := possible + cardinality(nearest);
        sampled_queries := sampled_queries + 1;
    END LOOP;
    recall := hits::double precision / nullif(possible, 0);
END
$$;

-- How far the build of a placement's index is. PostgreSQL shows the progress of a command to the role that
-- runs it only; moves run as the schema's owner, who lends their eyes for this one number.
CREATE FUNCTION penchant_index_share(target regclass) RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- Blocks of the table that were read: the graph grows while they are. PostgreSQL tells all of them as
    -- done while it is in the first, of which no more rows can have come than a block holds, 291.
    SELECT max(CASE
        WHEN p.blocks_done = p.blocks_total AND p.tuples_done <= 291 THEN 0
        ELSE p.blocks_done::double precision / nullif(p.blocks_total, 0)
    END)
    FROM pg_stat_progress_create_index p
    WHERE p.relid = target AND p.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
$$;
COMMENT ON FUNCTION penchant_index_share(regclass) IS
    'The share of a table that the build of an index on it has read, 0 to 1; NULL where none is built.';
REVOKE ALL ON FUNCTION penchant_index_share(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION penchant_index_share(regclass) TO penchant_maintenance;

CREATE FUNCTION penchant_warm_placement(
    p_tenant_id text, p_placement integer, p_dimension integer, p_ef_search integer, p_searches integer
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    -- As wide as an answer asks its sources.
    nearest CONSTANT text := format(
        'SELECT count(n.attributes) FROM (SELECT e.attributes FROM entities e WHERE e.placement = $1'
        ' AND e.tenant_id = $2 AND e.feature_vector IS NOT NULL'
        ' ORDER BY e.feature_vector::halfvec(%1$s) <=> $3::halfvec(%1$s) LIMIT 60) AS n',
        p_dimension
    );
    index CONSTANT oid := to_regclass('entities_p' || p_placement || '_hnsw');
    -- Counted since the session told the server's statistics of them, which may be before this transaction.
    read_before CONSTANT bigint := pg_stat_get_xact_blocks_fetched(index) - pg_stat_get_xact_blocks_hit(index);
    query halfvec;
    searches integer := 0;
BEGIN
    PERFORM set_config('hnsw.ef_search', p_ef_search::text, true);
    PERFORM set_config('enable_sort', 'off', true);
    FOR query IN
        WITH lately AS MATERIALIZED (
            SELECT i.user_id, i."timestamp" FROM interactions i WHERE i.tenant_id = p_tenant_id
            ORDER BY i."timestamp" DESC LIMIT 20 * p_searches
        ), users AS MATERIALIZED (
            SELECT l.user_id FROM lately l GROUP BY l.user_id ORDER BY max(l."timestamp") DESC LIMIT p_searches / 2
        ), bounds AS MATERIALIZED (
            SELECT min(e.entity_no) AS low, max(e.entity_no) AS high FROM entities e
            WHERE e.placement = p_placement AND e.tenant_id = p_tenant_id
        )
        SELECT u.preference_vector FROM users JOIN user_profiles u ON u.tenant_id = p_tenant_id AND u.user_id = users.user_id
        WHERE u.preference_vector IS NOT NULL
        UNION ALL
        SELECT c.feature_vector
        FROM bounds b CROSS JOIN generate_series(0, p_searches - p_searches / 2 - 1) AS n CROSS JOIN LATERAL (
            SELECT e.feature_vector FROM entities e
            WHERE e.placement = p_placement AND e.tenant_id = p_tenant_id AND e.feature_vector IS NOT NULL
                AND e.entity_no >= b.low + (b.high - b.low) * n / p_searches * 2
            ORDER BY e.entity_no LIMIT 1
        ) AS c
    LOOP
        CONTINUE WHEN l2_norm(query) = 0;
        EXECUTE nearest USING p_placement, p_tenant_id, query;
        searches := searches + 1;
        IF searches = 20 THEN
            -- Who starts beside a PostgreSQL that has run for long finds everything there.
            EXIT WHEN pg_stat_get_xact_blocks_fetched(index) - pg_stat_get_xact_blocks_hit(index) = read_before;
            -- In the order in which they lie, which is quick; large tables do not push others out.
            PERFORM count(e.attributes) FROM entities e WHERE e.placement = p_placement AND e.tenant_id = p_tenant_id;
            PERFORM count(n.scores) FROM entity_neighbours n WHERE n.tenant_id = p_tenant_id;
        END IF;
    END LOOP;
    RETURN searches;
END
$$;
COMMENT ON FUNCTION penchant_warm_placement(text, integer, integer, integer, integer) IS
    'Searches a tenant''s HNSW index for the users who did something last and for entities, and reads its entities and neighbours, so that all are in memory; ends soon where it is; returns the number of searches.';
