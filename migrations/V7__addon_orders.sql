-- What customers order beside a MAIN (docs/billing.md, "Add-ons"). Only adds, so that functions of the release before go on working.

-- Slots that a customer ordered until the parent's term ends, at the price that was shown. Committed before Stripe is asked; what is paid
-- for is what stands here, whatever a checkout's metadata says.
CREATE TABLE addon_orders (
    -- Random: it names the order at Stripe too, where another database's must never be met.
    order_id                   text PRIMARY KEY CHECK (order_id ~ '^ord_[0-9a-f]{32}$'),
    tenant_id                  text NOT NULL REFERENCES tenants,
    parent_subscription_id     text NOT NULL,
    interval                   text NOT NULL CHECK (interval IN ('month', 'year')),
    -- The parent's term, and the days of it that the price is of, as they were at the order.
    term_end                   timestamptz NOT NULL,
    remaining_days             integer NOT NULL CHECK (remaining_days > 0),
    period_days                integer NOT NULL CHECK (period_days > 0),
    -- [{tier_id, additional_slots, slot_price_cents, amount_cents, …}]
    lines                      jsonb NOT NULL CHECK (jsonb_typeof(lines) = 'array' AND lines <> '[]'),
    amount_cents               bigint NOT NULL CHECK (amount_cents BETWEEN 50 AND 99999999),
    currency                   text NOT NULL CHECK (currency = 'usd'),
    -- The Idempotency-Key in its scope, hashed; none where the request had none.
    request_key                text,
    stripe_checkout_session_id text CONSTRAINT addon_orders_stripe_checkout_session_id_key UNIQUE,
    status                     text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'paid', 'expired')),
    -- The ADDON that it became.
    subscription_id            text CONSTRAINT addon_orders_subscription_id_key UNIQUE,
    -- When its checkout closes.
    expires_at                 timestamptz NOT NULL,
    created_at                 timestamptz NOT NULL,
    updated_at                 timestamptz NOT NULL,
    CONSTRAINT addon_orders_parent_of_tenant FOREIGN KEY (tenant_id, parent_subscription_id) REFERENCES subscriptions (tenant_id, subscription_id),
    CONSTRAINT addon_orders_addon_of_tenant FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions (tenant_id, subscription_id),
    CONSTRAINT addon_orders_paid_has_addon CHECK ((status = 'paid') = (subscription_id IS NOT NULL)),
    CONSTRAINT addon_orders_window CHECK (created_at < expires_at AND expires_at < term_end)
);
CREATE INDEX addon_orders_parent ON addon_orders (parent_subscription_id) WHERE status = 'paid';
CREATE INDEX addon_orders_request ON addon_orders (tenant_id, request_key) WHERE request_key IS NOT NULL;

ALTER TABLE addon_orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE addon_orders FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_all ON addon_orders TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY system_all ON addon_orders TO pulse_system USING (true) WITH CHECK (true);
CREATE POLICY operator_all ON addon_orders TO pulse_operator USING (true) WITH CHECK (true);
CREATE POLICY tenant_rows ON addon_orders TO pulse_app
    USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''));

-- Customers order, and note which checkout it became. Neither the price nor that it is paid is theirs to say afterwards.
GRANT SELECT ON addon_orders TO pulse_app;
GRANT INSERT (order_id, tenant_id, parent_subscription_id, interval, term_end, remaining_days, period_days, lines, amount_cents, currency, request_key,
              expires_at, created_at, updated_at) ON addon_orders TO pulse_app;
GRANT UPDATE (stripe_checkout_session_id, updated_at) ON addon_orders TO pulse_app;
GRANT SELECT ON addon_orders TO pulse_operator;
GRANT SELECT ON addon_orders TO pulse_system;
GRANT UPDATE (status, subscription_id, stripe_checkout_session_id, updated_at) ON addon_orders TO pulse_system;
