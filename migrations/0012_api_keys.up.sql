-- API keys: who may call, and what they may do. Only maintenance reads them: a call's tenant is not
-- known before its key is, so the rows of one tenant cannot be singled out by the session.
CREATE TABLE api_keys (
    key_id text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^[a-z2-7]{12}$'),
    tenant_id text COLLATE "C" NOT NULL,
    display_name text NOT NULL DEFAULT '',
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    pepper text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    lifetime interval,
    revoked_at timestamptz,
    last_used_at timestamptz,
    rotated_from text COLLATE "C",
    revision bigint NOT NULL DEFAULT nextval('revision_seq')
);
COMMENT ON COLUMN api_keys.tenant_id IS 'Empty: the operator''s.';
COMMENT ON COLUMN api_keys.secret_hash IS 'BLAKE2b of the whole key, keyed by the server''s secret; the key itself is nowhere.';
COMMENT ON COLUMN api_keys.pepper IS 'Fingerprint of the pepper that the hash was made with.';
COMMENT ON COLUMN api_keys.lifetime IS 'How long it was to live when it was made; the key that follows it lives as long.';
COMMENT ON COLUMN api_keys.revision IS 'Changes with every change that workers must hear of.';
CREATE INDEX api_keys_of_tenant ON api_keys (tenant_id, key_id);
CREATE INDEX api_keys_by_revision ON api_keys (revision);
SELECT penchant_protect('api_keys');
