CREATE TABLE trending_entities (
    tenant_id text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    score double precision NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, entity_type, entity_id)
);
CREATE INDEX trending_entities_by_score ON trending_entities (tenant_id, score DESC);
SELECT penchant_protect('trending_entities');
GRANT SELECT ON trending_entities TO penchant_service;

-- segment '' is the whole tenant.
CREATE TABLE popular_entities (
    tenant_id text COLLATE "C" NOT NULL,
    segment text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    score double precision NOT NULL,
    PRIMARY KEY (tenant_id, segment, entity_type, entity_id)
);
CREATE INDEX popular_entities_by_score ON popular_entities (tenant_id, segment, score DESC);
SELECT penchant_protect('popular_entities');
GRANT SELECT ON popular_entities TO penchant_service;
