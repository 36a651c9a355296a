//! Stripe's events, applied by one consumer and by eight, in batches of ten; the floor is the same
//! writes under pgbench.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;

use super::Bench;
use super::database::Fleet;
use super::report::Aim;
use super::report::Measure;
use super::requests::Script;
use super::requests::pgbench;
use super::runtime::Instance;
use super::runtime::invoke_at_once;
use super::runtime::serve_json;

/// Subscriptions of one consumer, each with a customer of its own.
const EACH: u64 = 200;
const CONSUMERS: u64 = 8;
const BATCH: u32 = 10;

const SCRIPT: Script = Script {
    name: "apply_event",
    sql: std::borrow::Cow::Borrowed(include_str!("sql/apply_event.sql")),
    role: "system",
};

/// Renewals of subscriptions: for each event, Stripe's state is read and moves a term.
pub(super) async fn run(bench: &Bench, fleet: &Fleet) -> Result<Vec<Measure>> {
    let step = bench.progress.step("events");
    fleet
        .db
        .batch_execute(&format!(
            "UPDATE tenants SET stripe_customer_id = 'cus_' || n FROM generate_series(1, {all}) n
             WHERE tenant_id = 't' || n;
             UPDATE subscriptions SET stripe_subscription_id = 'sub_' || n,
             stripe_price_id = 'price_pro_month', stripe_status = 'active', status = 'ACTIVE',
             grace_end = NULL
             FROM generate_series(1, {all}) n
             WHERE subscription_id = 'SUB-2025-' || lpad(n::text, 7, '0')",
            all = EACH * CONSUMERS
        ))
        .await?;
    let stripe = serve_subscriptions().await?;
    let settings = bench.settings(&[("DATABASE_NAME", &fleet.name), ("STRIPE_API_BASE", &stripe)]);
    let number = Arc::new(AtomicU64::new(0));
    let mut consumers = Vec::new();
    for consumer in 0..CONSUMERS {
        let first = batch(consumer, number.fetch_add(1, Ordering::Relaxed));
        let instance =
            Instance::start(&bench.program("stripe-events"), &settings, first, &bench.log).await?;
        ensure_done(&instance.first)?;
        consumers.push(instance);
    }
    let mut measures = Vec::new();
    for at_once in [1, CONSUMERS] {
        let mut measure = Measure::new(
            format!("events applied a second, {at_once} at once"),
            "/s",
            Aim::AtLeast(0.5),
        );
        for _ in 0..bench.rounds {
            let others = consumers.split_off(usize::try_from(at_once)?);
            let events = (0..at_once).map(|consumer| {
                let number = Arc::clone(&number);
                move |_| batch(consumer, number.fetch_add(1, Ordering::Relaxed))
            });
            let ours = invoke_at_once(&mut consumers, BATCH, events, ensure_done).await?;
            consumers.extend(others);
            measure.push(
                ours,
                pgbench(
                    bench,
                    fleet,
                    (&SCRIPT, bench.env.get("DATABASE_PORT")?),
                    i32::try_from(at_once)?,
                    i32::try_from(EACH * at_once)?,
                )
                .await?
                .rate,
            );
        }
        measures.push(measure);
    }
    let applied: i64 = fleet
        .db
        .query_one(
            "SELECT count(*) FROM stripe_events WHERE status = 'applied' AND status_reason IS NULL",
            &[],
        )
        .await?
        .get(0);
    ensure!(applied > 0, "no event changed anything");
    for consumer in consumers {
        consumer.stop().await?;
    }
    step.done();
    Ok(measures)
}

fn ensure_done(answer: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(answer)?;
    ensure!(
        answer["batchItemFailures"].as_array().is_some_and(Vec::is_empty),
        "an event stays on its queue: {answer}"
    );
    Ok(())
}

/// A batch from the queue, as the event source mapping delivers it: an event for each of ten of the
/// consumer's subscriptions.
fn batch(consumer: u64, number: u64) -> Vec<u8> {
    let record = |place: u64| {
        let of = consumer * EACH + (number * u64::from(BATCH) + place) % EACH + 1;
        let object = json!({ "id": format!("sub_{of}"), "object": "subscription",
            "customer": format!("cus_{of}"), "status": "active" });
        let event = json!({
            "id": format!("evt_{number}_{place}"), "object": "event",
            "type": "customer.subscription.updated", "created": 1_770_000_000, "livemode": false,
            "api_version": "2026-09-30.endive", "data": { "object": object }
        });
        json!({
            "messageId": format!("{number}-{place}"), "receiptHandle": "bench",
            "body": event.to_string(),
            "attributes": { "MessageGroupId": format!("cus_{of}"), "ApproximateReceiveCount": "1" },
            "messageAttributes": {}, "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:0:bench.fifo", "awsRegion": "us-east-1"
        })
    };
    json!({ "Records": (0..BATCH.into()).map(record).collect::<Vec<_>>() }).to_string().into_bytes()
}

/// Starts a Stripe that returns any subscription at once, each time with a period that ends a
/// second later; returns its address.
async fn serve_subscriptions() -> Result<String> {
    let end = AtomicI64::new(2_000_000_000);
    serve_json(move |head, _| {
        let id = head
            .split([' ', '?'])
            .nth(1)
            .and_then(|path| path.rsplit('/').next())
            .unwrap_or_default();
        let (customer, end) = (id.replace("sub_", "cus_"), end.fetch_add(1, Ordering::Relaxed));
        let price = json!({ "id": "price_pro_month", "object": "price", "unit_amount": 19_900,
        "recurring": { "interval": "month", "interval_count": 1 } });
        let item = json!({
            "id": format!("si_{id}"), "object": "subscription_item", "price": price, "quantity": 1,
            "current_period_start": 1_997_000_000, "current_period_end": end
        });
        let invoice = json!({ "id": format!("in_{id}"), "object": "invoice", "status": "paid",
        "amount_due": 19_900, "created": 1_770_000_000 });
        Ok(json!({
            "id": id, "object": "subscription", "status": "active", "customer": customer,
            "metadata": {}, "created": 1_760_000_000,
            "cancel_at": null, "cancel_at_period_end": false, "pause_collection": null,
            "latest_invoice": invoice,
            "items": { "object": "list", "data": [item], "has_more": false }
        }))
    })
    .await
}
