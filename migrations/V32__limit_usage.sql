-- How many a tenant has of what its plans limit by name, as the service that counts them has
-- reported last (docs/billing.md, "Use of named limits"). Only adds, so that functions of the
-- release before go on working.
CREATE TABLE limit_usage (
    tenant_id  text NOT NULL REFERENCES tenants,
    name       text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,49}$'),
    used       bigint NOT NULL CHECK (used >= 0),
    -- When they were counted, by the clock of who counted them.
    as_of      timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

ALTER TABLE limit_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE limit_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_all ON limit_usage TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY system_all ON limit_usage TO pulse_system USING (true) WITH CHECK (true);
CREATE POLICY operator_all ON limit_usage TO pulse_operator USING (true) WITH CHECK (true);
CREATE POLICY tenant_rows ON limit_usage TO pulse_app
    USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''));

-- Services report in customers' role; the functions that make and disable users count those.
GRANT SELECT, INSERT ON limit_usage TO pulse_app, pulse_operator, pulse_system;
GRANT UPDATE (used, as_of, updated_at) ON limit_usage TO pulse_app, pulse_operator, pulse_system;
