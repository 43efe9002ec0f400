-- Models: what a tenant wants trained, the versions that came out, and which version answers.
CREATE TABLE models (
    tenant_id text COLLATE "C" NOT NULL,
    model_name text COLLATE "C" NOT NULL CHECK (model_name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    algorithm text NOT NULL,
    hyperparameters jsonb NOT NULL DEFAULT '{}',
    schedule text NOT NULL DEFAULT '',
    next_run_at timestamptz,
    promotion text NOT NULL DEFAULT 'if_not_worse' CHECK (promotion IN ('if_not_worse', 'always', 'never')),
    keep_versions integer NOT NULL DEFAULT 5 CHECK (keep_versions BETWEEN 1 AND 100),
    retention_days integer NOT NULL DEFAULT 90 CHECK (retention_days BETWEEN 1 AND 3650),
    last_version integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, model_name)
);
COMMENT ON COLUMN models.last_version IS 'The number given out last: versions of one name are never numbered alike.';
CREATE INDEX models_due ON models (next_run_at) WHERE next_run_at IS NOT NULL AND deleted_at IS NULL;
SELECT penchant_protect('models');
GRANT SELECT, INSERT, UPDATE, DELETE ON models TO penchant_service;

CREATE TABLE ml_models (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text COLLATE "C" NOT NULL,
    model_name varchar(255) COLLATE "C" NOT NULL,
    version varchar(50) COLLATE "C" NOT NULL,
    model_data bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    is_active boolean NOT NULL DEFAULT true,
    content_hash text COLLATE "C" NOT NULL,
    size_bytes bigint NOT NULL,
    problem text NOT NULL DEFAULT '',
    CONSTRAINT uq_model_name_version UNIQUE (tenant_id, model_name, version)
);
COMMENT ON COLUMN ml_models.model_data IS 'The manifest of the artefact, as JSON; the artefact itself lies in the store under content_hash.';
COMMENT ON COLUMN ml_models.problem IS 'Why the version cannot be served, as a worker found it; empty while it can.';
CREATE INDEX ml_models_newest ON ml_models (tenant_id, model_name, created_at DESC) WHERE is_active;
CREATE INDEX ml_models_by_content ON ml_models (content_hash);
SELECT penchant_protect('ml_models');
GRANT SELECT, INSERT, UPDATE, DELETE ON ml_models TO penchant_service;

-- Which version answers a tenant's Recommend: the row with the highest revision. Those before it are
-- what a rollback goes back to.
CREATE TABLE model_promotions (
    tenant_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL DEFAULT nextval('revision_seq'),
    model_name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    returns_to bigint,
    promoted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, revision)
);
COMMENT ON COLUMN model_promotions.version IS 'Empty: no model answers since then.';
COMMENT ON COLUMN model_promotions.returns_to IS
    'The promotion that a rollback went back to; the next one goes on from before it. NULL for all others.';
SELECT penchant_protect('model_promotions');
GRANT SELECT, INSERT ON model_promotions TO penchant_service;

CREATE TABLE training_metrics (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text COLLATE "C" NOT NULL,
    model_name varchar(255) COLLATE "C" NOT NULL,
    version varchar(50) COLLATE "C" NOT NULL,
    metrics jsonb NOT NULL,
    training_date timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX training_metrics_of_version ON training_metrics (tenant_id, model_name, version, training_date DESC);
SELECT penchant_protect('training_metrics');
GRANT SELECT, INSERT, UPDATE, DELETE ON training_metrics TO penchant_service;

CREATE TABLE embeddings (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text COLLATE "C" NOT NULL,
    entity_type varchar(255) COLLATE "C" NOT NULL,
    entity_id varchar(255) COLLATE "C" NOT NULL,
    version varchar(50) COLLATE "C" NOT NULL DEFAULT '1',
    embeddings bytea NOT NULL,
    dimension integer NOT NULL CHECK (dimension BETWEEN 1 AND 16000),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_entity_type_id UNIQUE (tenant_id, entity_type, entity_id, version),
    CONSTRAINT embeddings_are_float32 CHECK (octet_length(embeddings) = 4 * dimension)
);
CREATE INDEX embeddings_by_age ON embeddings (tenant_id, entity_type, updated_at DESC);
SELECT penchant_protect('embeddings');
GRANT SELECT, INSERT, UPDATE, DELETE ON embeddings TO penchant_service;

CREATE TABLE prediction_cache (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text COLLATE "C" NOT NULL,
    cache_key varchar(512) COLLATE "C" NOT NULL,
    predictions bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    cached_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    access_count integer NOT NULL DEFAULT 0,
    last_accessed timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_prediction_cache_key UNIQUE (tenant_id, cache_key),
    CONSTRAINT prediction_cache_expires_after_cached CHECK (expires_at > cached_at)
);
CREATE INDEX prediction_cache_by_expiry ON prediction_cache (expires_at);
SELECT penchant_protect('prediction_cache');
GRANT SELECT, INSERT, UPDATE, DELETE ON prediction_cache TO penchant_service;
