-- name: touch_tables
-- Looks into every table of the models; whether that was allowed.
SELECT (SELECT count(*) FROM (SELECT 1 FROM models LIMIT 1) AS t)
    + (SELECT count(*) FROM (SELECT 1 FROM ml_models LIMIT 1) AS t)
    + (SELECT count(*) FROM (SELECT 1 FROM model_promotions LIMIT 1) AS t)
    + (SELECT count(*) FROM (SELECT 1 FROM training_metrics LIMIT 1) AS t)
    + (SELECT count(*) FROM (SELECT 1 FROM embeddings LIMIT 1) AS t)
    + (SELECT count(*) FROM (SELECT 1 FROM prediction_cache LIMIT 1) AS t) >= 0
WHERE (SELECT penchant_guard_read($1, $2));
