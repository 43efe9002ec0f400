-- name: server_started
-- When the server of this connection started: tells two servers apart, and a restarted one.
SELECT pg_postmaster_start_time();

-- name: read_only
-- Whether the server takes no writes: a standby, or one that was set to be read only.
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean;

-- name: try_room
-- Fills a megabyte of the database's disk, and fails where that is full; to be rolled back.
CREATE TEMPORARY TABLE penchant_room ON COMMIT DROP AS SELECT n FROM generate_series(1, 30000) AS n;
