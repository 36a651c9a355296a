-- What customers need to pay and to manage their payments by themselves (docs/data.md, "Who may do what").

-- Links the Stripe customer of the transaction's tenant, where it has none. Customers' role may write no id of Stripe's: it may have this
-- one linked, once, and never replace, move or take one. Version and time of the row are the caller's to set, as for any change of it.
-- The owner's rights, and so a search_path of its own: nothing that the caller could make is found before what is meant here.
CREATE FUNCTION link_stripe_customer(customer text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    UPDATE tenants AS own SET stripe_customer_id = customer
    WHERE own.tenant_id = NULLIF(current_setting('app.tenant_id', true), '') AND own.status = 'ACTIVE' AND own.stripe_customer_id IS NULL
      AND customer ~ '^cus_[A-Za-z0-9_]{1,251}$'
      AND NOT EXISTS (SELECT FROM tenants AS other WHERE other.stripe_customer_id = customer)
      AND NOT EXISTS (SELECT FROM stripe_customer_aliases AS alias WHERE alias.stripe_customer_id = customer AND alias.tenant_id <> own.tenant_id);
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION link_stripe_customer(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION link_stripe_customer(text) TO pulse_app;

-- Whether a checkout is the tenant's own: it may have been paid by a further customer of it. Row-level security shows those of the tenant.
GRANT SELECT ON stripe_customer_aliases TO pulse_app;
