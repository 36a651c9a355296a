//! Many subscriptions, runs that overlap, and runs that die (docs/renewals.md, "Two at once, and
//! none to the end").

use std::process::Stdio;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::World;
use tokio::io::AsyncWriteExt as _;

const NOW: &str = "2026-03-01T00:00:00Z";

/// Fills the database with `count` subscriptions, each a tenant's own. Of a hundred, ten have
/// ended, five of them long ago; five have used up their grace; ten are trials, five of them over;
/// and the rest end in the 80 days after.
async fn fill(world: &World, count: i32) {
    let now: Timestamp = NOW.parse().expect("an instant");
    // Those of the seed are of another time.
    world
        .db
        .execute("UPDATE subscriptions SET status = 'SUSPENDED', created_by = 'seed'", &[])
        .await
        .expect("over");
    // An operator's approval: so many are not for the breaker to stop here.
    let sql = "INSERT INTO renewal_approvals (approved_at, approved_by, approve_until, max_count,
               note) VALUES ($1, 'op', $2, 1000000, 'a test')";
    world
        .db
        .execute(sql, &[&now, &(now + SignedDuration::from_hours(24))])
        .await
        .expect("approved");
    let sql = "INSERT INTO tenants (tenant_id, name, billing_email)
               SELECT 't' || n, 't' || n, 't' || n || '@example.com'
               FROM generate_series(0, $1 - 1) n";
    world.db.execute(sql, &[&count]).await.expect("tenants");
    let sql = "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
               grace_end, device_limit, term_start, term_end, created_by)
               SELECT 'SUB-2025-' || lpad(n::text, 6, '0'), 't' || n, CASE WHEN n % 100 BETWEEN 20
               AND 29 THEN 'TRIAL' ELSE 'MAIN' END,
                      CASE WHEN n % 100 BETWEEN 10 AND 14 THEN 'GRACE' ELSE 'ACTIVE' END,
                      CASE WHEN n % 100 BETWEEN 10 AND 14
                      THEN $2::timestamptz - interval '1 hour' END, 10,
                      $2::timestamptz - interval '400 days', CASE WHEN n % 100 < 5
                      THEN $2::timestamptz - interval '30 days' WHEN n % 100 < 10 THEN $2
                      WHEN n % 100 < 15 THEN $2::timestamptz - interval '14 days'
                           WHEN n % 100 BETWEEN 20 AND 24 THEN $2
                           ELSE $2::timestamptz + (n % 79 + 1) * interval '1 day' END, 'test'
               FROM generate_series(0, $1 - 1) n";
    world.db.execute(sql, &[&count, &now]).await.expect("subscriptions");
    world.db.batch_execute("ANALYZE subscriptions, tenants").await.expect("statistics");
}

/// A run in a process of its own.
fn runner(world: &World) -> tokio::process::Child {
    let mut worker = tokio::process::Command::new(env!("CARGO_BIN_EXE_worker"));
    worker
        .args(["renewal", "none"])
        .envs(&world.settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    worker.spawn().expect("a worker")
}

async fn start(world: &World) -> tokio::process::Child {
    let mut worker = runner(world);
    let mut input = worker.stdin.take().expect("its input");
    input.write_all(json!({"as_of": NOW}).to_string().as_bytes()).await.expect("written");
    worker
}

/// Each transition is made and audited once and mailed once, each notice is left once, and nobody
/// is forgotten.
async fn assert_all_is_done_once(world: &World, count: i64) {
    let rows = |sql: &'static str| async move { world.rows(sql).await };
    let hundredth = count / 100;
    let by_status = rows(
        "SELECT status, count(*) AS count FROM subscriptions
                          WHERE created_by = 'test' GROUP BY 1 ORDER BY 1",
    )
    .await;
    let expected = json!([
        {"status": "ACTIVE", "count": 80 * hundredth},
        {"status": "EXPIRED", "count": 5 * hundredth},
        {"status": "GRACE", "count": 10 * hundredth},
        {"status": "SUSPENDED", "count": 5 * hundredth}
    ]);
    assert_eq!(Value::Array(by_status), expected);
    let audited = rows(
        "SELECT new_state->>'status' AS status, count(*) AS count,
              count(DISTINCT subscription_id) AS of FROM subscription_audit GROUP BY 1 ORDER BY 1",
    )
    .await;
    let once = |status: &str, n: i64| {
        json!({"status": status, "count": n * hundredth,
        "of": n * hundredth})
    };
    assert_eq!(audited, [once("EXPIRED", 5), once("GRACE", 10), once("SUSPENDED", 5)]);
    // The audit tells what the rows say.
    let lost = "subscriptions s JOIN subscription_audit a USING (subscription_id)
                WHERE (a.new_state->>'version')::bigint <> s.version
                OR a.new_state->>'status' <> s.status";
    assert_eq!(world.count(lost).await, 0);
    let mails = rows(
        "SELECT payload->>'mail' AS mail, count(*) AS count,
                      count(DISTINCT payload->>'subscription_id') AS of FROM outbox_steps
                      WHERE tenant_id IS NOT NULL AND kind = 'mail' GROUP BY 1 ORDER BY 1",
    )
    .await;
    let sent: i64 = mails.iter().filter_map(|row| row["count"].as_i64()).sum();
    assert!(mails.iter().all(|row| row["count"] == row["of"]), "{mails:?}");
    // All 80 that go on end within 80 days of a term of more than 400.
    assert_eq!(sent, 100 * hundredth, "{mails:?}");
    let by_threshold = "SELECT count(*) AS wrong FROM outbox_steps o JOIN subscriptions s
                        ON s.subscription_id = o.payload->>'subscription_id'
                        WHERE o.payload->>'mail' LIKE 'RENEWAL%'
                        AND s.term_end - '2026-03-01T00:00:00Z'::timestamptz
                              > make_interval(days => split_part(o.payload->>'mail', '_', 2)::int)";
    assert_eq!(world.row(by_threshold).await["wrong"], 0);
    assert_eq!(
        world.row("SELECT sum(used) AS used FROM renewal_approvals").await["used"],
        20 * hundredth,
        "counted once"
    );
}

/// Trap 32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_at_once_over_a_hundred_thousand_do_everything_once() {
    let world = World::new().await;
    fill(&world, 100_000).await;
    let (first, second) =
        tokio::join!(async { start(&world).await.wait_with_output().await }, async {
            start(&world).await.wait_with_output().await
        });
    for run in [first, second] {
        let run = run.expect("an end");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
    assert_all_is_done_once(&world, 100_000).await;
    let shared =
        world.rows("SELECT status, summary->'changes' <> '{}' AS worked FROM renewal_runs").await;
    assert_eq!(shared, vec![json!({"status": "done", "worked": true}); 2], "both had a part in it");
}

/// Trap 32: wherever it dies, the next one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_again_and_again_has_done_everything_once_in_the_end() {
    let world = World::new().await;
    fill(&world, 30_000).await;
    let mut killed = 0;
    for n in 0..60_u64 {
        let mut run = start(&world).await;
        // Later each time, so that it dies in each of its parts.
        let life = Duration::from_millis(60 + n * 12);
        if tokio::time::timeout(life, run.wait()).await.is_err() {
            run.kill().await.expect("killed");
            killed += 1;
        }
    }
    assert!(killed >= 10, "{killed} of 60 died");
    world.no_other_connection_is_open().await;
    let last = start(&world).await.wait_with_output().await.expect("an end");
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert_all_is_done_once(&world, 30_000).await;
    assert!(
        world.count("renewal_runs WHERE status = 'running'").await > 0,
        "the dead ones differ from the others"
    );
}
