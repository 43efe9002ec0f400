DROP FUNCTION penchant_log_placement_change() CASCADE;
DROP TABLE placement_changes;
DROP TABLE placement_moves;
