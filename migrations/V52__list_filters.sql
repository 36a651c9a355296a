-- What lists can be filtered by besides (docs/data.md, "Lists"). Only adds.
CREATE INDEX subscriptions_held ON subscriptions (term_end, subscription_id)
    WHERE hold_reason IS NOT NULL;
CREATE INDEX devices_site ON devices (site_id, tenant_id, device_id) WHERE site_id IS NOT NULL;
