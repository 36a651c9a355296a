-- How many of its plan a subscription pays for, and its named limits: both are copied when it is bought, as its device limit is
-- (docs/subscriptions.md, "Quantity"). Functions of the release before leave a quantity of 1, and limits of NULL, which means
-- "as the plan says" until they are written.
ALTER TABLE subscriptions
    ADD COLUMN quantity integer NOT NULL DEFAULT 1 CHECK (quantity >= 1),
    ADD COLUMN limits   jsonb CHECK (jsonb_typeof(limits) = 'object');

UPDATE subscriptions s SET limits = p.limits FROM subscription_plans p WHERE p.plan_id = s.plan_id;
