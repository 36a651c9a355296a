//! Mails: each says what is so when it is sent; none is forgotten, and none sent twice but in the
//! one window of docs/mail.md.

use serde_json::{Value, json};
use tests::World;
use tests::smtp::Smtp;

mod content;
mod delivery;
mod list;

const STEPS: &str = "/api/v1/operator/provisioning";
const END: &str = "2099-01-01T00:00:00Z";

/// Tenants `first` and on, each with a MAIN that ends far ahead.
async fn customers(world: &World, first: usize, count: usize) {
    let last = first + count - 1;
    world
        .db
        .batch_execute(&format!(
            "INSERT INTO tenants (tenant_id, name, contact_email)
             SELECT 'acme-' || n, 'Acme ' || n, 'c' || n || '@acme.example'
             FROM generate_series({first}, {last}) n;
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
             plan_id, device_limit, term_start, term_end, created_by)
             SELECT 'SUB-2026-9' || n, 'acme-' || n, 'MAIN', 'ACTIVE', 'pro', 100, '2026-01-01',
             '{END}', 'x' FROM generate_series({first}, {last}) n"
        ))
        .await
        .expect("customers");
}

/// Leaves a notice of this kind for each of them, as the hourly run does.
async fn notices(world: &World, kind: &str, at: &str) {
    world
        .db
        .execute(
            "INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, next_attempt_at,
             created_at, updated_at)
             SELECT 'mail', tenant_id, 'mail:' || $1::text || ':' || subscription_id || ':' ||
             $2::text, jsonb_build_object('mail', $1::text, 'subscription_id', subscription_id,
             'at', $2::text), now() - interval '10 minutes', now(), now()
             FROM subscriptions WHERE created_by = 'x' AND parent_subscription_id IS NULL
             ORDER BY subscription_id",
            &[&kind, &at],
        )
        .await
        .expect("notices");
}

async fn change(world: &World, sql: &str) {
    world.db.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

fn summary(done: u32, retried: u32, failed: u32) -> Value {
    json!({"done": done, "retried": retried, "failed": failed})
}

/// A world with a mail server of its own, and so many customers with a notice each.
async fn mailing(count: usize) -> (World, Smtp) {
    let mut world = World::new().await;
    let smtp = world.mail().await;
    customers(&world, 1, count).await;
    notices(&world, "RENEWAL_30", END).await;
    (world, smtp)
}
