DROP FUNCTION penchant_drop_answer_partitions(timestamptz);
DROP FUNCTION penchant_ensure_answer_partitions(integer);
DROP TABLE answer_log;
