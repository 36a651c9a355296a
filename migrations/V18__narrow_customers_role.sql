-- What customers' role could do beyond its work (docs/data.md, "Roles"): write an audit row in the
-- name of the system, make temporary tables, and use up the rate at which Stripe may be read.
-- Functions of the release before do none of it.
ALTER POLICY tenant_rows ON subscription_audit
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')
                AND actor_type = 'customer');
REVOKE EXECUTE ON FUNCTION book_stripe_read(integer) FROM pulse_app;
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END
$$;
