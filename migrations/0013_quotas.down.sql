DROP TABLE quota_measures, quota_usage;
ALTER TABLE tenants DROP COLUMN quotas;
