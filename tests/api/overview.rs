//! `operations`: what operators look at first.

use serde_json::{Value, json};
use tests::World;
use tests::api::Who;

const OVERVIEW: &str = "/api/v1/operator/overview";

#[tokio::test]
async fn the_overview_counts_what_waits_and_what_ends() {
    let world = World::new().await;
    let api = world.api().await;
    world
        .db
        .batch_execute(
            "UPDATE subscriptions SET status = 'EXPIRED';
             INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme');
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
                 grace_end, device_limit, term_start, term_end, created_by)
             SELECT 'SUB-2025-000' || n, 'acme', 'MAIN', status,
                    CASE WHEN status = 'GRACE' THEN now() + interval '1 day' END, 1,
                    now() - interval '400 days', now() + ends * interval '1 day', 'test'
             FROM (VALUES (1, 'ACTIVE', -1), (2, 'ACTIVE', 0.5), (3, 'TRIAL', 6), (4, 'ACTIVE', 29),
                          (5, 'ACTIVE', 31), (6, 'GRACE', 0), (7, 'SUSPENDED', 1))
                  AS them (n, status, ends);
             INSERT INTO subscription_tier_allocations (tenant_id, subscription_id, tier_id,
                 slot_limit, slots_used, counted_by_hand)
             VALUES ('acme', 'SUB-2025-0001', 1, 5, 3, true), ('acme', 'SUB-2025-0001', 2, 5, 0, false);
             INSERT INTO flags (kind, detail, created_at, resolved_at) VALUES
                 ('refunded', 'look', now(), NULL), ('refunded', 'look', now(), NULL),
                 ('disputed', 'look', now(), NULL), ('disputed', 'look', now(), now());
             INSERT INTO stripe_events (event_id, event_type, livemode, created_at, recorded_at, status)
             SELECT 'evt_' || n, 'invoice.paid', false, now(), now(), status
             FROM (VALUES (1, 'failed'), (2, 'waiting'), (3, 'waiting'), (4, 'applied'))
                  AS them (n, status);
             INSERT INTO renewal_runs (started_at, as_of, status, finished_at)
             VALUES (now() - interval '1 hour', now(), 'failed', now()), (now(), now(), 'done', now())",
        )
        .await
        .expect("what waits");
    let overview = api.get(Who::Operator, OVERVIEW).await.expect(200);
    assert_eq!(overview["flags"], json!({"refunded": 2, "disputed": 1}));
    assert_eq!(overview["events"], json!({"failed": 1, "waiting": 2}));
    assert_eq!(overview["steps"], json!({"failed": 0, "pending_late": 0}));
    let subscriptions = &overview["subscriptions"];
    for (status, count) in [("ACTIVE", 4), ("TRIAL", 1), ("GRACE", 1), ("SUSPENDED", 1)] {
        assert_eq!(subscriptions[status], count, "{status}");
    }
    assert_eq!(overview["ending"], json!({"d1": 2, "d7": 3, "d30": 4}));
    assert_eq!(overview["counted_by_hand"], 1);
    assert_eq!(overview["last_run"]["status"], "done", "the one that began last");
    assert_eq!(overview["breaker"]["open"], false);
    assert_eq!(overview["breaker"]["due"], 1);
    assert!(overview["counted_at"].is_string());
    api.get(Who::Customer("acme"), OVERVIEW).await.problem(403, "operator_required");
}

#[tokio::test]
async fn steps_that_were_given_up_or_are_late_are_counted() {
    let world = World::new().await;
    let api = world.api().await;
    for (company, email) in [("Acme", "jane@acme.example"), ("Beta", "joe@beta.example")] {
        let (_, event) = world.paid_checkout(company, email);
        world.receive(&[&event]).await;
    }
    let steps = async || api.get(Who::Operator, OVERVIEW).await.expect(200)["steps"].clone();
    assert_eq!(steps().await, json!({"failed": 0, "pending_late": 0}), "they are just due");
    let late = "UPDATE outbox_steps SET next_attempt_at = $1 WHERE tenant_id = 'acme'";
    let at = world.clock.now() - jiff::SignedDuration::from_mins(11);
    let late = world.db.execute(late, &[&at]).await.expect("late");
    assert_eq!(steps().await["pending_late"], json!(late));
    let failed = "UPDATE outbox_steps SET status = 'failed' WHERE tenant_id = 'beta'";
    let failed = world.db.execute(failed, &[]).await.expect("given up");
    assert_eq!(steps().await["failed"], json!(failed));
    assert_ne!(failed, 0);
}

#[tokio::test]
async fn an_empty_fleet_is_all_zeros() {
    let world = World::new().await;
    world.db.execute("UPDATE subscriptions SET status = 'EXPIRED'", &[]).await.expect("ended");
    let overview = world.api().await.get(Who::Operator, OVERVIEW).await.expect(200);
    assert_eq!(overview["flags"], json!({}));
    assert_eq!(overview["last_run"], Value::Null);
    assert_eq!(overview["ending"], json!({"d1": 0, "d7": 0, "d30": 0}));
}
