-- What operators' overview counts is found by an index (docs/operations.md, "Overview"). Only adds.
CREATE INDEX outbox_steps_failed ON outbox_steps (step_id) WHERE status = 'failed';
CREATE INDEX subscription_tier_allocations_by_hand ON subscription_tier_allocations (id)
    WHERE counted_by_hand;
