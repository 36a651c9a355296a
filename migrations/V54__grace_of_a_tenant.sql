-- The graces of one tenant that end next (docs/renewals.md, "Looking ahead"): without it PostgreSQL
-- reads through everybody's. Only adds.
CREATE INDEX subscriptions_tenant_grace ON subscriptions (tenant_id, grace_end, subscription_id)
    WHERE status = 'GRACE';
