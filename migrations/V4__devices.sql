-- Devices, what an operator does by hand, and the lists that they read (docs/data.md). Only adds.

-- ── Devices ─────────────────────────────────────────────────────────────────────────────────────────────────────

-- A decommissioned device keeps its row, so that the same id can be registered again; it holds no place and no slot.
CREATE TABLE devices (
    tenant_id         text NOT NULL REFERENCES tenants,
    device_id         text NOT NULL CHECK (device_id ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$'),
    name              text,
    site_id           text,
    subscription_id   text,
    tier_id           integer REFERENCES device_tiers,
    status            text NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE', 'DECOMMISSIONED')),
    -- Written by the platform's telemetry, never here.
    last_seen_at      timestamptz,
    registered_at     timestamptz NOT NULL,
    decommissioned_at timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, device_id),
    CONSTRAINT devices_subscription_of_tenant FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions (tenant_id, subscription_id),
    CONSTRAINT devices_tier_needs_subscription CHECK (tier_id IS NULL OR subscription_id IS NOT NULL),
    CONSTRAINT devices_decommissioned CHECK ((status = 'DECOMMISSIONED') = (decommissioned_at IS NOT NULL)
                                             AND (status = 'ACTIVE' OR subscription_id IS NULL))
);
CREATE INDEX devices_subscription ON devices (subscription_id, tier_id, device_id) WHERE subscription_id IS NOT NULL;
CREATE INDEX devices_id ON devices (device_id);

ALTER TABLE devices ENABLE ROW LEVEL SECURITY;
ALTER TABLE devices FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_all ON devices TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY system_all ON devices TO pulse_system USING (true) WITH CHECK (true);
CREATE POLICY operator_all ON devices TO pulse_operator USING (true) WITH CHECK (true);
CREATE POLICY tenant_rows ON devices TO pulse_app USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''));

GRANT SELECT ON devices TO pulse_app;
GRANT INSERT (tenant_id, device_id, name, site_id, subscription_id, status, registered_at, created_at, updated_at) ON devices TO pulse_app;
GRANT UPDATE (name, site_id, subscription_id, tier_id, status, registered_at, decommissioned_at, updated_at) ON devices TO pulse_app;
GRANT SELECT, INSERT, UPDATE ON devices TO pulse_operator;
GRANT SELECT, UPDATE ON devices TO pulse_system;

-- ── Subscriptions under an operator's hold ──────────────────────────────────────────────────────────────────────

-- While a reason stands here, Stripe's news is recorded and shown, not applied.
ALTER TABLE subscriptions
    ADD COLUMN hold_reason text,
    ADD COLUMN held_by     text,
    ADD COLUMN held_at     timestamptz,
    ADD CONSTRAINT subscriptions_hold CHECK (num_nonnulls(hold_reason, held_by, held_at) IN (0, 3));

-- The operators' list is in the order of the terms' ends, by any one filter.
CREATE INDEX subscriptions_term ON subscriptions (term_end, subscription_id);
CREATE INDEX subscriptions_tenant_term ON subscriptions (tenant_id, term_end, subscription_id);
CREATE INDEX subscriptions_status_term ON subscriptions (status, term_end, subscription_id);
CREATE INDEX subscriptions_type_term ON subscriptions (subscription_type, term_end, subscription_id);
CREATE INDEX subscriptions_plan_term ON subscriptions (plan_id, term_end, subscription_id);

-- Searching a tenant by the beginnings of words in its id or names.
CREATE INDEX tenants_words ON tenants USING gin (to_tsvector('simple', tenant_id || ' ' || name || ' ' || coalesce(legal_name, '')));
CREATE INDEX tenants_contact_email ON tenants (lower(contact_email));
CREATE INDEX tenants_billing_email ON tenants (lower(billing_email));

-- ── What operators write ────────────────────────────────────────────────────────────────────────────────────────

GRANT INSERT, UPDATE ON tenants, subscriptions, outbox_steps TO pulse_operator;
GRANT INSERT, UPDATE, DELETE ON subscription_tier_allocations TO pulse_operator;
GRANT INSERT, UPDATE (resolved_at, resolved_by, resolution_note) ON flags TO pulse_operator;
GRANT USAGE ON SEQUENCE subscription_number TO pulse_operator;
