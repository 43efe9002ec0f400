DROP FUNCTION penchant_guard_write(text, integer, bigint);
DROP FUNCTION penchant_guard_read(text, bigint);
DROP TABLE catalogue_revisions;
DROP TABLE interaction_types;
DROP TABLE tenants;
