-- A family is read by its root alone: its ADDONs are found by their parent.
CREATE INDEX subscriptions_addons ON subscriptions (parent_subscription_id) WHERE parent_subscription_id IS NOT NULL;
