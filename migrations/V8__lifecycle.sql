-- What Stripe says of a subscription after its checkout (docs/events.md, "Subscriptions"). Only adds: functions of the release before run on.

-- Stripe's word as it was last read: shown beside ours, and kept also while a hold keeps it from being applied.
ALTER TABLE subscriptions
    ADD COLUMN stripe_status            text,
    ADD COLUMN stripe_period_end        timestamptz,
    -- An ADDON with a Stripe subscription of its own ends with this or with its parent, whichever is first.
    ADD COLUMN stripe_paid_until        timestamptz,
    -- When Stripe will end it; null while it renews.
    ADD COLUMN stripe_cancel_at         timestamptz,
    ADD COLUMN stripe_collection_paused boolean NOT NULL DEFAULT false;

-- Which Stripe subscription an event is about: what waits for one is found when it appears.
ALTER TABLE stripe_events ADD COLUMN stripe_subscription_id text;
CREATE INDEX stripe_events_waiting_subscription ON stripe_events (stripe_subscription_id) WHERE status = 'waiting';
-- The operators' list, newest first.
CREATE INDEX stripe_events_recorded ON stripe_events (recorded_at DESC, event_id DESC);

-- Replay and dismissal.
GRANT UPDATE (status, status_reason, tenant_id, lost_tries, replays, updated_at) ON stripe_events TO pulse_operator;

-- A released hold has Stripe's present word applied.
ALTER TABLE outbox_steps DROP CONSTRAINT outbox_steps_kind_check;
ALTER TABLE outbox_steps ADD CONSTRAINT outbox_steps_kind_check
    CHECK (kind IN ('keycloak_user', 'welcome_mail', 'stripe_cancel', 'stripe_addon_quantity', 'stripe_sync'));

-- All functions together read Stripe at most at one rate: each read books its moment here first.
CREATE TABLE stripe_pace (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    booked_to timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO stripe_pace DEFAULT VALUES;

-- Books the next free moment, and returns the seconds until then. The database's clock, because those of functions differ.
CREATE FUNCTION book_stripe_read(per_second integer) RETURNS double precision
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    ends timestamptz;
BEGIN
    UPDATE stripe_pace SET booked_to = greatest(booked_to, clock_timestamp()) + interval '1 second' / per_second RETURNING booked_to INTO ends;
    RETURN greatest(extract(epoch FROM ends - interval '1 second' / per_second - clock_timestamp()), 0);
END
$$;
REVOKE ALL ON FUNCTION book_stripe_read(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION book_stripe_read(integer) TO pulse_app, pulse_operator, pulse_system;
