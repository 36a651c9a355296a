//! Messages that come again: late, twice, in another order, or from the dead-letter queue.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use lambda_http::http::StatusCode;
use serde_json::json;
use shared::base::ids::StripeEventId;
use shared::domain::events::operator;
use tests::{World, payer, text};

/// Trap 8: SQS forgets a deduplication id after five minutes; the database never does.
#[tokio::test]
async fn the_same_event_after_the_queues_memory_has_one_effect() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.receive(&[&event]).await;
    for later in [Duration::from_mins(6), Duration::from_hours(72)] {
        // What the queue would hand over by then: the same body as a message of its own.
        assert!(world.apply(&event).await, "{later:?}");
        assert_eq!(world.post(&event).await.status(), StatusCode::OK);
        assert_eq!(world.drain().await, 0);
    }
    assert_eq!(
        (
            world.count("subscriptions WHERE created_by = 'stripe'").await,
            world.count("stripe_events").await
        ),
        (1, 1)
    );
}

/// Trap 6: an event of a subscription or an invoice before its checkout is kept, not answered and
/// forgotten.
#[tokio::test]
async fn an_event_before_the_checkout_is_kept_and_applied_with_it() {
    let world = World::new().await;
    let (_, checkout) = world.paid_checkout("Acme", "jane@acme.example");
    let (invoice, created) =
        (world.event("invoice.paid"), world.event("customer.subscription.created"));
    world.receive(&[&invoice, &created]).await;
    assert_eq!(
        (world.recorded(&invoice).await.0.as_str(), world.recorded(&created).await.0.as_str()),
        ("waiting", "waiting")
    );
    let paid =
        world.row("SELECT payload FROM stripe_events WHERE event_type = 'invoice.paid'").await;
    assert_eq!(paid["payload"], invoice["data"]["object"], "whole, for when it is handled");
    world.receive(&[&checkout]).await;
    let reads = world
        .stripe
        .requests()
        .into_iter()
        .filter(|(_, path)| path.contains("/subscriptions/"))
        .count();
    assert_eq!(reads, 2, "one for the checkout, one for all that waited for it");
    for event in [&checkout, &invoice, &created] {
        assert_eq!(world.recorded(event).await.0, "applied", "{}", event["type"]);
    }
}

/// Trap 7: an old event is a hint like any other; what is applied is the present.
#[tokio::test]
async fn an_old_checkout_event_applies_the_present_state_and_not_its_own() {
    let world = World::new().await;
    let (session, event) = world.paid_checkout("Acme", "jane@acme.example");
    let subscription = text(&world.stripe.object(&session).expect("the session")["subscription"]);
    // Cancelled before its checkout event is applied, days late.
    world.stripe.edit_subscription(&subscription, |subscription| {
        subscription["status"] = json!("canceled");
    });
    world.receive(&[&event]).await;
    assert_eq!(
        world.row("SELECT status FROM subscriptions WHERE created_by = 'stripe'").await,
        json!({"status": "EXPIRED"}),
        "cancelled does not come back to life"
    );
    world
        .stripe
        .edit_subscription(&subscription, |subscription| subscription["status"] = json!("active"));
    assert!(world.apply(&event).await);
    assert_eq!(
        world.row("SELECT status FROM subscriptions WHERE created_by = 'stripe'").await,
        json!({"status": "EXPIRED"}),
        "an applied event does nothing"
    );
}

#[tokio::test]
async fn what_fails_for_a_reason_that_may_pass_is_noted_and_its_message_rests() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    let sqs = aws_sdk_sqs::Client::new(&tests::aws());
    let url = &world.settings["STRIPE_QUEUE_URL"];
    // A second of its own: what is hidden for longer is hidden by the function.
    sqs.set_queue_attributes()
        .queue_url(url)
        .attributes(QueueAttributeName::VisibilityTimeout, "1")
        .send()
        .await
        .expect("set");
    assert_eq!(world.post(&event).await.status(), StatusCode::OK);
    world.stripe.fail_next(3, 503);
    assert_eq!(world.handle_batch().await, 1, "its message stays");
    let noted = world
        .row("SELECT status, lost_tries, transient_errors, last_error FROM stripe_events")
        .await;
    assert_eq!(
        (&noted["status"], &noted["lost_tries"], &noted["transient_errors"]),
        (&json!("waiting"), &json!(0), &json!(1))
    );
    assert!(text(&noted["last_error"]).contains("503"), "{noted}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(world.handle_batch().await, 0);
    assert_eq!(world.queued().await, 1, "it rests, in flight");
    assert_eq!(world.recorded(&event).await.0, "waiting");
}

/// A message that cannot even be recorded goes to the dead-letter queue, and is applied after it
/// was redriven.
#[tokio::test]
async fn what_could_not_be_recorded_is_in_the_dead_letter_queue_and_applies_after_its_redrive() {
    let world = World::new().await;
    let sqs = aws_sdk_sqs::Client::new(&tests::aws());
    let name = format!("{}-dlq.fifo", world.settings["DATABASE_NAME"]);
    let dead = sqs
        .create_queue()
        .queue_name(&name)
        .attributes(QueueAttributeName::FifoQueue, "true")
        .send()
        .await
        .expect("a queue");
    let dead = dead.queue_url().expect("its URL").to_owned();
    let arn = sqs
        .get_queue_attributes()
        .queue_url(&dead)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .expect("attributes");
    let arn = arn.attributes().expect("attributes")[&QueueAttributeName::QueueArn].clone();
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 2}).to_string();
    let url = &world.settings["STRIPE_QUEUE_URL"];
    let set = sqs
        .set_queue_attributes()
        .queue_url(url)
        .attributes(QueueAttributeName::RedrivePolicy, policy);
    set.attributes(QueueAttributeName::VisibilityTimeout, "0").send().await.expect("set");
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    assert_eq!(world.post(&event).await.status(), StatusCode::OK);
    // Two receives whose consumer leaves no word at all, and a third that finds it gone.
    for _ in 0..4 {
        world.receive_and_forget().await;
    }
    assert_eq!(world.queued().await, 0);
    assert_eq!(world.count("stripe_events").await, 0);
    assert_eq!(
        shared::outside::queue::Queue::new(&tests::aws(), dead.clone())
            .redrive(&world.webhook.queue)
            .await
            .expect("redriven"),
        1
    );
    assert_eq!(world.drain().await, 0);
    assert_eq!(world.recorded(&event).await.0, "applied");
}

#[tokio::test]
async fn an_operator_dismisses_what_needs_nothing_and_nothing_else() {
    let world = World::new().await;
    let session = world.checkout("price_pro_month", &[("tenant_id", "nobody")]);
    world.stripe.pay(&session, payer("x@x.example")).expect("paid");
    let (failed, created) =
        (world.event("checkout.session.completed"), world.event("customer.subscription.created"));
    let (_, good) = world.paid_checkout("Acme", "jane@acme.example");
    world.receive(&[&failed, &created, &good]).await;
    let applier = &world.events.applier;
    let now = applier.clock.now();
    let id = |event: &serde_json::Value| StripeEventId::parse(&text(&event["id"])).expect("an id");
    for event in [&failed, &created] {
        operator::dismiss(&applier.db, &id(event), "refunded by hand", &tests::operator(), now)
            .await
            .expect("dismissed");
        assert_eq!(
            world.recorded(event).await,
            ("dismissed".to_owned(), "refunded by hand".to_owned())
        );
        assert!(world.apply(event).await);
        assert_eq!(world.recorded(event).await.0, "dismissed", "a redelivery leaves it so");
    }
    let unknown = StripeEventId::parse("evt_unknown").expect("an id");
    for (event, code) in [
        (&id(&good), "event_final"),
        (&id(&failed), "event_final"),
        (&unknown, "stripe_event_not_found"),
    ] {
        assert_eq!(
            operator::dismiss(&applier.db, event, "x", &tests::operator(), now)
                .await
                .expect_err("refused")
                .code(),
            code
        );
        assert_eq!(
            operator::replay(&applier.db, &world.webhook.queue, event, &tests::operator(), now)
                .await
                .expect_err("refused")
                .code(),
            code
        );
    }
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'STRIPE_EVENT_DISMISSED'").await,
        2
    );
}

/// An operator dismisses an event while it is applied: one of the two wins, and the other sees
/// that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_dismissed_while_it_is_applied_is_either_dismissed_or_applied() {
    let world = World::new().await;
    let applier = &world.events.applier;
    for number in 0..12 {
        let tenant = format!("raced-{number}");
        let session =
            world.checkout("price_pro_month", &[("plan_id", "pro"), ("tenant_id", &tenant)]);
        world.stripe.pay(&session, payer("x@x.example")).expect("paid");
        let event = world.event("checkout.session.completed");
        assert!(world.apply(&event).await);
        assert_eq!(world.recorded(&event).await.0, "failed");
        world
            .db
            .execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", &[&tenant])
            .await
            .expect("mended");
        let id = StripeEventId::parse(&text(&event["id"])).expect("an id");
        let dismiss = async {
            // Somewhere between the reads of Stripe and the commit.
            tokio::time::sleep(Duration::from_millis(4 * number)).await;
            operator::dismiss(&applier.db, &id, "by hand", &tests::operator(), applier.clock.now())
                .await
        };
        let (acknowledged, dismissed) = tokio::join!(world.apply(&event), dismiss);
        assert!(acknowledged);
        let made = world.count(&format!("subscriptions WHERE tenant_id = '{tenant}'")).await;
        let expected = if dismissed.is_ok() { ("dismissed", 0) } else { ("applied", 1) };
        assert_eq!((world.recorded(&event).await.0.as_str(), made), expected, "{dismissed:?}");
    }
}
