DROP TABLE profile_rebuilds;
DROP TABLE user_profiles;
