-- The event of Stripe that left a step: the log of the step names it (docs/operations.md, "Logs").
-- Only adds.

ALTER TABLE outbox_steps ADD COLUMN stripe_event_id text;
