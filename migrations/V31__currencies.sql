-- Plans and slots may be sold in several currencies (docs/catalogue.md, "Currencies"). Only adds,
-- so that functions of the release before go on working: what they read and write as a present
-- price (is_current) is the one in the default currency, as before.

-- The currency of all that names none: the older price fields of plans and tiers, and what is paid
-- outside Stripe. A deployment sets it.
CREATE FUNCTION default_currency() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN 'usd';

-- Sets it. What was sold in a further currency that becomes the default is sold by the older fields
-- from then on. Refused where Stripe has said that a price by which something is sold is in the
-- default currency of before.
CREATE FUNCTION set_default_currency(wanted text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    IF wanted !~ '^[a-z]{3}$' THEN
        RAISE EXCEPTION 'BILLING_CURRENCY is not the code of a currency in lower case: %', wanted;
    END IF;
    IF wanted = default_currency() THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM stripe_prices p WHERE is_current AND (is_currency_read OR EXISTS (
                   SELECT FROM stripe_prices o WHERE o.is_further AND o.currency = wanted
                   AND o.interval = p.interval AND o.plan_id IS NOT DISTINCT FROM p.plan_id
                   AND o.tier_id IS NOT DISTINCT FROM p.tier_id))) THEN
        RAISE EXCEPTION 'BILLING_CURRENCY cannot become %: Stripe prices in % are sold',
            wanted, default_currency();
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION public.default_currency() RETURNS text
                    LANGUAGE sql STABLE PARALLEL SAFE RETURN %L', wanted);
    UPDATE subscription_plans p SET version = version + 1,
        monthly_price_cents = coalesce(
            (SELECT cents FROM stripe_prices WHERE plan_id = p.plan_id AND interval = 'month'
             AND is_further AND currency = wanted), monthly_price_cents),
        annual_price_cents = coalesce(
            (SELECT cents FROM stripe_prices WHERE plan_id = p.plan_id AND interval = 'year'
             AND is_further AND currency = wanted), annual_price_cents);
    UPDATE device_tiers t SET version = version + 1,
        addon_monthly_price_cents = coalesce(
            (SELECT cents FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'month'
             AND is_further AND currency = wanted), addon_monthly_price_cents),
        addon_annual_price_cents = coalesce(
            (SELECT cents FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'year'
             AND is_further AND currency = wanted), addon_annual_price_cents);
    UPDATE stripe_prices SET is_current = true, is_further = false, cents = NULL
    WHERE is_further AND currency = wanted;
END
$$;
REVOKE ALL ON FUNCTION set_default_currency(text) FROM PUBLIC;

ALTER TABLE stripe_prices
    -- NULL: the default currency, as nobody has said another one.
    ADD COLUMN currency         text CHECK (currency ~ '^[a-z]{3}$'),
    -- Whether Stripe has said so: an operator cannot say otherwise.
    ADD COLUMN is_currency_read boolean NOT NULL DEFAULT false,
    -- The present price of its thing and interval in a further currency, one that is not the
    -- default.
    ADD COLUMN is_further       boolean NOT NULL DEFAULT false,
    -- What is shown, and for slots charged, of such a price. In the default currency the plan or
    -- the tier has it.
    ADD COLUMN cents            bigint CHECK (cents >= 0),
    ADD CONSTRAINT stripe_prices_further_has_currency
        CHECK (NOT is_further OR currency IS NOT NULL);
CREATE UNIQUE INDEX stripe_prices_further_plan ON stripe_prices (plan_id, interval, currency)
    WHERE is_further AND plan_id IS NOT NULL;
CREATE UNIQUE INDEX stripe_prices_further_tier ON stripe_prices (tier_id, interval, currency)
    WHERE is_further AND tier_id IS NOT NULL;

-- Events say what currency a price is in, and the plan or tier that has another price by that is
-- another version.
GRANT UPDATE (currency, is_currency_read, is_current, is_further, cents) ON stripe_prices
    TO pulse_system;
GRANT UPDATE (version, updated_at) ON subscription_plans, device_tiers TO pulse_system;

-- What the Stripe subscription is charged in. NULL: it was not read since.
ALTER TABLE subscriptions ADD COLUMN stripe_currency text CHECK (stripe_currency ~ '^[a-z]{3}$');

ALTER TABLE addon_orders DROP CONSTRAINT addon_orders_currency_check,
    ADD CONSTRAINT addon_orders_currency_check CHECK (currency ~ '^[a-z]{3}$');
