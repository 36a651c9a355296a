-- Tenants are organizations in Keycloak (docs/events.md, "Outbox"). Functions of the release before
-- claim no step of this kind for longer than its lease, and leave it to the next ones.
ALTER TABLE outbox_steps DROP CONSTRAINT outbox_steps_kind_check;
ALTER TABLE outbox_steps ADD CONSTRAINT outbox_steps_kind_check CHECK (kind IN
    ('keycloak_user', 'welcome_mail', 'keycloak_organization', 'stripe_cancel',
     'stripe_addon_quantity', 'stripe_customer', 'stripe_sync', 'mail'));

-- Steps of organizations come last: no access depends on them.
CREATE INDEX outbox_steps_order ON outbox_steps
    ((CASE kind WHEN 'mail' THEN 1 WHEN 'keycloak_organization' THEN 2 ELSE 0 END), next_attempt_at)
    WHERE status = 'pending';
DROP INDEX outbox_steps_next;

-- The hourly run leaves no more of them where many are unfinished.
CREATE INDEX outbox_steps_organizations ON outbox_steps (step_id)
    WHERE kind = 'keycloak_organization' AND status IN ('pending', 'failed');

-- Leaves a tenant's one step of this kind: due a minute from now, so that a new login and its mail
-- come first and several causes are one step, or when its running attempt's lease ends. Customers
-- change their company's name too: see leave_stripe_customer_step.
CREATE FUNCTION leave_organization_step(tenant text, at timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    IF session_user = 'pulse_app'
       AND tenant IS DISTINCT FROM NULLIF(current_setting('app.tenant_id', true), '') THEN
        RAISE EXCEPTION 'tenant % is not the transaction''s', tenant
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO outbox_steps AS step (kind, tenant_id, dedup_key, payload, next_attempt_at,
                                      created_at, updated_at)
    VALUES ('keycloak_organization', tenant, 'keycloak_organization:' || tenant, '{}',
            at + interval '1 minute', at, at)
    ON CONFLICT (dedup_key) DO UPDATE
    SET status = 'pending', claim = step.claim + 1, attempts = 0, retried_at = at, updated_at = at,
        next_attempt_at = greatest(excluded.next_attempt_at, step.claimed_until);
END
$$;
REVOKE ALL ON FUNCTION leave_organization_step(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION leave_organization_step(text, timestamptz)
    TO pulse_app, pulse_operator, pulse_system;
