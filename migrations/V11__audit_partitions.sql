-- The hourly run keeps the audit's months ahead too: without a deployment for a year, rows would land beside their months, and the months
-- could not be made any more. As the owner, who alone may make tables; the role only calls it.
ALTER FUNCTION ensure_audit_partitions(integer) SECURITY DEFINER;
ALTER FUNCTION ensure_audit_partitions(integer) SET search_path = public, pg_temp;
GRANT EXECUTE ON FUNCTION ensure_audit_partitions(integer) TO pulse_system;
