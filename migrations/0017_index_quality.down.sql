DROP FUNCTION penchant_orphans();
DROP FUNCTION penchant_index_recall(text, integer, integer, integer, integer, bigint);
ALTER TABLE tenants DROP COLUMN ef_search;
DROP TABLE index_quality;
