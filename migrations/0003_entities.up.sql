CREATE SEQUENCE entity_no_seq;
CREATE SEQUENCE placement_seq;
GRANT USAGE ON SEQUENCE entity_no_seq TO penchant_service, penchant_maintenance;
GRANT USAGE ON SEQUENCE placement_seq TO penchant_maintenance;

-- One partition a placement: 0 is shared by the small tenants and searched exactly through the key;
-- larger tenants have one of their own with an HNSW index. There is no DEFAULT partition, since
-- attaching beside one locks and scans it. feature_vector has the tenant's dimension, not a fixed one.
CREATE TABLE entities (
    placement integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    entity_no bigint NOT NULL DEFAULT nextval('entity_no_seq'),
    attributes jsonb NOT NULL DEFAULT '{}',
    feature_vector halfvec,
    vector_given boolean NOT NULL DEFAULT false,
    hidden boolean NOT NULL DEFAULT false,
    stub boolean NOT NULL DEFAULT false,
    available_from timestamptz,
    available_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (placement, tenant_id, entity_type, entity_id),
    UNIQUE (placement, tenant_id, entity_no)
) PARTITION BY LIST (placement);
CREATE INDEX entities_newest ON entities (placement, tenant_id, created_at DESC);
SELECT penchant_protect('entities');
GRANT SELECT, INSERT, UPDATE, DELETE ON entities TO penchant_service;

CREATE TABLE entities_p0 PARTITION OF entities FOR VALUES IN (0);
SELECT penchant_protect('entities_p0');

CREATE FUNCTION penchant_matches(
    attributes jsonb, entity_type text, entity_id text, created_at timestamptz, updated_at timestamptz,
    path jsonpath, variables jsonb
) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT path IS NULL OR coalesce(jsonb_path_match(
        jsonb_build_object(
            'attributes', attributes, 'entity_type', entity_type, 'entity_id', entity_id,
            'created_at', extract(epoch FROM created_at), 'updated_at', extract(epoch FROM updated_at)
        ),
        path, variables, true
    ), false)
$$;
COMMENT ON FUNCTION penchant_matches(jsonb, text, text, timestamptz, timestamptz, jsonpath, jsonb) IS
    'Whether an entity satisfies a compiled filter (a jsonpath predicate and its variables); no filter matches all.';
