-- name: read_interactions
-- What a training learns from, at most $3 rows in any order: user and entity as numbers, weight, time. (The
-- entities are looked up by whoever reads: a join on their names would take as long as all the rest.)
SELECT hashtextextended(i.user_id, 0), hashtextextended(i.entity_id, hashtextextended(i.entity_type, 0)),
    i.weight, i."timestamp"
FROM interactions i
WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1 AND i.weight <> 0 AND i.entity_type <> 'user'
LIMIT $3;

-- name: read_latest_interactions
-- The same, of the latest $3 interactions only.
SELECT hashtextextended(i.user_id, 0), hashtextextended(i.entity_id, hashtextextended(i.entity_type, 0)),
    i.weight, i."timestamp"
FROM interactions i
WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1 AND i.weight <> 0 AND i.entity_type <> 'user'
ORDER BY i."timestamp" DESC
LIMIT $3;

-- name: read_entity_keys
-- The numbers that stand for entities in read_interactions, and their entity_no.
SELECT hashtextextended(e.entity_id, hashtextextended(e.entity_type, 0)), e.entity_no
FROM entities e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.placement = $3 AND e.tenant_id = $1 AND e.entity_type <> 'user';

-- name: read_touched
-- Entities in the histories of users who did anything since an instant ($4): their neighbours may have changed.
SELECT DISTINCT e.entity_no
FROM interactions i
JOIN entities e ON e.placement = $3 AND e.tenant_id = $1 AND e.entity_type = i.entity_type AND e.entity_id = i.entity_id
WHERE (SELECT penchant_guard_read($1, $2)) AND i.tenant_id = $1 AND i.weight <> 0
    AND i.user_id IN (
        SELECT n.user_id FROM interactions n WHERE n.tenant_id = $1 AND n.received_at >= $4 AND n.weight <> 0
    );

-- name: read_vectors
-- The feature vectors of a tenant's entities, $4 numbers each.
SELECT e.entity_no, e.feature_vector
FROM entities e
WHERE (SELECT penchant_guard_read($1, $2)) AND e.placement = $3 AND e.tenant_id = $1 AND e.entity_type <> 'user'
    AND vector_dims(e.feature_vector) = $4;

-- name: user_ids_of_keys
-- The users behind the numbers of read_interactions.
SELECT hashtextextended(p.user_id, 0) AS user_key, p.user_id
FROM user_profiles p
WHERE p.tenant_id = $1 AND hashtextextended(p.user_id, 0) = ANY ($2::bigint[]);
