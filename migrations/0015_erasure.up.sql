-- People who were erased, each as a keyed hash of tenant and id (engine/tombstones.py). Ingest and what
-- brings old data back ask here; the rows outlive those of their tenant.
CREATE TABLE erased_users (
    tenant_id text COLLATE "C" NOT NULL,
    user_hash bytea NOT NULL CHECK (octet_length(user_hash) = 32),
    erased_at timestamptz NOT NULL,
    readmitted boolean NOT NULL DEFAULT false,
    removed jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, user_hash)
);
COMMENT ON COLUMN erased_users.readmitted IS 'Only what happened up to erased_at is refused.';
COMMENT ON COLUMN erased_users.removed IS
    'What an erasure has removed that was interrupted before its receipt: the next receipt has it.';
CREATE INDEX erased_users_by_age ON erased_users (erased_at);
SELECT penchant_protect('erased_users');
GRANT SELECT ON erased_users TO penchant_service;

CREATE TABLE erasure_receipts (
    tenant_id text COLLATE "C" NOT NULL,
    receipt_id text COLLATE "C" NOT NULL,
    subject text NOT NULL CHECK (subject IN ('user', 'tenant')),
    erased_at timestamptz NOT NULL,
    payload bytea NOT NULL,
    signature bytea NOT NULL CHECK (octet_length(signature) = 64),
    key_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, receipt_id)
);
COMMENT ON TABLE erasure_receipts IS 'Signed, never changed, never deleted: not even with their tenant.';
CREATE UNIQUE INDEX erasure_receipts_of_tenants ON erasure_receipts (tenant_id) WHERE subject = 'tenant';
SELECT penchant_protect('erasure_receipts');
REVOKE UPDATE, DELETE ON erasure_receipts FROM penchant_maintenance;
GRANT SELECT ON erasure_receipts TO penchant_service;

ALTER TABLE tenants
    ADD COLUMN has_erased_users boolean NOT NULL DEFAULT false,
    ADD COLUMN erased_counts jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN tenants.has_erased_users IS
    'Writers hash the ids they write only where this is true; it changes the version, so all notice.';
COMMENT ON COLUMN tenants.erased_counts IS 'Rows that the erasure of this tenant has deleted so far, by table.';

CREATE FUNCTION penchant_refused(
    p_guarded boolean, p_tenant_id text, p_users bytea[], p_entities bytea[], p_times timestamptz[]
) RETURNS boolean[]
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_users IS NULL OR NOT p_guarded THEN
        RETURN NULL;
    END IF;
    -- In a volatile function the snapshot is later than the guard's lock: an erasure for which the
    -- caller's statement waited is seen here, and not by the statement itself.
    IF NOT EXISTS (
        SELECT 1 FROM erased_users
        WHERE tenant_id = p_tenant_id AND user_hash = ANY (p_users || array_remove(p_entities, NULL))
    ) THEN
        RETURN NULL;
    END IF;
    RETURN ARRAY(
        SELECT coalesce(NOT u.readmitted OR r.happened_at <= u.erased_at, false)
            OR coalesce(NOT e.readmitted OR r.happened_at <= e.erased_at, false)
        FROM unnest(p_users, p_entities, p_times)
            WITH ORDINALITY AS r (user_hash, entity_hash, happened_at, place)
        LEFT JOIN erased_users u ON u.tenant_id = p_tenant_id AND u.user_hash = r.user_hash
        LEFT JOIN erased_users e ON e.tenant_id = p_tenant_id AND e.user_hash = r.entity_hash
        ORDER BY r.place
    );
END
$$;
COMMENT ON FUNCTION penchant_refused(boolean, text, bytea[], bytea[], timestamptz[]) IS
    'Which rows are of, or about, an erased user; NULL: none, or no hashes are given. p_guarded is the guard''s answer.';
