-- name: installation_id
-- Which database this is.
SELECT id::text FROM installation;
