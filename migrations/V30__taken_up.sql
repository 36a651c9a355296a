-- Who pays by a price is read again when the price is mapped.
CREATE INDEX subscriptions_stripe_price ON subscriptions (stripe_price_id) WHERE stripe_price_id IS NOT NULL;

-- What a flag is about that no row of a tenant is: an outbox step, or a Stripe subscription. With that, the flag ends.
-- Functions of the release before leave it empty; their flags end by hand.
ALTER TABLE flags ADD COLUMN subject text;
UPDATE flags SET subject = substring(detail FROM '^outbox step ([0-9]+) ') WHERE kind = 'step_failed' AND resolved_at IS NULL;
UPDATE flags SET subject = substring(detail FROM '^Stripe subscription (sub_[A-Za-z0-9_]+) ')
 WHERE kind = 'stripe_subscription_unknown' AND resolved_at IS NULL;
UPDATE flags f SET subject = e.stripe_subscription_id FROM stripe_events e
 WHERE e.event_id = f.stripe_event_id AND f.kind = 'never_matched' AND f.resolved_at IS NULL;
GRANT UPDATE (resolved_at, resolved_by, resolution_note) ON flags TO pulse_system;

-- Whether a checkout was completed and could not be applied: its event may be no tenant's, so that row-level security would hide it.
-- It says no more than that of a session whose id the caller knows.
CREATE FUNCTION checkout_failed(session text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM stripe_events WHERE object_id = session AND event_type LIKE 'checkout.session.%'
                   AND status IN ('failed', 'dismissed'))
$$;
REVOKE ALL ON FUNCTION checkout_failed(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION checkout_failed(text) TO pulse_app;

-- Operators adopt Stripe subscriptions.
GRANT INSERT ON stripe_customer_aliases TO pulse_operator;
