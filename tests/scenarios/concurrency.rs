//! Races on real connections: the same thing twice at once, two things that look the same, and what
//! a slow Stripe may not hold up.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use shared::db::Db;
use shared::outside::secrets::{Role, Secrets};
use shared::process::config::DatabaseSettings;
use tests::{World, payer, text};

/// Trap 3: check-then-insert loses; 32 parallel deliveries of one event have one effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_delivered_32_times_at_once_has_one_effect() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    let acknowledged = join_all((0..32).map(|_| world.apply(&event))).await;
    assert!(acknowledged.into_iter().all(|ok| ok), "a duplicate is no error");
    assert_provisioned_once(&world, "Acme").await;
}

/// Two deliveries of one event, of which the slower one comes to another end: what the first made
/// final stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_fails_after_another_one_was_applied_changes_nothing() {
    let world = World::new().await;
    let (_, paid) = world.paid_checkout("Acme", "jane@acme.example");
    assert!(world.apply(&paid).await);
    let ours = world
        .row("SELECT stripe_subscription_id AS id FROM subscriptions WHERE tenant_id = 'acme'")
        .await;
    world.stripe.cancel_at_period_end(&text(&ours["id"]), true).expect("to be cancelled");
    let event = world.event("customer.subscription.updated");
    world.stripe.set_latency(Duration::from_secs(1));
    world.stripe.fail_next(1, 404);
    let asked = world.stripe.requests().len();
    let slow_and_then_fast = async {
        while world.stripe.requests().len() == asked {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.stripe.set_latency(Duration::ZERO);
        assert!(world.apply(&event).await);
        assert_eq!(world.recorded(&event).await.0, "applied");
    };
    let (acknowledged, ()) = tokio::join!(world.apply(&event), slow_and_then_fast);
    assert!(acknowledged, "it may leave the queue");
    assert_eq!(world.recorded(&event).await.0, "applied");
    assert_eq!(world.count("flags").await, 0);
}

/// Trap 5: several events for one fact, in every order and at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_events_of_one_checkout_make_one_customer_in_any_order_and_at_once() {
    let world = World::new().await;
    let orders: [&[usize]; 7] = [
        &[0, 1, 2, 3],
        &[1, 0, 3, 2],
        &[3, 2, 1, 0],
        &[2, 1, 0, 3],
        &[1, 3, 0, 2],
        &[0, 3, 2, 1],
        &[],
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let company = format!("Debit {number}");
        let session = world.checkout(
            "price_pro_month",
            &[("plan_id", "pro"), ("company_name", &company), ("admin_email", "a@debit.example")],
        );
        world.stripe.pay_async(&session, payer("a@debit.example")).expect("completed");
        let (completed, created) = (
            world.event("checkout.session.completed"),
            world.event("customer.subscription.created"),
        );
        world.stripe.settle(&session).expect("paid");
        let (succeeded, invoice) =
            (world.event("checkout.session.async_payment_succeeded"), world.event("invoice.paid"));
        let events = [completed, succeeded, created, invoice];
        if order.is_empty() {
            let acknowledged =
                join_all(events.iter().cycle().take(16).map(|event| world.apply(event))).await;
            assert!(acknowledged.into_iter().all(|ok| ok));
        }
        for index in order {
            assert!(world.apply(&events[*index]).await);
        }
        let tenant = format!("debit-{number}");
        assert_eq!(
            world.count(&format!("subscriptions WHERE tenant_id = '{tenant}'")).await,
            1,
            "{order:?}"
        );
        assert_eq!(
            world.count(&format!("outbox_steps WHERE tenant_id = '{tenant}'")).await,
            3,
            "{order:?}"
        );
        for event in &events[..2] {
            assert_eq!(world.recorded(event).await.0, "applied", "{order:?}");
        }
    }
}

/// Trap 19: two companies of one name, at once and one after the other, with the same admin or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn companies_of_one_name_get_tenants_of_their_own() {
    let world = World::new().await;
    let events: Vec<Value> = (0..8)
        .map(|n| world.paid_checkout("Acme IoT", &format!("admin{n}@acme{n}.example")).1)
        .collect();
    assert!(join_all(events.iter().map(|event| world.apply(event))).await.into_iter().all(|ok| ok));
    let (_, later) = world.paid_checkout("Acme  IoT", "late@acme.example");
    assert!(world.apply(&later).await);
    let tenants =
        world.rows("SELECT tenant_id FROM tenants WHERE tenant_id LIKE 'acme-iot%'").await;
    assert_eq!(tenants.len(), 9);
    assert!(
        tenants.contains(&json!({"tenant_id": "acme-iot"})),
        "the first has the plain one: {tenants:?}"
    );
    assert_eq!(world.count("subscriptions WHERE tenant_id LIKE 'acme-iot%'").await, 9);
    world.outbox().await;
    let users = world.keycloak.users();
    assert_eq!(users.len(), 9);
    let mut owners: Vec<_> =
        users.iter().map(|user| user.attributes["tenant_id"][0].clone()).collect();
    owners.sort();
    owners.dedup();
    assert_eq!(owners.len(), 9, "each user is of a tenant of its own");
}

/// Two purchases of one new customer at once: both find no tenant, one makes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_first_checkouts_of_one_customer_at_once_make_one_tenant() {
    let world = World::new().await;
    let (first, event) = world.paid_checkout("Acme", "jane@acme.example");
    let customer = world.stripe.object(&first).expect("the session")["customer"].clone();
    let mut events = vec![event];
    for _ in 0..5 {
        let params = simulators::stripe::CheckoutParams {
            customer: Some(text(&customer)),
            ..simulators::stripe::CheckoutParams::subscription("price_starter_month")
        };
        let session = world.stripe.create_checkout(params).expect("a checkout");
        world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        events.push(world.event("checkout.session.completed"));
    }
    assert!(join_all(events.iter().map(|event| world.apply(event))).await.into_iter().all(|ok| ok));
    assert_eq!(world.count("tenants WHERE stripe_customer_id IS NOT NULL").await, 1);
    assert_eq!(world.count("subscriptions WHERE created_by = 'stripe'").await, 6);
    assert_eq!(world.count("outbox_steps").await, 3);
}

/// Trap 21: no Stripe call inside an open transaction, none that blocks the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_stripe_holds_no_transaction_and_no_other_customer() {
    let world = Arc::new(World::new().await);
    let events: Vec<Value> =
        (0..8).map(|n| world.paid_checkout(&format!("Slow {n}"), "a@slow.example").1).collect();
    let env = world.env(&[]);
    let secrets = Secrets::read(&tests::aws(), &env, Role::System).await.expect("the secret");
    let watcher =
        Db::new(DatabaseSettings::from_env(&env).expect("settings"), "pulse_system", secrets)
            .expect("a pool");
    world.stripe.set_latency(Duration::from_millis(400));
    let began = std::time::Instant::now();
    let applying = tokio::spawn({
        let world = Arc::clone(&world);
        async move { join_all(events.iter().map(|event| world.apply(event))).await }
    });
    // While Stripe thinks (two reads of 400 ms each), no connection of ours sits in a transaction.
    // Asked as the functions' own role: another does not see what they do.
    let watch = watcher.connection().await.expect("a connection");
    let open = "SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%'), count(*)
                FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user
                AND pid <> pg_backend_pid()";
    let mut seen = 0;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let row = watch.query_one(open, &[]).await.expect("a count");
        assert_eq!(row.get::<_, i64>(0), 0);
        seen = seen.max(row.get::<_, i64>(1));
    }
    assert!(seen > 0, "the watcher sees the others");
    assert!(applying.await.expect("no panic").into_iter().all(|ok| ok));
    assert!(
        began.elapsed() < Duration::from_millis(8 * 800),
        "eight customers do not wait for each other"
    );
    assert_eq!(world.count("tenants WHERE name LIKE 'Slow %'").await, 8);
}

/// The queue keeps the order of one customer's events: after a failure the later ones of the group
/// stay too.
#[tokio::test]
async fn after_a_failure_the_later_messages_of_the_same_group_stay_and_others_go_on() {
    let world = World::new().await;
    let (_, blocked) = world.paid_checkout("Blocked", "a@blocked.example");
    let (_, other) = world.paid_checkout("Other", "a@other.example");
    let mut batch = aws_lambda_events::sqs::SqsEvent::default();
    let mut same_group = blocked.clone();
    same_group["id"] = json!("evt_later");
    for (event, group) in [(&blocked, "a"), (&same_group, "a"), (&other, "b"), (&same_group, "a")] {
        batch.records.push(tests::sqs_message(&event.to_string(), group));
    }
    let ids: Vec<_> =
        batch.records.iter().map(|record| record.message_id.clone().expect("an id")).collect();
    world.stripe.fail_next(3, 503);
    let failed: Vec<_> = world
        .events
        .handle(batch)
        .await
        .batch_item_failures
        .into_iter()
        .map(|failure| failure.item_identifier)
        .collect();
    assert_eq!(failed, [ids[0].clone(), ids[1].clone(), ids[3].clone()]);
    assert_eq!(world.count("tenants WHERE name IN ('Blocked', 'Other')").await, 1);
}

async fn assert_provisioned_once(world: &World, company: &str) {
    assert_eq!(world.count(&format!("tenants WHERE name = '{company}'")).await, 1);
    assert_eq!(world.count("subscriptions WHERE created_by = 'stripe'").await, 1);
    assert_eq!(
        world
            .row(
                "SELECT sum(slot_limit)::int AS slots FROM subscription_tier_allocations
                 JOIN subscriptions USING (subscription_id) WHERE created_by = 'stripe'"
            )
            .await,
        json!({"slots": 260})
    );
    assert_eq!(world.count("subscription_audit").await, 3);
    assert_eq!(world.count("outbox_steps").await, 3);
}
