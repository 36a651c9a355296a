-- What a fleet of :rows also has after some years: one tenant (t1) with as many devices,
-- and as many audit rows, every second of them another tenant's.
UPDATE subscriptions SET active_device_count = active_device_count + :rows WHERE subscription_id = 'SUB-2025-0000001';
INSERT INTO devices (tenant_id, device_id, subscription_id, tier_id, registered_at)
SELECT 't1', 'own-' || n, 'SUB-2025-0000001', 1, :now FROM generate_series(1, :rows) n;
UPDATE subscription_tier_allocations SET slots_used = slots_used + :rows WHERE subscription_id = 'SUB-2025-0000001' AND tier_id = 1;
INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, subscription_id, device_id, actor_type, actor_id, new_state)
SELECT :now + n * interval '10 seconds', 'DEVICE_TIER_ASSIGNED', 't' || owner, 'SUB-2025-' || lpad(owner::text, 7, '0'), 'dev-' || owner, 'customer', 'bench', '{"tier_id": 1}'
FROM (SELECT n, CASE WHEN n % 2 = 0 THEN 1 ELSE n END AS owner FROM generate_series(1, :rows) n) rows;
VACUUM ANALYZE;
