-- The items of a Stripe subscription as they were applied last, [{"price_id", "quantity"}]: a comparison finds what differs. NULL: those of
-- the release before, which kept only the price.
-- Of a MAIN: how many of the slots among them our orders brought (docs/events.md, "Slots at Stripe"). NULL: nothing was written yet, and as
-- many as were ordered count.
ALTER TABLE subscriptions
    ADD COLUMN stripe_items jsonb CHECK (jsonb_typeof(stripe_items) = 'array'),
    ADD COLUMN stripe_slots jsonb CHECK (jsonb_typeof(stripe_slots) = 'object');
