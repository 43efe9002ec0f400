-- A tenant that outgrows the shared placement moves to one of its own while it is read and written
-- (storage/placements.py). Names of tables, triggers and indexes are made of integers here and
-- nowhere else; a tenant's id appears in DDL only as a literal made by format('%L').
CREATE TABLE placement_moves (
    tenant_id text COLLATE "C" PRIMARY KEY,
    from_placement integer NOT NULL,
    to_placement integer NOT NULL,
    phase text NOT NULL DEFAULT 'requested'
        CHECK (phase IN ('requested', 'copying', 'indexing', 'switching', 'cleaning', 'done')),
    cursor_no bigint NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN placement_moves.cursor_no IS 'The last entity_no that has been copied.';
SELECT penchant_protect('placement_moves');

-- Entities that were written while their tenant was being copied.
CREATE TABLE placement_changes (
    change_no bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, change_no)
);
SELECT penchant_protect('placement_changes');
GRANT INSERT ON placement_changes TO penchant_service;

CREATE FUNCTION penchant_log_placement_change() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    INSERT INTO placement_changes (tenant_id, entity_type, entity_id)
    VALUES (changed.tenant_id, changed.entity_type, changed.entity_id);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION penchant_log_placement_change() IS
    'Row trigger of a partition that a tenant is being copied out of; made and dropped by the move.';

CREATE FUNCTION penchant_move_prepare(p_tenant_id text, p_from integer, p_to integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    source text := 'entities_p' || p_from;
    target text := 'entities_p' || p_to;
    unless_moving text := 'current_setting(''penchant.moving'', true) IS DISTINCT FROM ''on''';
BEGIN
    -- With the parent's indexes and a CHECK that implies its bounds, attaching builds and scans nothing.
    EXECUTE format(
        'CREATE TABLE %I (LIKE entities INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES'
        ' INCLUDING STORAGE, CONSTRAINT %I CHECK (placement = %s))',
        target, target || '_bounds', p_to
    );
    PERFORM penchant_protect(target::regclass);
    -- Each waits for every transaction that has written to the source and ends after this one commits:
    -- whatever the copy's snapshots do not show is logged.
    EXECUTE format(
        'CREATE TRIGGER %I AFTER INSERT OR UPDATE ON %I FOR EACH ROW WHEN (NEW.tenant_id = %L AND %s)'
        ' EXECUTE FUNCTION penchant_log_placement_change()',
        target || '_written', source, p_tenant_id, unless_moving
    );
    EXECUTE format(
        'CREATE TRIGGER %I AFTER DELETE ON %I FOR EACH ROW WHEN (OLD.tenant_id = %L AND %s)'
        ' EXECUTE FUNCTION penchant_log_placement_change()',
        target || '_deleted', source, p_tenant_id, unless_moving
    );
END
$$;
COMMENT ON FUNCTION penchant_move_prepare(text, integer, integer) IS
    'Makes the table of a new placement aside, and logs from its commit on what changes in the old one.';

CREATE FUNCTION penchant_entity_columns() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = 'entities'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'placement'
$$;
COMMENT ON FUNCTION penchant_entity_columns() IS 'The columns of an entity that a move keeps: all but placement.';

CREATE FUNCTION penchant_move_copy(
    p_tenant_id text, p_from integer, p_to integer, p_after bigint, p_limit integer
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    last_no bigint := (
        SELECT max(entity_no) FROM (
            SELECT e.entity_no FROM entities e
            WHERE e.placement = p_from AND e.tenant_id = p_tenant_id AND e.entity_no > p_after
            ORDER BY e.entity_no LIMIT p_limit
        ) AS slice
    );
BEGIN
    -- A name that was deleted and made again meanwhile is there already: the log has its last state.
    EXECUTE format(
        'INSERT INTO %I (placement, %2$s) SELECT $1, %2$s FROM entities'
        ' WHERE placement = $2 AND tenant_id = $3 AND entity_no > $4 AND entity_no <= $5'
        ' ORDER BY entity_no ON CONFLICT DO NOTHING',
        'entities_p' || p_to, penchant_entity_columns()
    ) USING p_to, p_from, p_tenant_id, p_after, last_no;
    RETURN last_no;
END
$$;
COMMENT ON FUNCTION penchant_move_copy(text, integer, integer, bigint, integer) IS
    'Copies the entities after a number; returns the last number copied, or NULL when there are none.';

CREATE FUNCTION penchant_move_drain(p_tenant_id text, p_from integer, p_to integer, p_limit integer)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    types text[];
    ids text[];
    target text := 'entities_p' || p_to;
BEGIN
    WITH taken AS (
        DELETE FROM placement_changes c
        WHERE c.tenant_id = p_tenant_id AND c.change_no IN (
            SELECT n.change_no FROM placement_changes n
            WHERE n.tenant_id = p_tenant_id ORDER BY n.change_no LIMIT p_limit
        )
        RETURNING c.entity_type, c.entity_id
    )
    SELECT array_agg(entity_type), array_agg(entity_id) INTO types, ids FROM taken;
    IF types IS NULL THEN
        RETURN 0;
    END IF;
    -- These snapshots are later than the one that saw the log: they see at least what it speaks of,
    -- and anything newer has a line of its own.
    EXECUTE format(
        'DELETE FROM %I t USING (SELECT DISTINCT * FROM unnest($3::text[], $4::text[]) AS u (entity_type, entity_id)) AS c'
        ' WHERE t.placement = $1 AND t.tenant_id = $2'
        ' AND t.entity_type = c.entity_type AND t.entity_id = c.entity_id',
        target
    ) USING p_to, p_tenant_id, types, ids;
    EXECUTE format(
        'INSERT INTO %I (placement, %2$s) SELECT $1, %2$s FROM entities'
        ' WHERE placement = $2 AND tenant_id = $3'
        ' AND (entity_type, entity_id) IN (SELECT * FROM unnest($4::text[], $5::text[]))',
        target, penchant_entity_columns()
    ) USING p_to, p_from, p_tenant_id, types, ids;
    RETURN cardinality(types);
END
$$;
COMMENT ON FUNCTION penchant_move_drain(text, integer, integer, integer) IS
    'Brings logged changes over to the new placement, oldest first; returns how many lines it took.';

CREATE FUNCTION penchant_move_index(p_to integer, p_dimension integer) RETURNS void
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
COMMENT ON FUNCTION penchant_move_index(integer, integer) IS
    'Builds the HNSW index of a new placement, for vectors of one dimension, and its statistics.';

CREATE FUNCTION penchant_move_switch(p_tenant_id text, p_from integer, p_to integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    target text := 'entities_p' || p_to;
    new_version bigint;
BEGIN
    EXECUTE format('ALTER TABLE entities ATTACH PARTITION %I FOR VALUES IN (%s)', target, p_to);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', target, target || '_bounds');
    PERFORM set_config('penchant.moving', 'on', true);
    DELETE FROM entities WHERE placement = p_from AND tenant_id = p_tenant_id;
    PERFORM set_config('penchant.moving', 'off', true);
    UPDATE tenants SET placement = p_to, version = nextval('revision_seq'), updated_at = now()
    WHERE tenant_id = p_tenant_id AND state = 'active' AND placement = p_from
    RETURNING version INTO new_version;
    RETURN new_version;
END
$$;
COMMENT ON FUNCTION penchant_move_switch(text, integer, integer) IS
    'Puts the new placement in the old one''s place and returns the tenant''s version; NULL: not an active tenant there, roll back.';

CREATE FUNCTION penchant_move_clean(p_from integer, p_to integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I', 'entities_p' || p_to || '_written', 'entities_p' || p_from);
    EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I', 'entities_p' || p_to || '_deleted', 'entities_p' || p_from);
END
$$;
COMMENT ON FUNCTION penchant_move_clean(integer, integer) IS 'Stops logging what changes in the old placement.';

CREATE FUNCTION penchant_drop_placement(p_placement integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    target text := 'entities_p' || p_placement;
BEGIN
    IF p_placement = 0 THEN
        RAISE EXCEPTION 'placement 0 is shared';
    END IF;
    -- The parent first, as everybody else locks them.
    IF EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass(target)) THEN
        EXECUTE format('ALTER TABLE entities DETACH PARTITION %I', target);
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', target);
END
$$;
COMMENT ON FUNCTION penchant_drop_placement(integer) IS 'Drops a placement with all entities in it.';

CREATE FUNCTION penchant_erase_rows(p_table regclass, p_tenant_id text, p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    gone integer;
BEGIN
    EXECUTE format(
        'DELETE FROM %1$s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$s WHERE tenant_id = $1 LIMIT $2))', p_table
    ) USING p_tenant_id, p_limit;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION penchant_erase_rows(regclass, text, integer) IS
    'Deletes up to so many rows of a tenant from one table; returns how many went.';
