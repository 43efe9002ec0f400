DROP TABLE job_states;
DROP TABLE entity_neighbours;
