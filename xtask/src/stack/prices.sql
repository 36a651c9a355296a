-- The catalogue's present prices, as the Stripe simulator should have them.
SELECT id, product, currency, cents, interval, nickname FROM (
    SELECT p.stripe_price_id AS id,
           coalesce('prod_plan_' || p.plan_id, 'prod_slot_' || t.name) AS product,
           coalesce(p.currency, default_currency()) AS currency,
           (CASE WHEN p.is_further THEN p.cents
                 WHEN p.interval = 'year' THEN coalesce(s.annual_price_cents, t.addon_annual_price_cents)
                 ELSE coalesce(s.monthly_price_cents, t.addon_monthly_price_cents) END)::bigint AS cents,
           p.interval AS interval,
           coalesce(s.name, t.display_name || ' slot') AS nickname
    FROM stripe_prices p
    LEFT JOIN subscription_plans s ON s.plan_id = p.plan_id
    LEFT JOIN device_tiers t ON t.tier_id = p.tier_id
    WHERE p.is_current OR p.is_further
) AS present WHERE cents IS NOT NULL;
