DROP FUNCTION penchant_refused(boolean, text, bytea[], bytea[], timestamptz[]);
ALTER TABLE tenants DROP COLUMN erased_counts, DROP COLUMN has_erased_users;
DROP TABLE erasure_receipts;
DROP TABLE erased_users;
