-- The erasure of a deleted tenant: what is personal leaves its rows, and the books stay
-- (docs/privacy.md). Only adds.

ALTER TABLE tenants ADD COLUMN erased_at timestamptz;

-- A state, or details, of an audit row without what tells of a person: the fields of a profile, of
-- a user, and the names of devices.
CREATE FUNCTION without_personal(state jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE WHEN jsonb_typeof(state) = 'object' THEN state - ARRAY[
        'name', 'legal_name', 'contact_name', 'contact_email', 'billing_email', 'phone', 'industry',
        'company_size', 'address_line1', 'address_line2', 'city', 'state_province', 'postal_code',
        'country', 'metadata', 'email', 'username', 'first_name', 'last_name', 'site_id']
    ELSE state END
$$;

-- Another system's error may repeat the mail address that it refused.
CREATE FUNCTION without_addresses(typed text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT regexp_replace(typed, '[^\s<>()\[\],;:"'']+@[^\s<>()\[\],;:"'']+', '(erased)', 'g')
$$;

-- An audit row may lose what is personal. Nothing else of it changes, whoever asks.
CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    erased record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        erased := OLD;
        erased.previous_state := without_personal(OLD.previous_state);
        erased.new_state := without_personal(OLD.new_state);
        erased.details := without_personal(OLD.details);
        IF OLD.actor_type = 'customer' THEN
            erased.ip_address := NULL;
        END IF;
        IF NEW IS DISTINCT FROM OLD AND NEW IS NOT DISTINCT FROM erased THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit rows are append-only: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Takes what is personal out of every row of a deleted tenant but its own, and says how many rows
-- lost something. It writes the audit too, which no role may: the owner's rights, and so a
-- search_path of its own, as for link_stripe_customer.
CREATE FUNCTION erase_tenant(tenant text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    rows jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM tenants t WHERE t.tenant_id = tenant AND t.status = 'DELETED') THEN
        RAISE EXCEPTION 'tenant % is not deleted', tenant USING ERRCODE = 'insufficient_privilege';
    END IF;
    WITH customers AS (
        SELECT stripe_customer_id FROM tenants t WHERE t.tenant_id = tenant
        UNION ALL
        SELECT stripe_customer_id FROM stripe_customer_aliases a WHERE a.tenant_id = tenant),
    of_devices AS (
        UPDATE devices d SET name = NULL, site_id = NULL
        WHERE d.tenant_id = tenant AND (name IS NOT NULL OR site_id IS NOT NULL) RETURNING 1),
    of_events AS (
        UPDATE stripe_events e SET payload = NULL, last_error = NULL,
            status_reason = without_addresses(status_reason)
        WHERE (e.tenant_id = tenant
               OR e.customer_id IN (SELECT stripe_customer_id FROM customers))
        AND (payload IS NOT NULL OR last_error IS NOT NULL
             OR status_reason <> without_addresses(status_reason)) RETURNING 1),
    -- The result of a mail has to whom it went.
    of_steps AS (
        UPDATE outbox_steps s SET payload = without_personal(payload), result = result - 'to',
            began_email = NULL, last_error = NULL
        WHERE s.tenant_id = tenant
        AND (payload <> without_personal(payload) OR result ? 'to' OR began_email IS NOT NULL
             OR last_error IS NOT NULL) RETURNING 1),
    of_flags AS (
        UPDATE flags f SET detail = without_addresses(detail),
            resolution_note = without_addresses(resolution_note)
        WHERE f.tenant_id = tenant
        AND (detail <> without_addresses(detail)
             OR resolution_note <> without_addresses(resolution_note)) RETURNING 1),
    -- The answers to operators' requests about it are of no tenant.
    of_answers AS (
        DELETE FROM idempotency_keys k
        WHERE k.tenant_id = tenant OR k.answer->>'tenant_id' = tenant RETURNING 1),
    of_audit AS (
        UPDATE subscription_audit a SET previous_state = without_personal(previous_state),
            new_state = without_personal(new_state), details = without_personal(details),
            ip_address = CASE WHEN actor_type = 'customer' THEN NULL ELSE ip_address END
        WHERE a.tenant_id = tenant
        AND (previous_state <> without_personal(previous_state)
             OR new_state <> without_personal(new_state)
             OR details <> without_personal(details)
             OR (actor_type = 'customer' AND ip_address IS NOT NULL)) RETURNING 1)
    SELECT jsonb_build_object(
        'devices', (SELECT count(*) FROM of_devices),
        'stripe_events', (SELECT count(*) FROM of_events),
        'outbox_steps', (SELECT count(*) FROM of_steps),
        'flags', (SELECT count(*) FROM of_flags),
        'idempotency_keys', (SELECT count(*) FROM of_answers),
        'subscription_audit', (SELECT count(*) FROM of_audit))
    INTO rows;
    RETURN rows;
END
$$;
REVOKE ALL ON FUNCTION erase_tenant(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_tenant(text) TO pulse_operator;
