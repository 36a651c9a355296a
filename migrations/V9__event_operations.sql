-- What operators look up and mend among Stripe's events (docs/operations.md, "Stripe's events"). Indexes only: functions of the release
-- before run on.

-- The list is newest first, by any one filter. This one also serves what the open events were found by.
CREATE INDEX stripe_events_status ON stripe_events (status, recorded_at DESC, event_id DESC);
DROP INDEX stripe_events_open;
CREATE INDEX stripe_events_type ON stripe_events (event_type, recorded_at DESC, event_id DESC);
CREATE INDEX stripe_events_customer ON stripe_events (customer_id, recorded_at DESC, event_id DESC) WHERE customer_id IS NOT NULL;
CREATE INDEX stripe_events_tenant ON stripe_events (tenant_id, recorded_at DESC, event_id DESC) WHERE tenant_id IS NOT NULL;
CREATE INDEX stripe_events_subscription ON stripe_events (stripe_subscription_id, recorded_at DESC, event_id DESC) WHERE stripe_subscription_id IS NOT NULL;
