CREATE TABLE tenants (
    tenant_id text COLLATE "C" PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9_-]{1,63}$'),
    tenant_no integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    display_name text NOT NULL DEFAULT '',
    placement integer NOT NULL DEFAULT 0,
    dimension integer NOT NULL DEFAULT 512 CHECK (dimension BETWEEN 2 AND 1536),
    profile_half_life_secs double precision NOT NULL DEFAULT 2592000 CHECK (profile_half_life_secs > 0),
    settings jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'erasing', 'erased')),
    version bigint NOT NULL DEFAULT nextval('revision_seq'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN tenants.version IS
    'Changes with every change of the row or of its interaction types; statements check it (guards below).';
SELECT penchant_protect('tenants');
GRANT SELECT ON tenants TO penchant_service;

CREATE TABLE interaction_types (
    tenant_id text COLLATE "C" NOT NULL,
    interaction_type text COLLATE "C" NOT NULL,
    weight double precision NOT NULL CHECK (abs(weight) <= 1e6),
    marks_seen boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, interaction_type)
);
SELECT penchant_protect('interaction_types');
GRANT SELECT ON interaction_types TO penchant_service;

CREATE TABLE catalogue_revisions (
    tenant_id text COLLATE "C" NOT NULL,
    slot smallint NOT NULL,
    revision bigint NOT NULL DEFAULT nextval('revision_seq'),
    PRIMARY KEY (tenant_id, slot)
) WITH (fillfactor = 50);
COMMENT ON TABLE catalogue_revisions IS
    'The catalogue''s version, spread over slots so that writers of one tenant seldom wait for each other; any slot that changes makes cached answers unusable.';
SELECT penchant_protect('catalogue_revisions');
GRANT SELECT, INSERT, UPDATE ON catalogue_revisions TO penchant_service;

CREATE FUNCTION penchant_guard_read(p_tenant_id text, p_version bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM tenants WHERE tenant_id = p_tenant_id AND version = p_version AND state = 'active'
    ) THEN
        RAISE EXCEPTION 'tenant % has changed', p_tenant_id USING ERRCODE = 'PC409';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION penchant_guard_read(text, bigint) IS
    'True while the tenant''s row is the one the caller knows, in the snapshot of the calling statement; PC409 otherwise.';

CREATE FUNCTION penchant_guard_write(p_tenant_id text, p_tenant_no integer, p_version bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- Held to the end of the transaction: a placement move and an erasure take it exclusively. The
    -- check comes after the lock and, in a volatile function, in a snapshot of its own.
    PERFORM pg_advisory_xact_lock_shared(1346719310, p_tenant_no);
    IF NOT EXISTS (
        SELECT 1 FROM tenants WHERE tenant_id = p_tenant_id AND version = p_version AND state = 'active'
    ) THEN
        RAISE EXCEPTION 'tenant % has changed', p_tenant_id USING ERRCODE = 'PC409';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION penchant_guard_write(text, integer, bigint) IS
    'Like penchant_guard_read, and keeps the tenant from being moved or erased until the transaction ends.';
