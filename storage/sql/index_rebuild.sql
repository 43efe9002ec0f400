-- name: build_serially
-- Room for the graph in memory, in this session; a parallel build would need shared memory (owner).
SELECT set_config('maintenance_work_mem', least(
        greatest(65536, 2 * pg_table_size(to_regclass('entities_p' || $1::integer)) / 1024), 2097152
    ) || 'kB', false),
    set_config('max_parallel_maintenance_workers', '0', false);

-- name: rebuild
-- The index anew beside the old one, which serves until it is done (owner, no transaction).
REINDEX INDEX CONCURRENTLY entities_p{placement}_hnsw;

-- name: drop_leftover
-- What a rebuild that was interrupted has left (owner, no transaction).
DROP INDEX CONCURRENTLY IF EXISTS entities_p{placement}_hnsw_ccnew;

-- name: build_as_configured
-- The session's settings as they were (owner).
SELECT set_config(s.name, s.reset_val || coalesce(s.unit, ''), false) FROM pg_settings s
WHERE s.name IN ('maintenance_work_mem', 'max_parallel_maintenance_workers');
