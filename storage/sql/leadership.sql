-- name: try_lead
-- Takes the leader's lock for as long as the session lives; false where another session has it.
SELECT pg_try_advisory_lock(1346719313, $1::integer);

-- name: still_leading
-- Whether this session holds the leader's lock.
SELECT EXISTS (
    SELECT 1 FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.granted AND l.objsubid = 2
        AND l.classid = 1346719313::oid AND l.objid = $1::integer::oid
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
);

-- name: stop_leading
-- Gives the leader's lock back.
SELECT pg_advisory_unlock(1346719313, $1::integer);
