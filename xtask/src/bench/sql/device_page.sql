BEGIN;
SELECT set_config('app.tenant_id', 't1', true);
SELECT 1 FROM tenants WHERE tenant_id = 't1' AND status = 'ACTIVE';
SELECT d.*, t.name, t.display_name FROM devices d LEFT JOIN device_tiers t ON t.tier_id = d.tier_id WHERE d.tenant_id = 't1' AND d.status = 'ACTIVE' ORDER BY d.tenant_id, d.device_id LIMIT 101;
COMMIT;
