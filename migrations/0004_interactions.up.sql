-- The event log. Partitions follow received_at, so that retention can drop whole ones; the time of
-- the event itself is data. No foreign key: an interaction may come before its entity.
CREATE TABLE interactions (
    tenant_id text COLLATE "C" NOT NULL,
    interaction_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    interaction_type text COLLATE "C" NOT NULL,
    weight double precision NOT NULL,
    metadata jsonb,
    "timestamp" timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    recommendation_id text,
    position integer,
    PRIMARY KEY (tenant_id, interaction_id, received_at)
) PARTITION BY RANGE (received_at);
CREATE INDEX interactions_by_user ON interactions (tenant_id, user_id, "timestamp" DESC, interaction_id);
CREATE INDEX interactions_by_entity
    ON interactions (tenant_id, entity_type, entity_id, "timestamp" DESC, interaction_id);
CREATE INDEX interactions_by_time ON interactions (tenant_id, "timestamp" DESC);
SELECT penchant_protect('interactions');
GRANT SELECT, INSERT, UPDATE, DELETE ON interactions TO penchant_service;

CREATE TABLE interactions_default PARTITION OF interactions DEFAULT;
SELECT penchant_protect('interactions_default');

CREATE FUNCTION penchant_ensure_interaction_partitions(months_ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz := date_trunc('month', now(), 'UTC');
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1346719311);
    FOR step IN 0..months_ahead LOOP
        name := 'interactions_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF interactions FOR VALUES FROM (%L) TO (%L)',
                    name, month, month + interval '1 month'
                );
                PERFORM penchant_protect(name::regclass);
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                NULL; -- the month's rows already went to the default partition, and stay there
            END;
        END IF;
        month := date_trunc('month', month + interval '1 month', 'UTC');
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION penchant_ensure_interaction_partitions(integer) IS
    'Makes the partitions of this month and of the given number of months ahead; returns how many were made.';
SELECT penchant_ensure_interaction_partitions(2);

-- What was ingested lately, for idempotency; purged after the documented window.
CREATE TABLE interaction_keys (
    tenant_id text COLLATE "C" NOT NULL,
    interaction_id text COLLATE "C" NOT NULL,
    payload_hash bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    transaction_id bigint NOT NULL DEFAULT (pg_current_xact_id()::text)::bigint,
    PRIMARY KEY (tenant_id, interaction_id)
);
CREATE INDEX interaction_keys_by_age ON interaction_keys (received_at);
SELECT penchant_protect('interaction_keys');
GRANT SELECT, INSERT, UPDATE, DELETE ON interaction_keys TO penchant_service;
