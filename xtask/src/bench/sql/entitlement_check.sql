BEGIN;
SELECT set_config('app.tenant_id', 't1', true);
SELECT 1 FROM tenants WHERE tenant_id = 't1' AND status = 'ACTIVE';
SELECT subscription_id FROM subscriptions WHERE tenant_id = 't1' AND parent_subscription_id IS NULL AND status <> 'EXPIRED' ORDER BY subscription_id;
SELECT * FROM subscriptions WHERE subscription_id = 'SUB-2025-0000001' OR parent_subscription_id = 'SUB-2025-0000001' ORDER BY subscription_id;
SELECT a.* FROM subscription_tier_allocations a JOIN subscriptions s ON s.subscription_id = a.subscription_id WHERE s.subscription_id = 'SUB-2025-0000001' OR s.parent_subscription_id = 'SUB-2025-0000001' ORDER BY a.tier_id;
SELECT t.*, (SELECT stripe_price_id FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'month' AND is_current), (SELECT stripe_price_id FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'year' AND is_current) FROM device_tiers t ORDER BY t.sort_order, t.tier_id;
SELECT plan_id, limits FROM subscription_plans WHERE plan_id = 'pro';
COMMIT;
