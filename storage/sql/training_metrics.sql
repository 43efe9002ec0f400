-- name: save_metrics
-- Metrics of a version that there is; no row when there is none.
INSERT INTO training_metrics (tenant_id, model_name, version, metrics, training_date)
SELECT $1, v.model_name, v.version, $6::jsonb, coalesce($7::timestamptz, clock_timestamp())
FROM ml_models v
WHERE (SELECT penchant_guard_write($1, $2, $3)) AND v.tenant_id = $1 AND v.model_name = $4 AND v.version = $5
RETURNING model_name, version, metrics, training_date;

-- name: metrics_history
-- Metrics of a model, newest first: of one version ($4) or all.
SELECT t.model_name, t.version, t.metrics, t.training_date FROM training_metrics t
WHERE (SELECT penchant_guard_read($1, $2)) AND t.tenant_id = $1 AND t.model_name = $3
    AND ($4::text IS NULL OR t.version = $4)
ORDER BY t.training_date DESC, t.version DESC, t.id
LIMIT $5;
