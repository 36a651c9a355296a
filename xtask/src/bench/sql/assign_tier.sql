\set n 2 * random(1, :devices / :width) - 1
BEGIN;
SELECT set_config('app.tenant_id', 't' || :n, true);
SELECT 1 FROM tenants WHERE tenant_id = 't' || :n AND status = 'ACTIVE';
SELECT d.*, t.name, t.display_name FROM devices d LEFT JOIN device_tiers t ON t.tier_id = d.tier_id WHERE d.tenant_id = 't' || :n AND d.device_id = 'dev-' || :n AND d.status = 'ACTIVE' FOR NO KEY UPDATE OF d;
SELECT t.*, (SELECT stripe_price_id FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'month' AND is_current), (SELECT stripe_price_id FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'year' AND is_current) FROM device_tiers t WHERE t.tier_id = 2;
SELECT subscription_id FROM subscriptions WHERE subscription_id IN (SELECT coalesce(parent_subscription_id, subscription_id) FROM subscriptions WHERE subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0')) ORDER BY subscription_id FOR NO KEY UPDATE;
SELECT * FROM subscriptions WHERE subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0') OR parent_subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0') ORDER BY subscription_id;
SELECT a.* FROM subscription_tier_allocations a JOIN subscriptions s ON s.subscription_id = a.subscription_id WHERE s.subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0') OR s.parent_subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0') ORDER BY a.tier_id;
UPDATE subscription_tier_allocations SET slots_used = greatest(slots_used + CASE WHEN tier_id = 2 THEN 1 ELSE -1 END, 0), updated_at = now() WHERE subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0') AND tier_id IN (1, 2);
UPDATE devices SET tier_id = 3 - tier_id, updated_at = now() WHERE tenant_id = 't' || :n AND device_id = 'dev-' || :n;
INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, subscription_id, device_id, actor_type, actor_id, ip_address, previous_state, new_state, details) VALUES (now(), 'DEVICE_TIER_ASSIGNED', 't' || :n, 'SUB-2025-' || lpad(:n::text, 7, '0'), 'dev-' || :n, 'customer', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '127.0.0.1', '{"tier_id": 1}', '{"tier_id": 2}', '{"device_id": "dev-1", "new_tier_id": 2, "old_tier_id": 1}');
COMMIT;
