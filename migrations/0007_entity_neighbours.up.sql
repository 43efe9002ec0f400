-- Item-to-item by co-interaction: of each entity the entities that the same users interacted with,
-- strongest first. Numbers, not names: rows are short, and a move to another placement keeps them.
CREATE TABLE entity_neighbours (
    tenant_id text COLLATE "C" NOT NULL,
    entity_no bigint NOT NULL,
    neighbour_nos bigint[] NOT NULL,
    scores real[] NOT NULL,
    PRIMARY KEY (tenant_id, entity_no)
);
SELECT penchant_protect('entity_neighbours');
GRANT SELECT ON entity_neighbours TO penchant_service;

-- Where a periodic job stands with a tenant, so that what has not changed is not computed again.
CREATE TABLE job_states (
    tenant_id text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    input_mark text NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job)
);
SELECT penchant_protect('job_states');
