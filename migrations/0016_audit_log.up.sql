-- What was administrated, or tried to be: who, what, when and from where. Rows are appended and never
-- changed; only the owner's retention deletes them. They outlive their tenant.
CREATE TABLE audit_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    method text NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    target text NOT NULL,
    code text NOT NULL,
    peer text NOT NULL,
    request_id text NOT NULL
);
COMMENT ON COLUMN audit_events.tenant_id IS
    'Empty: it concerned none. Of a refused call it is what the caller named, whether or not there is such a tenant.';
COMMENT ON COLUMN audit_events.target IS 'Ids of users stand in it as keyed hashes only.';
CREATE INDEX audit_events_of_tenant ON audit_events (tenant_id, event_id);
CREATE INDEX audit_events_by_age ON audit_events (occurred_at);
SELECT penchant_protect('audit_events');
REVOKE ALL ON audit_events FROM penchant_maintenance;
GRANT SELECT ON audit_events TO penchant_maintenance;
-- Number and time are not among the columns: nobody can write an event of another time.
GRANT INSERT (actor, method, tenant_id, target, code, peer, request_id)
    ON audit_events TO penchant_service, penchant_maintenance;
-- A session that was never told of a tenant has none, which here is a tenant like any other.
CREATE POLICY append ON audit_events FOR INSERT TO penchant_service
    WITH CHECK (tenant_id = coalesce((SELECT current_setting('penchant.tenant_id', true)), ''));
CREATE POLICY retention ON audit_events TO CURRENT_USER USING (true);
