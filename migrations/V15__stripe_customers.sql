-- A changed profile is written to the tenant's Stripe customer (docs/events.md, "Outbox"). Functions of the release before claim no step of
-- this kind for longer than its lease, and leave it to the next ones.
ALTER TABLE outbox_steps DROP CONSTRAINT outbox_steps_kind_check;
ALTER TABLE outbox_steps ADD CONSTRAINT outbox_steps_kind_check CHECK (kind IN
    ('keycloak_user', 'welcome_mail', 'stripe_cancel', 'stripe_addon_quantity', 'stripe_customer', 'stripe_sync', 'mail'));

-- Leaves a tenant's one step of this kind, due now or when its running attempt's lease ends; what it has not written yet it still writes.
-- Customers change their profile too: their role writes no step itself, and leaves this one for the tenant of its transaction only. The
-- owner's rights, and so a search_path of its own, as for link_stripe_customer.
CREATE FUNCTION leave_stripe_customer_step(tenant text, fields jsonb, at timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    IF session_user = 'pulse_app' AND tenant IS DISTINCT FROM NULLIF(current_setting('app.tenant_id', true), '') THEN
        RAISE EXCEPTION 'tenant % is not the transaction''s', tenant USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO outbox_steps AS step (kind, tenant_id, dedup_key, payload, next_attempt_at, created_at, updated_at)
    VALUES ('stripe_customer', tenant, 'stripe_customer:' || tenant, jsonb_build_object('fields', fields), at, at, at)
    ON CONFLICT (dedup_key) DO UPDATE
    SET status = 'pending', next_attempt_at = greatest(at, step.claimed_until), claim = step.claim + 1, attempts = 0, retried_at = at,
        updated_at = at, payload = jsonb_build_object('fields', (
            SELECT jsonb_agg(DISTINCT field) FROM jsonb_array_elements(excluded.payload->'fields'
                || CASE step.status WHEN 'done' THEN '[]' ELSE step.payload->'fields' END) AS fields (field)));
END
$$;
REVOKE ALL ON FUNCTION leave_stripe_customer_step(text, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION leave_stripe_customer_step(text, jsonb, timestamptz) TO pulse_app, pulse_operator;
