-- Counts of the subscriptions in ($1, $2], by id, that are not what the devices say. Each row is in the slice of its own subscription; the
-- devices of a family are counted in the slice of its root, wherever its ADDONs are. The range is said of each table, and ADDONs' devices
-- are counted one by one, or whole tables are read for it.
WITH placed AS MATERIALIZED (
    SELECT subscription_id, tier_id, count(*) AS devices FROM devices WHERE subscription_id > $1 AND subscription_id <= $2
    GROUP BY subscription_id, tier_id
), of_members AS (
    SELECT p.subscription_id AS root, p.tier_id, p.devices FROM placed p JOIN subscriptions s ON s.subscription_id = p.subscription_id
    WHERE s.subscription_id > $1 AND s.subscription_id <= $2 AND s.parent_subscription_id IS NULL AND p.tier_id IS NOT NULL
    UNION ALL
    SELECT a.parent_subscription_id, d.tier_id, d.devices FROM subscriptions a
    CROSS JOIN LATERAL (SELECT tier_id, count(*) AS devices FROM devices
                        WHERE subscription_id = a.subscription_id AND tier_id IS NOT NULL GROUP BY tier_id) d
    WHERE a.parent_subscription_id > $1 AND a.parent_subscription_id <= $2
), held AS (
    SELECT root, tier_id, sum(devices)::bigint AS devices FROM of_members GROUP BY root, tier_id
), counted AS (
    SELECT a.subscription_id, a.tier_id, a.slots_used, a.counted_by_hand, coalesce(s.parent_subscription_id, s.subscription_id) AS root
    FROM subscription_tier_allocations a JOIN subscriptions s ON s.subscription_id = a.subscription_id
    WHERE a.subscription_id > $1 AND a.subscription_id <= $2 AND s.subscription_id > $1 AND s.subscription_id <= $2
)
SELECT CASE WHEN c.counted_by_hand THEN 'slots_by_hand' ELSE 'slots' END AS count, coalesce(c.subscription_id, h.root) AS subscription_id,
       coalesce(c.root, h.root) AS root
FROM counted c FULL JOIN held h ON h.root = c.subscription_id AND h.tier_id = c.tier_id
WHERE c.slots_used IS DISTINCT FROM coalesce(h.devices, 0)
UNION ALL
SELECT 'devices', s.subscription_id, coalesce(s.parent_subscription_id, s.subscription_id)
FROM subscriptions s LEFT JOIN (SELECT subscription_id, sum(devices) AS devices FROM placed GROUP BY subscription_id) p ON p.subscription_id = s.subscription_id
WHERE s.subscription_id > $1 AND s.subscription_id <= $2 AND s.active_device_count <> coalesce(p.devices, 0)
ORDER BY 2, 1
