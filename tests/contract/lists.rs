//! Long lists stay cheap: each filter has its index, and the last page costs what the first does.

use serde_json::Value;
use tests::World;
use tests::api::{Api, Who};

/// A million subscriptions of two thousand tenants. The indexes are made again, as the migrations
/// define them, after the rows.
const FILL: &str = "
    -- What autovacuum reads would count as the list's.
    ALTER TABLE subscriptions SET (autovacuum_enabled = false);
    INSERT INTO tenants (tenant_id, name) SELECT 't-' || n, 'T ' || n
    FROM generate_series(0, 1999) n;
    CREATE TEMP TABLE kept AS SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'subscriptions'
        AND indexname NOT IN (SELECT conname FROM pg_constraint
        WHERE conrelid = 'subscriptions'::regclass);
    DO $$ DECLARE name text; BEGIN FOR name IN SELECT indexname
    FROM kept LOOP EXECUTE 'DROP INDEX ' || name; END LOOP; END $$;
    ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_tenant_id_fkey,
    DROP CONSTRAINT subscriptions_plan_id_fkey;
    INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status, plan_id,
    device_limit, term_start, term_end, grace_end, created_by, stripe_subscription_id)
    SELECT 'SUB-2026-1' || lpad(n::text, 7, '0'), 't-' || n % 2000,
    (ARRAY['MAIN', 'TRIAL', 'TEMPORARY'])[1 + (n % 100) / 98], CASE WHEN n % 50 = 0 THEN 'GRACE'
    WHEN n % 71 = 0 THEN 'SUSPENDED' ELSE 'ACTIVE' END, CASE WHEN n % 200 = 0 THEN 'enterprise'
    ELSE 'pro' END, 10,
           '2026-01-01', '2026-01-02'::timestamptz + n * interval '37 seconds', CASE WHEN n % 50 = 0
           THEN '2027-01-01'::timestamptz END, 'x', 'sub_' || n
    FROM generate_series(1, 1000000) n;
    DO $$ DECLARE def text; BEGIN FOR def IN SELECT indexdef
    FROM kept LOOP EXECUTE def; END LOOP; END $$;
    ANALYZE subscriptions; ANALYZE tenants";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_subscriptions_are_listed_by_index_and_paged_at_one_price() {
    let world = World::new().await;
    world.db.batch_execute(FILL).await.expect("a million rows");
    let api = world.api().await;
    let path = "/api/v1/operator/subscriptions";
    // What each request really did, by the server's own statistics.
    warm(&api, path).await;
    let so_far = std::cell::Cell::new(reads(&world, "subscriptions").await);
    let blocks = async |query: &str| {
        let reply = api.get(Who::Operator, &format!("{path}?{query}")).await.expect(200);
        let (before, after) = (so_far.get(), reads(&world, "subscriptions").await);
        so_far.set(after);
        assert_eq!(after.0, before.0, "{query}: subscriptions were scanned from end to end");
        (reply, after.1 - before.1)
    };
    let (first, cost) = blocks("limit=100").await;
    assert_eq!(first["count"], 100);
    let half = "2026-08-02T00:00:00Z";
    let (middle, middle_cost) =
        blocks(&format!("limit=100&cursor={}", cursor(half, "SUB-2026-1"))).await;
    let (last, last_cost) =
        blocks(&format!("limit=100&cursor={}", cursor("2027-03-07T00:00:00Z", "SUB-2026-1"))).await;
    for (page, page_cost) in [(&middle, middle_cost), (&last, last_cost)] {
        assert!(page["count"].as_i64() > Some(0), "{page}");
        assert!(page_cost <= 2 * cost + 50, "{page_cost} blocks after {cost}");
    }
    for filter in [
        "tenant_id=t-1234",
        "subscription_type=TEMPORARY",
        "status=SUSPENDED",
        "status=GRACE",
        "plan_id=enterprise",
        "plan_id=starter",
        "stripe_subscription_id=sub_777777",
        "expiring_days=0",
        "tenant_id=t-7&status=ACTIVE&plan_id=pro",
        "ends_from=2026-11-01T00:00:00Z&ends_to=2026-11-02T00:00:00Z",
        "held=true",
    ] {
        let (page, cost) = blocks(&format!("limit=100&{filter}")).await;
        assert!(cost < 3_000, "{filter}: {cost} blocks for {}", page["count"]);
    }
    let of_one = "/api/v1/operator/renewals?within_days=3660&tenant_id=t-1234";
    let before = reads(&world, "subscriptions").await;
    let ahead = api.get(Who::Operator, of_one).await.expect(200);
    assert_eq!(ahead["count"], 100);
    let after = reads(&world, "subscriptions").await;
    let cost = after.1 - before.1;
    assert!(after.0 == before.0 && cost < 3_000, "one tenant's renewals: {cost} blocks");
    so_far.set(after);
    let (one, _) = blocks("stripe_subscription_id=sub_777777").await;
    assert_eq!(one["subscriptions"][0]["subscription_id"], Value::from("SUB-2026-10777777"));
}

/// The cursor after an item of this sort key.
fn cursor(at: &str, id: &str) -> String {
    cursor_of(&serde_json::json!([at, id]).to_string())
}

fn cursor_of(key: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key)
}

/// Three hundred thousand events of two thousand tenants: nearly all applied, a few of each other
/// status.
const FILL_EVENTS: &str = "
    -- What autovacuum reads would count as the list's.
    ALTER TABLE stripe_events SET (autovacuum_enabled = false);
    INSERT INTO tenants (tenant_id, name) SELECT 't-' || n, 'T ' || n
    FROM generate_series(0, 1999) n;
    INSERT INTO stripe_events (event_id, event_type, livemode, created_at, recorded_at, customer_id,
    tenant_id, stripe_subscription_id, status)
    SELECT 'evt_' || lpad(n::text, 7, '0'), CASE WHEN n % 5000 = 0 THEN 'charge.refunded'
    ELSE 'invoice.paid' END, false, at, at, 'cus_' || n % 2000,
           't-' || n % 2000, 'sub_' || n % 3000,
           CASE WHEN n % 4001 = 0 THEN 'failed' WHEN n % 4003 = 0 THEN 'waiting' WHEN n % 4007 = 0
           THEN 'dismissed' WHEN n % 10 = 0 THEN 'ignored' ELSE 'applied' END
    FROM (SELECT n, '2026-01-01'::timestamptz + n * interval '37 seconds' AS at
    FROM generate_series(1, 300000) n) q;
    ANALYZE stripe_events; ANALYZE tenants";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_of_events_is_read_by_index_and_paged_at_one_price() {
    let world = World::new().await;
    world.db.batch_execute(FILL_EVENTS).await.expect("many rows");
    let api = world.api().await;
    let path = "/api/v1/operator/stripe-events";
    warm(&api, path).await;
    let so_far = std::cell::Cell::new(reads(&world, "stripe_events").await);
    let blocks = async |query: &str| {
        let reply = api.get(Who::Operator, &format!("{path}?{query}")).await.expect(200);
        let (before, after) = (so_far.get(), reads(&world, "stripe_events").await);
        so_far.set(after);
        assert_eq!(after.0, before.0, "{query}: the events were scanned from end to end");
        (reply, after.1 - before.1)
    };
    let (first, cost) = blocks("limit=100").await;
    assert_eq!(
        (&first["count"], &first["events"][0]["event_id"]),
        (&Value::from(100), &Value::from("evt_0300000"))
    );
    let cursor = cursor("2026-01-01T03:00:00Z", "evt_0");
    let (last, last_cost) = blocks(&format!("limit=100&cursor={cursor}")).await;
    assert!(
        last["count"].as_i64() > Some(0) && last_cost <= 2 * cost + 50,
        "{last_cost} blocks after {cost}"
    );
    for filter in [
        "status=failed",
        "status=waiting",
        "status=dismissed",
        "status=ignored",
        "status=applied",
        "event_type=charge.refunded",
        "event_type=nothing.such",
        "customer_id=cus_7",
        "tenant_id=t-7",
        "stripe_subscription_id=sub_7",
        "status=failed&tenant_id=t-7",
        "status=failed&event_type=charge.refunded",
    ] {
        let (page, cost) = blocks(&format!("limit=100&{filter}")).await;
        assert!(cost < 1_000, "{filter}: {cost} blocks for {}", page["count"]);
    }
}

/// An audit of which one tenant has half. A connection's sixth statement may have a plan for all
/// tenants alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_of_one_great_tenant_costs_a_page_however_often_it_is_asked_for() {
    let world = World::new().await;
    let fill = "ALTER TABLE subscription_audit_other
                SET (autovacuum_enabled = false); -- what it reads would count as the list's
        INSERT INTO tenants (tenant_id, name) SELECT 't-' || n, 'T ' || n
        FROM generate_series(0, 100000) n;
        INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, subscription_id,
        device_id, actor_type, actor_id)
        SELECT '2020-01-01'::timestamptz + n * interval '10 seconds', 'DEVICE_TIER_ASSIGNED',
        't-' || own, 'SUB-' || own, 'dev-' || own, 'customer', 'of-' || own
        FROM (SELECT n, CASE WHEN n % 2 = 0 THEN 0 ELSE n END AS own
        FROM generate_series(1, 100000) n) q;
        ANALYZE subscription_audit; ANALYZE tenants";
    world.db.batch_execute(fill).await.expect("many rows");
    let api = world.api().await;
    for filter in [
        "tenant_id=t-0",
        "subscription_id=SUB-0",
        "device_id=dev-0",
        "actor_id=of-0",
        "event_type=DEVICE_TIER_ASSIGNED",
    ] {
        let (_, before) = reads(&world, "subscription_audit_other").await;
        for number in 0..8 {
            if number == 7 {
                // A backend tells its numbers once a second, at the end of a statement.
                tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
            }
            let page = api
                .get(Who::Operator, &format!("/api/v1/operator/audit?limit=100&{filter}"))
                .await
                .expect(200);
            assert_eq!(page["count"], 100);
        }
        let (_, after) = reads(&world, "subscription_audit_other").await;
        assert!(after - before < 8 * 200, "{filter}: {} blocks for 8 pages", after - before);
    }
}

/// A hundred thousand mails, of which one subscription has two thousand, and as many later steps of
/// another kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mails_of_one_subscription_are_read_by_index_and_paged_at_one_price() {
    let world = World::new().await;
    let fill = "ALTER TABLE outbox_steps
                SET (autovacuum_enabled = false); -- what it reads would count as the list's
        INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme');
        INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
        device_limit, term_start, term_end, created_by)
        SELECT 'SUB-2026-' || n, 'acme', 'MAIN', 'ACTIVE', 1, '2026-01-01', '2027-01-01', 'x'
        FROM (VALUES (70000), (70003)) new (n);
        INSERT INTO outbox_steps (tenant_id, kind, dedup_key, payload, next_attempt_at, status)
        SELECT 'acme', CASE WHEN n <= 100000 THEN 'mail' ELSE 'stripe_sync' END, 'step:' || n,
        jsonb_build_object('mail', 'RENEWAL_30', 'at', '2027-01-01T00:00:00Z', 'subscription_id',
        'SUB-2026-' || 70000 + CASE WHEN n % 50 = 0 THEN 0 ELSE n END), now(), 'done'
        FROM generate_series(1, 200000) n;
        ANALYZE outbox_steps";
    world.db.batch_execute(fill).await.expect("many rows");
    let api = world.api().await;
    let path = |id: i32| format!("/api/v1/operator/subscriptions/SUB-2026-{id}/mails");
    warm(&api, &path(70_003)).await;
    let mut so_far = reads(&world, "outbox_steps").await;
    for (query, count) in [
        (path(70_000) + "?limit=100", 100),
        (format!("{}?limit=100&cursor={}", path(70_000), cursor_of("6000")), 100),
        (path(70_003) + "?limit=100", 1),
    ] {
        let page = api.get(Who::Operator, &query).await.expect(200);
        assert_eq!(page["count"], count, "{query}");
        let after = reads(&world, "outbox_steps").await;
        assert_eq!(after.0, so_far.0, "{query}: the steps were scanned from end to end");
        assert!(after.1 - so_far.1 < 200, "{query}: {} blocks", after.1 - so_far.1);
        so_far = after;
    }
}

/// Opens the connection that the requests are measured on: a server's process reports what its first
/// statements read only with a later one, or after seconds of rest.
async fn warm(api: &Api, path: &str) {
    api.get(Who::Operator, &format!("{path}?limit=1")).await.expect(200);
}

/// How often the table was scanned as a whole, and how many of its and its indexes' blocks were
/// read, so far.
async fn reads(world: &World, table: &str) -> (i64, i64) {
    // The statistics of other backends arrive within a second of their end; asked for now, they are
    // flushed at once.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let sql = format!(
        "SELECT s.seq_scan AS scans, (io.heap_blks_read + io.heap_blks_hit + io.idx_blks_read +
         io.idx_blks_hit) AS blocks
         FROM pg_stat_user_tables s JOIN pg_statio_user_tables io USING (relid)
         WHERE s.relname = '{table}'"
    );
    world.db.execute("SELECT pg_stat_clear_snapshot()", &[]).await.expect("cleared");
    let row = world.row(&sql).await;
    (row["scans"].as_i64().expect("a number"), row["blocks"].as_i64().expect("a number"))
}
