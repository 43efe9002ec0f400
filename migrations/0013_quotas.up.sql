-- What a tenant may use stands in its row, so that every worker that knows the row knows it.
ALTER TABLE tenants ADD COLUMN quotas jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN tenants.quotas IS 'What the tenant may use; an absent limit or 0 is no limit.';

-- What a tenant has used a day (UTC), spread over slots so that writers seldom wait for each other.
-- Interactions and entities are counted only while the tenant has a quota of them.
CREATE TABLE quota_usage (
    tenant_id text COLLATE "C" NOT NULL,
    day date NOT NULL,
    slot smallint NOT NULL,
    interactions bigint NOT NULL DEFAULT 0,
    entities bigint NOT NULL DEFAULT 0,
    training_secs double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, day, slot)
) WITH (fillfactor = 50);
COMMENT ON COLUMN quota_usage.slot IS '0 to 15 by the session; -1 for what was there when a quota was set.';
COMMENT ON COLUMN quota_usage.entities IS 'Entities that came, less those that went.';
SELECT penchant_protect('quota_usage');
GRANT SELECT, INSERT, UPDATE ON quota_usage TO penchant_service;

CREATE TABLE quota_measures (
    tenant_id text COLLATE "C" PRIMARY KEY,
    entities_base bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN quota_measures.entities_base IS
    'The entities of the measurement less those that quota_usage counts: the two together are those of any later time.';
SELECT penchant_protect('quota_measures');
GRANT SELECT ON quota_measures TO penchant_service;
