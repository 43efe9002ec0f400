DROP FUNCTION penchant_warm_placement(text, integer, integer, integer, integer);
DROP FUNCTION penchant_index_share(regclass);

CREATE OR REPLACE FUNCTION penchant_move_index(p_to integer, p_dimension integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    target text := 'entities_p' || p_to;
    statement text := format(
        'CREATE INDEX %I ON %I USING hnsw ((feature_vector::halfvec(%s)) halfvec_cosine_ops)'
        ' WITH (m = 16, ef_construction = 64)',
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
        -- Entities at places that follow from the seed; every other one stands for a user who met it.
        WITH bounds AS MATERIALIZED (
            SELECT min(e.entity_no) AS low, max(e.entity_no) AS high FROM entities e
            WHERE e.placement = p_placement AND e.tenant_id = p_tenant_id
        ), picks AS MATERIALIZED (
            SELECT n, b.low + (hashint8extended(n, p_seed) & 9223372036854775807) % (b.high - b.low + 1) AS place
            FROM bounds b, generate_series(1, p_queries::bigint) AS n
        ), chosen AS MATERIALIZED (
            SELECT p.n, e.* FROM picks p CROSS JOIN LATERAL (
                SELECT c.entity_type, c.entity_id, c.feature_vector FROM entities c
                WHERE c.placement = p_placement AND c.tenant_id = p_tenant_id AND c.entity_no >= p.place
                    AND c.feature_vector IS NOT NULL
                ORDER BY c.entity_no LIMIT 1
            ) AS e
        )
        SELECT coalesce((
            SELECT u.preference_vector FROM interactions i
            JOIN user_profiles u ON u.tenant_id = i.tenant_id AND u.user_id = i.user_id
            WHERE c.n % 2 = 0 AND i.tenant_id = p_tenant_id AND i.entity_type = c.entity_type
                AND i.entity_id = c.entity_id AND u.preference_vector IS NOT NULL
            LIMIT 1
        ), c.feature_vector)
        FROM chosen c
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
