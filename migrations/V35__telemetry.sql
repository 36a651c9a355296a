-- The platform's telemetry says when devices were last heard of (docs/subscriptions.md, "Last
-- seen"). A role for that alone: it sees the ids of devices in use and when they were last seen, of
-- every tenant, and writes nothing but the latter. It cannot log in. The operators' role, which may
-- do all of that already, takes it for the length of a transaction: a connection and a password of
-- its own would be one more for each instance.
DO $$
BEGIN
    -- Roles belong to the cluster and may have been made through another database of it, perhaps at
    -- this moment.
    CREATE ROLE pulse_telemetry NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;
DO $$
BEGIN
    GRANT pulse_telemetry TO pulse_operator;
EXCEPTION
    WHEN unique_violation THEN NULL;
END
$$;

CREATE POLICY telemetry_in_use ON devices TO pulse_telemetry
    USING (status = 'ACTIVE') WITH CHECK (status = 'ACTIVE');
GRANT SELECT (tenant_id, device_id, last_seen_at), UPDATE (last_seen_at) ON devices
    TO pulse_telemetry;
