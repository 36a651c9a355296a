//! The hourly run: what is due when, to the microsecond, for whom, and why not (docs/renewals.md).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::{World, text};

mod breaker;
mod customers;
mod due;
mod stripe;

fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// A world in which it is this time until its clock is moved.
async fn world_at(now: &str) -> World {
    let world = World::new().await;
    // Those of the seed are of another time.
    world.db.execute("UPDATE subscriptions SET status = 'EXPIRED'", &[]).await.expect("ended");
    world.clock.stop_at(instant(now));
    world
}

/// One run by the schedule.
async fn run(world: &World) -> Value {
    let summary = world.renewals.handle(json!({})).await.expect("a run");
    let summary = serde_json::to_value(summary).expect("JSON");
    assert_eq!(summary["errors"], json!({}), "{summary}");
    summary
}

/// What is not paid at Stripe: a subscription of a tenant of its own, of the same name.
async fn offline(
    world: &World,
    id: &str,
    kind: &str,
    status: &str,
    start: Timestamp,
    end: Timestamp,
) {
    let tenant = "INSERT INTO tenants (tenant_id, name, billing_email)
                  VALUES ($1, $1, $1 || '@example.com') ON CONFLICT DO NOTHING";
    world.db.execute(tenant, &[&id]).await.expect("a tenant");
    let sql = "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
               device_limit, term_start, term_end, created_by)
               VALUES (generate_subscription_id(), $1, $2, $3, 10, $4, $5, 'test')";
    world.db.execute(sql, &[&id, &kind, &status, &start, &end]).await.expect("a subscription");
}

/// Kinds of mail that were left, by tenant, in their order.
async fn mails(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut mails: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in world
        .rows(
            "SELECT tenant_id, payload->>'mail' AS mail FROM outbox_steps
                           WHERE kind = 'mail' AND tenant_id IS NOT NULL ORDER BY step_id",
        )
        .await
    {
        mails.entry(text(&row["tenant_id"])).or_default().push(text(&row["mail"]));
    }
    mails
}

async fn state(world: &World, id: &str) -> (String, Option<Timestamp>) {
    let row = world
        .db
        .query_one("SELECT status, grace_end FROM subscriptions WHERE tenant_id = $1", &[&id])
        .await
        .expect("a subscription");
    (row.get(0), row.get(1))
}
