-- name: server_facts
-- The server's version, and pgvector's where it is installed or on offer.
SELECT current_setting('server_version') AS server_version,
    coalesce(
        (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
        (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')
    ) AS pgvector;

-- name: mark_session
-- Leaves a mark in the session.
SELECT set_config('penchant.probe', $1, false);

-- name: read_mark
-- Reads the mark.
SELECT current_setting('penchant.probe', true);
