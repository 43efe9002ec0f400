CREATE TABLE placement_moves (
    tenant_id text COLLATE "C" PRIMARY KEY,
    from_placement integer NOT NULL,
    to_placement integer NOT NULL,
    phase text NOT NULL DEFAULT 'requested'
        CHECK (phase IN ('requested', 'copying', 'indexing', 'switching', 'done')),
    cursor_no bigint NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
SELECT penchant_protect('placement_moves');

-- Entities that were written while their tenant was being copied.
CREATE TABLE placement_changes (
    change_no bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, change_no)
);
SELECT penchant_protect('placement_changes');
GRANT INSERT ON placement_changes TO penchant_service;

CREATE FUNCTION penchant_log_placement_change() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    INSERT INTO placement_changes (tenant_id, entity_type, entity_id)
    VALUES (changed.tenant_id, changed.entity_type, changed.entity_id);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION penchant_log_placement_change() IS
    'Row trigger of a partition that a tenant is being copied out of; made and dropped by the move.';
