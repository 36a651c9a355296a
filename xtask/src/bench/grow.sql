-- What a fleet of :rows has beside its subscriptions after some years: one tenant (t1) with as many devices, as many audit rows and as many events,
-- each of them its own or, every second, another's.
UPDATE subscriptions SET active_device_count = active_device_count + :rows WHERE subscription_id = 'SUB-2025-0000001';
INSERT INTO devices (tenant_id, device_id, subscription_id, tier_id, registered_at)
SELECT 't1', 'own-' || n, 'SUB-2025-0000001', 1, :now FROM generate_series(1, :rows) n;
UPDATE subscription_tier_allocations SET slots_used = slots_used + :rows WHERE subscription_id = 'SUB-2025-0000001' AND tier_id = 1;
INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, subscription_id, device_id, actor_type, actor_id, new_state)
SELECT :now + n * interval '10 seconds', 'DEVICE_TIER_ASSIGNED', 't' || owner, 'SUB-2025-' || lpad(owner::text, 7, '0'), 'dev-' || owner, 'customer', 'bench', '{"tier_id": 1}'
FROM (SELECT n, CASE WHEN n % 2 = 0 THEN 1 ELSE n END AS owner FROM generate_series(1, :rows) n) rows;
INSERT INTO stripe_events (event_id, event_type, livemode, created_at, customer_id, object_id, tenant_id, status, payload, recorded_at, updated_at)
SELECT 'evt_old_' || n, 'invoice.paid', false, :now, 'cus_' || owner, 'in_' || n, 't' || owner, 'applied', '{"id": "in_1", "object": "invoice"}',
       :now + n * interval '10 seconds', :now
FROM (SELECT n, CASE WHEN n % 2 = 0 THEN 1 ELSE n END AS owner FROM generate_series(1, :rows) n) rows;
VACUUM ANALYZE;
