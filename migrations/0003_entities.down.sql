DROP FUNCTION penchant_matches(jsonb, text, text, timestamptz, timestamptz, jsonpath, jsonb);
DROP TABLE entities;
DROP SEQUENCE placement_seq;
DROP SEQUENCE entity_no_seq;
