-- Segments that a clusters model learned, for those tenants whose users bring none as an attribute.
CREATE TABLE user_segments (
    tenant_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    segment text COLLATE "C" NOT NULL,
    factors halfvec NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX user_segments_by_segment ON user_segments (tenant_id, segment);
SELECT penchant_protect('user_segments');
GRANT SELECT, INSERT, DELETE ON user_segments TO penchant_service;

-- Which database this is: model artefacts of two databases may lie under one data directory, and each
-- must only tidy up its own.
CREATE TABLE installation (id uuid NOT NULL DEFAULT gen_random_uuid());
CREATE UNIQUE INDEX installation_is_one ON installation ((true));
INSERT INTO installation DEFAULT VALUES;
GRANT SELECT ON installation TO penchant_service, penchant_maintenance;
