DROP TABLE operations;
DROP FUNCTION penchant_ordered_uuid();
