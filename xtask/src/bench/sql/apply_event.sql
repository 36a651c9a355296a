\set n random(1, :width)
\set unique random(1, 1000000000000000)
BEGIN;
INSERT INTO stripe_events (event_id, event_type, api_version, livemode, created_at, customer_id, object_id, stripe_subscription_id, status, payload, recorded_at, updated_at) SELECT 'evt_floor_' || :unique, 'customer.subscription.updated', '2026-09-30.endive', false, now(), 'cus_' || :n, 'sub_' || :n, 'sub_' || :n, 'waiting', '{"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active"}', now(), now() FROM (SELECT pg_advisory_xact_lock(hashtextextended('cus_' || :n, 0)) OFFSET 0) locked ON CONFLICT (event_id) DO NOTHING;
SELECT * FROM subscriptions WHERE subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0') FOR NO KEY UPDATE;
UPDATE subscriptions SET stripe_sync = stripe_sync + 1, status = 'ACTIVE', plan_id = 'pro', device_limit = 260, term_start = '2033-04-01', term_end = greatest(term_end, '2033-05-01') + interval '1 second', grace_end = NULL, stripe_status = 'active', stripe_price_id = 'price_pro_month', stripe_period_end = greatest(term_end, '2033-05-01') + interval '1 second', version = version + 1, updated_at = now(), stripe_paid_until = greatest(term_end, '2033-05-01') + interval '1 second' WHERE subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0');
INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, subscription_id, actor_type, actor_id, stripe_event_id, previous_state, new_state) SELECT now(), 'RENEWED', tenant_id, subscription_id, 'system', 'stripe', 'evt_floor_' || :unique, to_jsonb(s), to_jsonb(s) FROM subscriptions s WHERE subscription_id = 'SUB-2025-' || lpad(:n::text, 7, '0');
UPDATE stripe_events SET status = 'applied', tenant_id = 't' || :n, lost_tries = 0, updated_at = now() WHERE event_id = 'evt_floor_' || :unique;
COMMIT;
