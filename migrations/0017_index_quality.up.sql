-- How much of what exact search finds the HNSW index of a tenant's own placement finds, as last measured.
CREATE TABLE index_quality (
    tenant_id text COLLATE "C" PRIMARY KEY,
    measured_at timestamptz NOT NULL,
    recall double precision NOT NULL CHECK (recall BETWEEN 0 AND 1),
    sampled_queries integer NOT NULL,
    ef_search integer NOT NULL,
    rebuild_requested_at timestamptz
);
COMMENT ON COLUMN index_quality.recall IS 'The share of the true nearest 20 that were found, searching as widely as ef_search says.';
COMMENT ON COLUMN index_quality.rebuild_requested_at IS 'When the index was last ordered to be built anew.';
SELECT penchant_protect('index_quality');
GRANT SELECT ON index_quality TO penchant_service;

ALTER TABLE tenants ADD COLUMN ef_search integer NOT NULL DEFAULT 100 CHECK (ef_search BETWEEN 1 AND 1000);
COMMENT ON COLUMN tenants.ef_search IS 'How widely sessions that work for the tenant search its HNSW index.';

CREATE FUNCTION penchant_index_recall(
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
COMMENT ON FUNCTION penchant_index_recall(text, integer, integer, integer, integer, bigint) IS
    'Searches for some of a tenant''s vectors by the HNSW index and exactly; the share of the true nearest 20 that the index found, NULL where there is nothing to look for.';

CREATE FUNCTION penchant_orphans() RETURNS TABLE (store text, owner text, row_count bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    target regclass;
BEGIN
    FOR target IN
        SELECT c.oid::regclass
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname !~ '^entities_p[1-9]'
            AND c.relname NOT IN ('tenants', 'erased_users', 'erasure_receipts', 'audit_events')
            AND c.relnamespace = (SELECT t.relnamespace FROM pg_class t WHERE t.oid = 'tenants'::regclass)
        ORDER BY c.relname
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, r.tenant_id, count(*) FROM %s r WHERE r.tenant_id <> '''' AND NOT EXISTS ('
            'SELECT 1 FROM tenants t WHERE t.tenant_id = r.tenant_id AND t.state <> ''erased'')'
            ' GROUP BY r.tenant_id ORDER BY r.tenant_id',
            target::text, target
        );
    END LOOP;
    RETURN QUERY
        SELECT 'entities_p' || e.placement, e.tenant_id::text, count(*)
        FROM entities e JOIN tenants t ON t.tenant_id = e.tenant_id
        WHERE t.state = 'active' AND e.placement <> t.placement
        GROUP BY e.placement, e.tenant_id ORDER BY e.placement, e.tenant_id;
END
$$;
COMMENT ON FUNCTION penchant_orphans() IS
    'Rows of tenants that do not exist or are erased, by table, and entities outside their tenant''s placement; it reads every table.';
