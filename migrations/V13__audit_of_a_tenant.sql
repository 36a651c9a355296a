-- A tenant's page of the audit in one walk through an index, whoever's it is. The index had no id, so that the page was sorted; and a plan for all
-- tenants alike, which a connection may come to keep, sorted all rows of the one that has half of them.
CREATE INDEX subscription_audit_of_tenant ON subscription_audit (tenant_id, event_timestamp DESC, id DESC);
DROP INDEX subscription_audit_tenant;
