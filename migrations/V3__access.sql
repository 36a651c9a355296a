-- Who may do what over HTTP (docs/data.md, "Who may do what"): customers' and operators' roles, and what a repeated request needs.
-- Only adds, so that functions of the version before go on working.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['pulse_app', 'pulse_operator'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION
            -- Roles belong to the cluster and may have been made through another database of it, perhaps at this moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
        -- API Gateway gives up after 30 seconds; what still runs then would only hold locks.
        EXECUTE format('ALTER ROLE %I SET statement_timeout = ''20s''', role);
        EXECUTE format('ALTER ROLE %I SET lock_timeout = ''8s''', role);
        EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''20s''', role);
    END LOOP;
END
$$;

-- The first answer to a POST with an Idempotency-Key; deleted after a day.
CREATE TABLE idempotency_keys (
    subject    text NOT NULL,
    tenant_id  text REFERENCES tenants,
    route      text NOT NULL,
    key        text NOT NULL,
    -- SHA-256 of the body.
    request    bytea NOT NULL,
    answer     jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_scope UNIQUE NULLS NOT DISTINCT (subject, tenant_id, route, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_all ON idempotency_keys TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY system_all ON idempotency_keys TO pulse_system USING (true) WITH CHECK (true);

-- Customers see the rows of the tenant that their transaction names; without one, or with an empty one, none.
DO $$
DECLARE
    t text;
    of_tenant constant text := 'tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')';
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants', 'stripe_customer_aliases', 'subscriptions', 'subscription_tier_allocations',
                             'stripe_events', 'outbox_steps', 'flags', 'subscription_audit', 'idempotency_keys'] LOOP
        EXECUTE format('CREATE POLICY operator_all ON %I TO pulse_operator USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY tenant_rows ON %I TO pulse_app USING (%s) WITH CHECK (%s)', t, of_tenant, of_tenant);
    END LOOP;
END
$$;

-- Customers: counters, their own profile, and additions to the audit. Never limits, statuses, or Stripe's ids.
GRANT SELECT ON subscription_plans, device_tiers, stripe_prices, plan_tier_defaults TO pulse_app;
GRANT SELECT ON tenants, subscriptions, subscription_tier_allocations TO pulse_app;
GRANT UPDATE (active_device_count, updated_at) ON subscriptions TO pulse_app;
GRANT UPDATE (slots_used, updated_at) ON subscription_tier_allocations TO pulse_app;
GRANT UPDATE (name, legal_name, contact_email, contact_name, billing_email, phone, industry, company_size, address_line1, address_line2, city,
              state_province, postal_code, country, data_residency_region, version, updated_at) ON tenants TO pulse_app;
GRANT INSERT ON subscription_audit TO pulse_app;
GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO pulse_app;

-- Operators: the catalogue; they read everything.
GRANT SELECT ON tenants, stripe_customer_aliases, subscriptions, subscription_tier_allocations, stripe_events, outbox_steps, flags TO pulse_operator;
GRANT SELECT, INSERT, UPDATE ON subscription_plans, device_tiers, stripe_prices TO pulse_operator;
GRANT SELECT, INSERT, DELETE ON plan_tier_defaults TO pulse_operator;
GRANT SELECT, INSERT ON subscription_audit TO pulse_operator;
GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO pulse_operator;

GRANT SELECT, DELETE ON idempotency_keys TO pulse_system;

-- The operators' audit: newest first, by any one filter.
CREATE INDEX subscription_audit_newest ON subscription_audit (event_timestamp DESC, id DESC);
CREATE INDEX subscription_audit_subscription ON subscription_audit (subscription_id, event_timestamp DESC, id DESC) WHERE subscription_id IS NOT NULL;
CREATE INDEX subscription_audit_device ON subscription_audit (device_id, event_timestamp DESC, id DESC) WHERE device_id IS NOT NULL;
CREATE INDEX subscription_audit_type ON subscription_audit (event_type, event_timestamp DESC, id DESC);
CREATE INDEX subscription_audit_actor ON subscription_audit (actor_id, event_timestamp DESC, id DESC);
