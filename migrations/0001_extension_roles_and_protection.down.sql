-- The extension and the roles stay: other databases and schemas may use them.
DROP SEQUENCE revision_seq;
DROP FUNCTION penchant_rebase(vector, double precision);
DROP FUNCTION penchant_scale(vector, double precision);
DROP FUNCTION penchant_protect(regclass);
