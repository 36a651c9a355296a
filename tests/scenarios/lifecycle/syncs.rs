//! Which read of Stripe is applied, when, and how often Stripe is read.

use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use simulators::stripe::{Card, shape_event};
use tests::api::Who;
use tests::company::{Company, START};
use tests::{World, payer};

/// Trap 7: Stripe's present state counts, whatever comes last.
#[tokio::test]
async fn a_cancelled_subscription_does_not_come_back_to_life_by_an_older_snapshot() {
    let mut company = Company::new().await;
    company.world.stripe.change_plan(&company.stripe, "price_enterprise_month").expect("changed");
    company.world.stripe.change_plan(&company.stripe, "price_starter_month").expect("changed");
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    let mut news = company.new_events();
    news.reverse();
    assert!(company.hand_over(&news).await);
    assert_eq!(
        company.row("status, plan_id").await,
        json!({"status": "EXPIRED", "plan_id": "starter"})
    );
    assert_eq!(
        company.trail().await,
        ["STRIPE_SUBSCRIPTION_DELETED"],
        "the first of them has said it all"
    );
}

/// Trap 44: what was read before another's snapshot was applied is never applied after it.
#[tokio::test]
async fn an_older_read_that_comes_to_the_lock_late_is_read_again() {
    let mut company = Company::new().await;
    let other = tests::connect(&company.world.settings["DATABASE_NAME"]).await;
    other
        .batch_execute("BEGIN; SELECT 1 FROM subscriptions WHERE created_by = 'stripe' FOR UPDATE")
        .await
        .expect("the lock");
    company
        .world
        .stripe
        .emit("customer.subscription.updated", &company.stripe.clone())
        .expect("an event");
    let event = company.new_events().pop().expect("an event");
    let synced = company.row("stripe_sync").await["stripe_sync"].as_i64().expect("a count");
    let before = company.world.stripe.requests().len();
    let applied = company.hand_over(std::slice::from_ref(&event));
    let newer = async {
        while company.world.stripe.requests().len() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Read by now. Another writer was faster with the newer word.
        company.world.stripe.cancel(&company.stripe).expect("cancelled");
        other
            .batch_execute(
                "UPDATE subscriptions SET stripe_sync = stripe_sync + 1
                             WHERE created_by = 'stripe'; COMMIT",
            )
            .await
            .expect("applied");
    };
    assert!(tokio::join!(applied, newer).0);
    assert_eq!(
        company.row("status, stripe_sync").await,
        json!({"status": "EXPIRED", "stripe_sync": synced + 2}),
        "the other's snapshot, and then this"
    );
}

/// Trap 52: a 404 is an error of ours, never an expiry.
#[tokio::test]
async fn a_known_subscription_that_stripe_does_not_find_stays_and_is_flagged() {
    let mut company = Company::new().await;
    company
        .world
        .stripe
        .emit("customer.subscription.updated", &company.stripe.clone())
        .expect("an event");
    company.world.stripe.fail_next_on("/subscriptions/", 1, 404);
    company.deliver().await;
    assert_eq!(
        (company.status().await, company.flags().await),
        ("ACTIVE".to_owned(), vec!["upstream".to_owned()])
    );
    assert_eq!(company.world.count("stripe_events WHERE status = 'failed'").await, 1);
}

/// Trap 13: all payload generations say the same; one that says neither is failed, and visible.
#[tokio::test]
async fn events_of_every_api_version_apply_alike_and_unknown_fields_do_no_harm() {
    let mut shapes = Vec::new();
    for version in ["2023-10-16", "2024-06-20", "2025-03-31", "2026-09-30.endive"] {
        let mut company = Company::new().await;
        company.world.stripe.set_card(&company.customer, Card::Declines);
        company.world.clock.pass(33 * 86_400);
        company.world.stripe.advance_to("2026-03-05T10:00:00Z".parse().expect("an instant"));
        company.world.stripe.cancel(&company.stripe).expect("cancelled");
        for event in company.new_events() {
            let mut event = shape_event(&event, version);
            event["data"]["object"]["brand_new_field"] = json!({"of": ["next", "year"]});
            assert!(company.hand_over(&[event]).await);
        }
        let sql = "SELECT DISTINCT event_type, status, status_reason FROM stripe_events
                   ORDER BY 1, 2, 3";
        let statuses = company.world.rows(sql).await;
        shapes.push(json!([
            company.row("status, plan_id, term_end, grace_end").await,
            statuses,
            company.flags().await
        ]));
    }
    assert_eq!(shapes[0][0]["status"], "EXPIRED");
    assert!(shapes.iter().all(|shape| *shape == shapes[0]), "{shapes:#?}");

    let company = Company::new().await;
    let mut neither = company.world.event("invoice.paid");
    neither["id"] = json!("evt_neither");
    neither["data"]["object"]
        .as_object_mut()
        .expect("an invoice")
        .retain(|field, _| field != "parent" && field != "subscription");
    assert!(company.hand_over(&[neither.clone()]).await);
    assert_eq!(
        (company.world.recorded(&neither).await.0, company.flags().await),
        ("failed".to_owned(), vec!["stripe_shape".to_owned()])
    );
    // An invoice of something else sold to the same customer.
    neither["id"] = json!("evt_manual");
    neither["data"]["object"]["parent"] = json!(null);
    assert!(company.hand_over(&[neither.clone()]).await);
    assert_eq!(company.world.recorded(&neither).await.0, "ignored");
}

#[tokio::test]
async fn events_of_one_subscription_in_one_batch_share_one_read() {
    let mut company = Company::new().await;
    for price in
        ["price_starter_month", "price_enterprise_month", "price_pro_month", "price_starter_month"]
    {
        company.world.stripe.change_plan(&company.stripe, price).expect("changed");
    }
    let news = company.new_events();
    let before = company.world.stripe.requests().len();
    assert!(company.hand_over(&news).await);
    assert_eq!((news.len(), company.world.stripe.requests().len() - before), (4, 1));
    assert_eq!(company.row("plan_id").await, json!({"plan_id": "starter"}));
    assert_eq!(company.world.count("stripe_events WHERE status <> 'applied'").await, 0);
}

#[tokio::test]
async fn all_functions_together_read_stripe_at_one_rate() {
    let world = World::new().await;
    let began = Instant::now();
    let bookings = join_all((0..4).map(|_| async {
        let db = world.events.applier.db.connection().await.expect("a connection");
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(
                db.query_one("SELECT book_stripe_read(20)", &[])
                    .await
                    .expect("booked")
                    .get::<_, f64>(0),
            );
        }
        waits
    }))
    .await;
    let mut moments: Vec<f64> = bookings.concat();
    moments.sort_by(f64::total_cmp);
    let last = Duration::from_secs_f64(*moments.last().expect("forty")) + began.elapsed();
    assert!(
        last >= Duration::from_millis(39 * 50),
        "forty reads at 20 a second end no sooner: {last:?}"
    );
    assert!(
        moments.windows(2).filter(|pair| pair[1] - pair[0] < 0.001).count() < 5,
        "each has a moment of its own: {moments:?}"
    );
}

#[tokio::test]
async fn under_a_hold_stripes_state_is_kept_and_shown_and_a_released_hold_applies_it() {
    let mut company = Company::new().await;
    let api = company.world.api().await;
    let path = format!("/api/v1/operator/subscriptions/{}", company.id);
    api.write("PATCH", &path, json!({"hold": true, "hold_reason": "paid by wire"}))
        .await
        .expect(200);
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.deliver().await;
    assert_eq!(
        company.row("status, stripe_status").await,
        json!({"status": "ACTIVE", "stripe_status": "canceled"})
    );
    let shown = api.get(Who::Operator, &path).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["stripe_status"], &shown["hold_reason"]),
        (&json!("ACTIVE"), &json!("canceled"), &json!("paid by wire"))
    );
    api.write("PATCH", &path, json!({"hold": false})).await.expect(200);
    company.world.clock.pass(3_650 * 86_400);
    assert_eq!(company.world.outbox().await["done"], 3, "user, mail, and Stripe's state");
    assert_eq!(company.status().await, "EXPIRED");
    assert_eq!(
        company.trail().await,
        ["STRIPE_SUBSCRIPTION_UPDATED", "STRIPE_SUBSCRIPTION_DELETED"]
    );
    company.world.outbox().await;
    assert_eq!(company.trail().await.len(), 2);
}

#[tokio::test]
async fn what_waits_is_taken_up_after_a_lost_wake_and_ends_after_72_hours() {
    let world = World::new().await;
    let (_, checkout) = world.paid_checkout("Acme", "jane@acme.example");
    let created = world.event("customer.subscription.created");
    world.receive(&[&checkout]).await;
    // As if the consumer had died between the checkout's commit and what waited for it.
    world.receive(&[&created]).await;
    world
        .db
        .batch_execute(
            "UPDATE stripe_events SET status = 'waiting'
                            WHERE event_type = 'customer.subscription.created'",
        )
        .await
        .expect("waiting");
    world.outbox().await;
    assert_eq!(world.recorded(&created).await.0, "applied");

    let mut strangers = Vec::new();
    for price in ["price_pro_month", "price_unmapped"] {
        let session = world.checkout(price, &[]);
        world.stripe.pay(&session, payer("who@stranger.example")).expect("paid");
        strangers.push(world.event("customer.subscription.created"));
    }
    world.receive(&strangers.iter().collect::<Vec<_>>()).await;
    world.clock.run_ahead(71 * 3600);
    world.outbox().await;
    assert_eq!(world.recorded(&strangers[0]).await.0, "waiting");
    world.clock.run_ahead(73 * 3600);
    world.outbox().await;
    for stranger in &strangers {
        assert_eq!(world.recorded(stranger).await.0, "ignored");
    }
    assert_eq!(
        world.rows("SELECT kind, stripe_event_id FROM flags").await,
        [json!({"kind": "never_matched", "stripe_event_id": strangers[0]["id"]})]
    );
}

/// The clock at the edge: a snapshot that is applied again and again is one change.
#[tokio::test]
async fn thirty_two_deliveries_of_one_renewal_at_once_are_one_change() {
    let mut company = Company::new().await;
    company.world.clock.pass(28 * 86_400);
    company.world.stripe.advance_to(
        START.parse::<Timestamp>().expect("an instant") + SignedDuration::from_hours(24 * 28),
    );
    let news = company.new_events();
    let all = join_all(
        (0..32).map(|number| company.hand_over(std::slice::from_ref(&news[number % news.len()]))),
    )
    .await;
    // One that met four others at the lock comes again.
    for event in &news {
        assert!(company.hand_over(std::slice::from_ref(event)).await, "{all:?}");
    }
    assert_eq!(company.trail().await, ["STRIPE_INVOICE_PAID"]);
    assert_eq!(
        company.row("term_end::text AS ends").await,
        json!({"ends": "2026-03-31 10:00:00+00"})
    );
}
