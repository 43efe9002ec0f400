-- pgvector, the two roles that Penchant works under, and the function that puts a table under
-- row-level security. Roles belong to the cluster, so they may exist already and are never dropped.
CREATE EXTENSION IF NOT EXISTS vector;

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['penchant_service', 'penchant_maintenance'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOBYPASSRLS', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster was migrated at the same instant
        END;
        -- SET without INHERIT: the owner can enter the role, and stays under its own policy outside it.
        IF NOT pg_has_role(current_user, wanted, 'SET') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', wanted);
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION penchant_protect(target regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY tenant_isolation ON %s'
        ' USING (tenant_id = (SELECT current_setting(''penchant.tenant_id'', true)))'
        ' WITH CHECK (tenant_id = (SELECT current_setting(''penchant.tenant_id'', true)))',
        target
    );
    EXECUTE format(
        'CREATE POLICY maintenance ON %s TO penchant_maintenance USING (true) WITH CHECK (true)',
        target
    );
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO penchant_maintenance', target);
END
$$;
COMMENT ON FUNCTION penchant_protect(regclass) IS
    'Forces row-level security by tenant_id on a table and lets penchant_maintenance see all of it.';

CREATE FUNCTION penchant_scale(v vector, factor double precision) RETURNS vector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT v * array_fill(
        CASE WHEN abs(factor) < 1e-12 THEN 0 ELSE factor END::real, ARRAY[vector_dims(v)]
    )::vector
$$;
COMMENT ON FUNCTION penchant_scale(vector, double precision) IS
    'A vector times a number; a factor below 1e-12 counts as 0, where pgvector would raise an underflow.';

CREATE FUNCTION penchant_rebase(v vector, factor double precision) RETURNS vector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_agg(CASE WHEN abs(x * factor) < 1e-12 THEN 0 ELSE x * factor END::real ORDER BY place)::vector
    FROM unnest(v::real[]) WITH ORDINALITY AS element(x, place)
$$;
COMMENT ON FUNCTION penchant_rebase(vector, double precision) IS
    'Like penchant_scale for an accumulator of any age: elements that become negligible are 0.';

CREATE SEQUENCE revision_seq;
GRANT USAGE ON SEQUENCE revision_seq TO penchant_service, penchant_maintenance;
COMMENT ON SEQUENCE revision_seq IS
    'Revisions of profiles and catalogues: never repeated, so a cached answer cannot come back to life.';
