-- Counts of the subscriptions in ($1, $2], by id, that are not what the devices say. Each kind of row is in the slice of its own
-- subscription; the devices of a family are counted in the slice of its root, wherever its ADDONs are.
WITH members AS (
    SELECT subscription_id, subscription_id AS root FROM subscriptions
    WHERE subscription_id > $1 AND subscription_id <= $2 AND parent_subscription_id IS NULL
    UNION ALL
    SELECT subscription_id, parent_subscription_id FROM subscriptions
    WHERE parent_subscription_id > $1 AND parent_subscription_id <= $2
), held AS (
    SELECT m.root, d.tier_id, count(*) AS devices FROM members m JOIN devices d ON d.subscription_id = m.subscription_id
    WHERE d.tier_id IS NOT NULL GROUP BY m.root, d.tier_id
), counted AS (
    SELECT a.subscription_id, a.tier_id, a.slots_used, a.counted_by_hand, coalesce(s.parent_subscription_id, s.subscription_id) AS root
    FROM subscription_tier_allocations a JOIN subscriptions s ON s.subscription_id = a.subscription_id
    WHERE a.subscription_id > $1 AND a.subscription_id <= $2
), placed AS (
    SELECT subscription_id, count(*) AS devices FROM devices WHERE subscription_id > $1 AND subscription_id <= $2 GROUP BY subscription_id
)
SELECT CASE WHEN c.counted_by_hand THEN 'slots_by_hand' ELSE 'slots' END AS count, coalesce(c.subscription_id, h.root) AS subscription_id,
       coalesce(c.root, h.root) AS root
FROM counted c FULL JOIN held h ON h.root = c.subscription_id AND h.tier_id = c.tier_id
WHERE c.slots_used IS DISTINCT FROM coalesce(h.devices, 0)
UNION ALL
SELECT 'devices', s.subscription_id, coalesce(s.parent_subscription_id, s.subscription_id)
FROM subscriptions s LEFT JOIN placed p ON p.subscription_id = s.subscription_id
WHERE s.subscription_id > $1 AND s.subscription_id <= $2 AND s.active_device_count <> coalesce(p.devices, 0)
ORDER BY 2, 1
