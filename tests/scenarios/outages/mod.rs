//! A service is stopped, hangs, or is cut in the middle of a message: whatever came through is
//! applied afterwards, whole and once.

use serde_json::{Value, json};
use tests::{World, text};

mod database;
mod keycloak;
mod queue;
mod stripe;

/// What the path has made for the companies of this name, in one snapshot: half of it is neither of
/// the two below.
async fn made(world: &World, company: &str) -> Value {
    let of = format!("JOIN tenants USING (tenant_id) WHERE name LIKE '{company}'");
    let sql = format!(
        "SELECT (SELECT count(*) FROM tenants
         WHERE name LIKE '{company}') AS tenants, (SELECT count(*)
         FROM subscriptions {of}) AS subscriptions,
                (SELECT coalesce(sum(slot_limit), 0)
                FROM subscription_tier_allocations {of}) AS slots,
                (SELECT count(*) FROM subscription_audit {of}
                AND actor_id = 'stripe') AS audit, (SELECT count(*)
                FROM outbox_steps {of}) AS steps"
    );
    world.row(&sql).await
}

fn nothing() -> Value {
    times(0)
}

fn once() -> Value {
    times(1)
}

fn times(n: i64) -> Value {
    json!({"tenants": n, "subscriptions": n, "slots": 260 * n, "audit": 3 * n, "steps": 3 * n})
}

/// What a redelivery finds of the tries before it.
async fn tries(world: &World, event: &Value) -> Value {
    world
        .row(&format!(
            "SELECT status, lost_tries, transient_errors, last_error FROM stripe_events
                        WHERE event_id = '{}'",
            text(&event["id"])
        ))
        .await
}

/// Cuts in even steps over a conversation of `whole` bytes.
fn cuts(whole: u64, steps: u64) -> impl Iterator<Item = u64> {
    (0..steps).map(move |step| whole * step / steps)
}

fn users(world: &World, email: &str) -> Vec<simulators::keycloak::User> {
    world.keycloak.users().into_iter().filter(|user| user.email.as_deref() == Some(email)).collect()
}
