-- accumulator is the sum of weight x exp(rate x (timestamp - landmark)) x unit feature vector over the
-- user's interactions (forward decay): adding is commutative, so late and concurrent events need no
-- read, and cosine ignores the scale. It stays in the row (PLAIN) with room beside it (fillfactor).
CREATE TABLE user_profiles (
    tenant_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    accumulator vector,
    landmark timestamptz NOT NULL,
    preference_vector halfvec,
    preference_stale boolean NOT NULL DEFAULT true,
    interaction_count bigint NOT NULL DEFAULT 0,
    last_interaction_at timestamptz,
    revision bigint NOT NULL DEFAULT nextval('revision_seq'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
) WITH (fillfactor = 60);
ALTER TABLE user_profiles ALTER COLUMN accumulator SET STORAGE PLAIN;
CREATE INDEX user_profiles_stale ON user_profiles (tenant_id, user_id) WHERE preference_stale;
SELECT penchant_protect('user_profiles');
GRANT SELECT, INSERT, UPDATE, DELETE ON user_profiles TO penchant_service;

-- Entities that got their first vector after interactions with them had come in: the profiles of
-- their users are made anew from the log.
CREATE TABLE profile_rebuilds (
    tenant_id text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, entity_type, entity_id)
);
SELECT penchant_protect('profile_rebuilds');
GRANT SELECT, INSERT, UPDATE, DELETE ON profile_rebuilds TO penchant_service;
