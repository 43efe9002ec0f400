-- Past answers with what they were made from: a sample, and those whose callers asked for it. A day
-- is a partition, so that forgetting drops whole ones.
CREATE TABLE answer_log (
    tenant_id text COLLATE "C" NOT NULL,
    recommendation_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    answered_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    model_versions text[] NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, recommendation_id, answered_at)
) PARTITION BY RANGE (answered_at);
COMMENT ON COLUMN answer_log.user_id IS
    'As in interactions: "session:" and the id for a session; empty for nobody.';
-- The payload comes compressed.
ALTER TABLE answer_log ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE INDEX answer_log_by_user ON answer_log (tenant_id, user_id);
SELECT penchant_protect('answer_log');
GRANT SELECT, DELETE ON answer_log TO penchant_service;

CREATE TABLE answer_log_default PARTITION OF answer_log DEFAULT;
SELECT penchant_protect('answer_log_default');

CREATE FUNCTION penchant_ensure_answer_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    day timestamptz := date_trunc('day', now(), 'UTC');
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1346719314);
    FOR step IN 0..days_ahead LOOP
        name := 'answer_log_' || to_char(day AT TIME ZONE 'UTC', 'YYYY_MM_DD');
        IF to_regclass(name) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF answer_log FOR VALUES FROM (%L) TO (%L)',
                    name, day, day + interval '24 hours'
                );
                PERFORM penchant_protect(name::regclass);
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                NULL; -- the day's rows already went to the default partition, and stay there
            END;
        END IF;
        day := day + interval '24 hours';
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION penchant_ensure_answer_partitions(integer) IS
    'Makes the partitions of this day and of the given number of days ahead; returns how many were made.';
SELECT penchant_ensure_answer_partitions(3);

CREATE FUNCTION penchant_drop_answer_partitions(before timestamptz) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    name text;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1346719314);
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'answer_log'::regclass AND c.relname ~ '^answer_log_\d{4}_\d{2}_\d{2}$'
            AND (to_date(substr(c.relname, 12), 'YYYY_MM_DD') + 1)::timestamp AT TIME ZONE 'UTC' <= before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION penchant_drop_answer_partitions(timestamptz) IS
    'Drops the partitions of days that ended before an instant; returns how many. Rows of the default partition stay.';
