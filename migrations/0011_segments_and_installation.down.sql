DROP TABLE user_segments, installation;
