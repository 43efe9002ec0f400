DROP TABLE interaction_keys;
DROP FUNCTION penchant_ensure_interaction_partitions(integer);
DROP TABLE interactions;
