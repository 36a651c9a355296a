-- A fleet at an instant: :rows tenants with a subscription each.
-- Terms last a year and end all over the year, independently of the subscription's number.
-- Those that ended in the last 14 days are in grace. Notices up to now are sent.
-- Each subscription has an allocation, and every second one has another one and a device.
-- No limit is ever reached, because the floors' scripts count up without end.
INSERT INTO tenants (tenant_id, name, billing_email)
SELECT 't' || n, 'Company ' || n, 't' || n || '@example.com' FROM generate_series(1, :rows) n;
INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status, plan_id, device_limit, active_device_count, term_start, term_end, grace_end,
                           created_by, noticed_term_end, next_notice_at)
SELECT 'SUB-2025-' || lpad(n::text, 7, '0'), 't' || n, 'MAIN', CASE WHEN term_end <= :now THEN 'GRACE' ELSE 'ACTIVE' END, 'pro', 260, n % 2,
       term_end - interval '365 days', term_end, CASE WHEN term_end <= :now THEN term_end + interval '14 days' END, 'bench', term_end,
       (SELECT min(term_end - make_interval(days => d)) FROM unnest(ARRAY[90, 60, 30, 14, 7, 1]) d WHERE term_end - make_interval(days => d) > :now)
FROM (SELECT n, :now - interval '14 days' + (n::bigint * 7919 % :rows) * (interval '365 days' / :rows) AS term_end FROM generate_series(1, :rows) n) term;
INSERT INTO subscription_tier_allocations (tenant_id, subscription_id, tier_id, slot_limit, slots_used)
SELECT 't' || n, 'SUB-2025-' || lpad(n::text, 7, '0'), tier, 1000000000, CASE WHEN tier = 1 THEN n % 2 ELSE 0 END
FROM generate_series(1, :rows) n, generate_series(1, 2) tier WHERE tier = 1 OR n % 2 = 1;
INSERT INTO devices (tenant_id, device_id, subscription_id, tier_id, registered_at)
SELECT 't' || n, 'dev-' || n, 'SUB-2025-' || lpad(n::text, 7, '0'), 1, :now FROM generate_series(1, :rows, 2) n;
-- Past events, every second one t1's. For an empty table, PostgreSQL would keep plans that read all
-- of it until it looks again a minute later.
INSERT INTO stripe_events (event_id, event_type, livemode, created_at, customer_id, object_id, tenant_id, status, payload, recorded_at, updated_at)
SELECT 'evt_old_' || n, 'invoice.paid', false, :now, 'cus_' || owner, 'in_' || n, 't' || owner, 'applied', '{"id": "in_1", "object": "invoice"}',
       :now + n * interval '10 seconds', :now
FROM (SELECT n, CASE WHEN n % 2 = 0 THEN 1 ELSE n END AS owner FROM generate_series(1, :rows) n) rows;
VACUUM ANALYZE;
