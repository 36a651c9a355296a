-- Plans and demo tenants of a development stack. Idempotent: run at each start.
INSERT INTO subscription_plans (plan_id, name, description, device_limit, limits, monthly_price_cents, annual_price_cents, sort_order) VALUES
    ('starter', 'Starter', 'For a first site', 30, '{"alert_rules": 10, "notification_channels": 2, "users": 3}', 4900, 49000, 1),
    ('pro', 'Pro', 'For a growing fleet', 260, '{"alert_rules": 25, "notification_channels": 5, "users": 5}', 29900, 299000, 2),
    ('enterprise', 'Enterprise', 'For many sites', 5000, '{"alert_rules": 500, "notification_channels": 50, "users": 100}', 199900, 1999000, 3)
ON CONFLICT DO NOTHING;

INSERT INTO plan_tier_defaults (plan_id, tier_id, slot_limit) VALUES
    ('starter', 1, 25), ('starter', 2, 5),
    ('pro', 1, 200), ('pro', 2, 50), ('pro', 3, 10),
    ('enterprise', 1, 3500), ('enterprise', 2, 1000), ('enterprise', 3, 500)
ON CONFLICT DO NOTHING;

UPDATE device_tiers SET addon_monthly_price_cents = m, addon_annual_price_cents = y
FROM (VALUES (1, 100, 1000), (2, 300, 3000), (3, 900, 9000)) AS price (tier, m, y)
WHERE tier_id = tier AND addon_monthly_price_cents IS NULL;

INSERT INTO stripe_prices (stripe_price_id, plan_id, tier_id, interval) VALUES
    ('price_starter_month', 'starter', NULL, 'month'), ('price_starter_year', 'starter', NULL, 'year'),
    ('price_pro_month', 'pro', NULL, 'month'), ('price_pro_year', 'pro', NULL, 'year'),
    ('price_enterprise_month', 'enterprise', NULL, 'month'), ('price_enterprise_year', 'enterprise', NULL, 'year'),
    ('price_basic_slot_month', NULL, 1, 'month'), ('price_basic_slot_year', NULL, 1, 'year'),
    ('price_standard_slot_month', NULL, 2, 'month'), ('price_standard_slot_year', NULL, 2, 'year'),
    ('price_premium_slot_month', NULL, 3, 'month'), ('price_premium_slot_year', NULL, 3, 'year')
ON CONFLICT DO NOTHING;

INSERT INTO tenants (tenant_id, name, contact_email, contact_name, billing_email, industry, country) VALUES
    ('demo-greenhouses', 'Demo Greenhouses', 'ops@greenhouses.example', 'Iris Meadow', 'billing@greenhouses.example', 'Agriculture', 'NL'),
    ('demo-cold-chain', 'Demo Cold Chain', 'ops@coldchain.example', 'Sam Frost', 'billing@coldchain.example', 'Logistics', 'DE')
ON CONFLICT DO NOTHING;

WITH added AS (
    INSERT INTO subscriptions (tenant_id, subscription_type, status, plan_id, device_limit, term_start, term_end, description, created_by)
    SELECT t.tenant_id, 'MAIN', 'ACTIVE', p.plan_id, p.device_limit, now(), now() + interval '365 days', 'Demo, paid by wire transfer', 'dev-seed'
    FROM (VALUES ('demo-greenhouses', 'pro'), ('demo-cold-chain', 'starter')) AS demo (tenant, plan)
    JOIN tenants t ON t.tenant_id = demo.tenant
    JOIN subscription_plans p ON p.plan_id = demo.plan
    WHERE NOT EXISTS (SELECT FROM subscriptions s WHERE s.tenant_id = t.tenant_id)
    RETURNING tenant_id, subscription_id, plan_id
)
INSERT INTO subscription_tier_allocations (tenant_id, subscription_id, tier_id, slot_limit)
SELECT added.tenant_id, added.subscription_id, d.tier_id, d.slot_limit
FROM added JOIN plan_tier_defaults d ON d.plan_id = added.plan_id;
