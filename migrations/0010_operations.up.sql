-- Ids that grow with time, as uuidv7() of PostgreSQL 18 makes them, which 16 and 17 do not have:
-- milliseconds in 48 bits, the version, and the rest of the millisecond in 12 bits (RFC 9562, 6.2, method 3).
CREATE FUNCTION penchant_ordered_uuid() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT overlay(
        gen_random_uuid()::text PLACING
            substr(ms, 1, 8) || '-' || substr(ms, 9, 4) || '-7' || lpad(to_hex(micros % 1000 * 4096 / 1000), 3, '0')
        FROM 1 FOR 18
    )::uuid
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros) AS now,
        LATERAL (SELECT lpad(to_hex(micros / 1000), 12, '0') AS ms) AS parts
$$;

-- Long work: one row an operation, which is also the queue that the jobs processes take it from.
CREATE TABLE operations (
    operation_id uuid PRIMARY KEY DEFAULT penchant_ordered_uuid(),
    tenant_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    request jsonb NOT NULL DEFAULT '{}',
    phase text NOT NULL DEFAULT '',
    share real NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 1),
    response jsonb,
    error_code integer,
    error_reason text,
    error_message text,
    cancel_requested boolean NOT NULL DEFAULT false,
    worker text NOT NULL DEFAULT '',
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
COMMENT ON COLUMN operations.lease_until IS 'The worker extends it while it lives; a running operation past it has lost its worker.';
-- The same work is not asked for twice while it waits or runs, and a tenant's work runs one at a time.
CREATE UNIQUE INDEX operations_once ON operations (tenant_id, kind, target) WHERE state IN ('pending', 'running');
CREATE UNIQUE INDEX operations_one_a_tenant ON operations (tenant_id) WHERE state = 'running';
CREATE INDEX operations_waiting ON operations (created_at) WHERE state = 'pending';
CREATE INDEX operations_of_tenant ON operations (tenant_id, operation_id DESC);
SELECT penchant_protect('operations');
GRANT SELECT, INSERT, UPDATE ON operations TO penchant_service;
