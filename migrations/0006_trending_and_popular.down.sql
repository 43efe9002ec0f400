DROP TABLE popular_entities;
DROP TABLE trending_entities;
