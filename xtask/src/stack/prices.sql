-- The catalogue's present prices, as the Stripe simulator should have them.
SELECT p.stripe_price_id AS id,
       coalesce('prod_plan_' || p.plan_id, 'prod_slot_' || t.name) AS product,
       (CASE p.interval WHEN 'year' THEN coalesce(s.annual_price_cents, t.addon_annual_price_cents)
                        ELSE coalesce(s.monthly_price_cents, t.addon_monthly_price_cents) END)::bigint AS cents,
       p.interval AS interval,
       coalesce(s.name, t.display_name || ' slot') AS nickname
FROM stripe_prices p
LEFT JOIN subscription_plans s ON s.plan_id = p.plan_id
LEFT JOIN device_tiers t ON t.tier_id = p.tier_id
WHERE p.is_current
  AND CASE p.interval WHEN 'year' THEN coalesce(s.annual_price_cents, t.addon_annual_price_cents)
                      ELSE coalesce(s.monthly_price_cents, t.addon_monthly_price_cents) END IS NOT NULL;
