-- The service level of a tenant's contract, a percentage with two decimals, in hundredths: 99.95 is
-- 9995. Only adds; the functions before neither read nor write it.
ALTER TABLE tenants ADD COLUMN sla_level integer CHECK (sla_level BETWEEN 0 AND 10000);
