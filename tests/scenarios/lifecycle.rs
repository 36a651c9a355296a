//! What Stripe says of a subscription after its checkout, rule by rule (docs/events.md,
//! "Subscriptions").

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use simulators::stripe::{Card, CheckoutParams, Dunning, GivenUp, shape_event};
use tests::api::Who;
use tests::company::{Company, START};
use tests::{World, payer, text};

/// Traps 20 and 30: a trial's zero invoice is no payment of a month; terms follow the periods, from
/// the anchor's day.
#[tokio::test]
async fn a_trial_becomes_a_paid_month_and_each_renewal_moves_the_term() {
    let mut company = Company::with(CheckoutParams {
        trial_period_days: Some(14),
        ..CheckoutParams::subscription("price_pro_month")
    })
    .await;
    let term = "status, term_start::text AS starts, term_end::text AS ends";
    assert_eq!(
        company.row(term).await,
        json!({"status": "TRIAL", "starts": "2026-01-31 10:00:00+00",
            "ends": "2026-02-14 10:00:00+00"})
    );
    company.pass(15).await;
    assert_eq!(
        company.row(term).await,
        json!({"status": "ACTIVE", "starts": "2026-02-14 10:00:00+00",
            "ends": "2026-03-14 10:00:00+00"})
    );
    company.pass(28).await;
    assert_eq!(
        company.row(term).await,
        json!({"status": "ACTIVE", "starts": "2026-03-14 10:00:00+00",
            "ends": "2026-04-14 10:00:00+00"})
    );
    assert_eq!(company.trail().await, ["STRIPE_INVOICE_PAID", "STRIPE_INVOICE_PAID"]);

    let mut thirty_first = Company::new().await;
    for end in ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"] {
        assert_eq!(
            thirty_first.row("term_end::text AS ends").await,
            json!({"ends": format!("{end} 10:00:00+00")})
        );
        let days = if end == "2026-02-28" { 28 } else { 31 };
        thirty_first.pass(days).await;
    }
}

/// Traps 16 and 53: grace begins with the unpaid invoice, whenever its news comes, and no later
/// news makes it longer.
#[tokio::test]
async fn grace_is_given_once_a_delinquency_from_the_unpaid_moment_on() {
    let mut company = Company::new().await;
    company
        .world
        .stripe
        .set_dunning(Dunning { retry_days: vec![3, 5, 7, 40], then: GivenUp::PastDue });
    company.world.stripe.set_card(&company.customer, Card::Declines);
    let grace = "status, grace_end::text AS ends, term_end::text AS term";
    let expected = json!({"status": "GRACE", "ends": "2026-03-14 10:00:00+00",
        "term": "2026-02-28 10:00:00+00"});
    for days in [29, 3, 5, 30] {
        company.pass(days).await;
        assert_eq!(company.row(grace).await, expected, "after {days} more days");
    }
    assert_eq!(
        company.trail().await,
        ["STRIPE_PAYMENT_FAILED", "STRIPE_SUBSCRIPTION_UPDATED"],
        "the next period is unpaid as well"
    );
    company.world.stripe.set_card(&company.customer, Card::Works);
    company.world.stripe.pay_open_invoices(&company.stripe).expect("paid");
    company.tell().await;
    assert_eq!(
        company.row(grace).await,
        json!({"status": "ACTIVE", "ends": null, "term": "2026-04-30 10:00:00+00"})
    );

    // The same, heard of weeks late.
    let mut late = Company::new().await;
    late.world.stripe.set_dunning(Dunning { retry_days: vec![40], then: GivenUp::PastDue });
    late.world.stripe.set_card(&late.customer, Card::Declines);
    late.now.fetch_add(70 * 86_400, Ordering::SeqCst);
    // The second month that is unpaid.
    late.world.stripe.advance_to("2026-04-11T10:00:00Z".parse().expect("an instant"));
    late.tell().await;
    assert_eq!(late.row(grace).await, expected);
}

#[tokio::test]
async fn who_does_not_pay_ends_or_is_suspended_as_stripe_decides_and_a_payment_brings_access_back()
{
    for (then, status) in [(GivenUp::Canceled, "EXPIRED"), (GivenUp::Unpaid, "SUSPENDED")] {
        let mut company = Company::new().await;
        company.world.stripe.set_dunning(Dunning { retry_days: vec![3], then });
        company.world.stripe.set_card(&company.customer, Card::Declines);
        company.pass(29).await;
        assert_eq!(company.status().await, "GRACE");
        company.pass(5).await;
        assert_eq!(company.status().await, status);
        company.world.stripe.set_card(&company.customer, Card::Works);
        drop(company.world.stripe.pay_open_invoices(&company.stripe));
        company.tell().await;
        let paid = if then == GivenUp::Unpaid { "ACTIVE" } else { "EXPIRED" };
        assert_eq!(company.status().await, paid, "what is cancelled stays so");
    }
}

/// Trap 28: a change in the portal counts; what is in use stays.
#[tokio::test]
async fn a_plan_change_in_the_portal_brings_the_new_plans_limits_and_takes_no_device_away() {
    let mut company = Company::new().await;
    for number in 0..3 {
        company.device(&format!("DEV-{number}"), &company.id.clone(), Some(3)).await;
    }
    company.world.stripe.change_plan(&company.stripe, "price_starter_month").expect("changed");
    company.tell().await;
    assert_eq!(
        company.row("plan_id, device_limit, stripe_price_id").await,
        json!({"plan_id": "starter", "device_limit": 30, "stripe_price_id": "price_starter_month"})
    );
    assert_eq!(company.slots().await, json!({"1": 25, "2": 5, "3": 0}));
    assert_eq!(company.world.count("devices WHERE tier_id = 3").await, 3);
    assert_eq!(company.trail().await, ["STRIPE_PLAN_CHANGED"]);
    let details = company
        .world
        .row(
            "SELECT stripe_event_id IS NOT NULL AS event, previous_state->>'plan_id' AS was,
         details->'tier_slots'->'after' AS slots FROM subscription_audit
         WHERE event_type = 'STRIPE_PLAN_CHANGED'",
        )
        .await;
    assert_eq!((&details["event"], &details["was"]), (&json!(true), &json!("pro")));
}

#[tokio::test]
async fn a_price_that_nothing_knows_never_downgrades_a_payer_and_counts_once_it_is_mapped() {
    let of_checkout = [("plan_id".to_owned(), "starter".to_owned())].into();
    let params = CheckoutParams {
        subscription_metadata: of_checkout,
        ..CheckoutParams::subscription("price_starter_month")
    };
    let mut company = Company::with(params).await;
    company.world.stripe.change_plan(&company.stripe, "price_pro_month").expect("changed");
    company.tell().await;
    company.world.stripe.change_plan(&company.stripe, "price_unmapped").expect("changed");
    company.tell().await;
    company.pass(28).await;
    let plan = "plan_id, device_limit, stripe_price_id";
    assert_eq!(
        company.row(plan).await,
        json!({"plan_id": "pro", "device_limit": 260, "stripe_price_id": "price_unmapped"})
    );
    assert_eq!(
        (
            company.flags().await,
            company.world.count("subscription_audit WHERE event_type = 'PLAN_UNRESOLVED'").await
        ),
        (vec!["plan_unresolved".to_owned()], 1)
    );
    company
        .world
        .db
        .execute(
            "INSERT INTO stripe_prices (stripe_price_id, plan_id, interval, is_current)
                  VALUES ('price_unmapped', 'enterprise', 'month', false)",
            &[],
        )
        .await
        .expect("mapped");
    company.pass(31).await;
    assert_eq!(
        company.row(plan).await,
        json!({"plan_id": "enterprise", "device_limit": 5000, "stripe_price_id": "price_unmapped"})
    );
}

#[tokio::test]
async fn slot_items_beside_the_plan_change_neither_plan_nor_slots() {
    let mut company = Company::new().await;
    company.world.stripe.edit_subscription(&company.stripe, |subscription| {
        let mut slot = subscription["items"]["data"][0].clone();
        (slot["id"], slot["price"]["id"], slot["quantity"]) =
            (json!("si_slot"), json!("price_standard_slot_month"), json!(7));
        subscription["items"]["data"].as_array_mut().expect("items").insert(0, slot);
    });
    company
        .world
        .stripe
        .emit("customer.subscription.updated", &company.stripe.clone())
        .expect("told");
    company.tell().await;
    assert_eq!(
        company.row("plan_id, stripe_price_id").await,
        json!({"plan_id": "pro", "stripe_price_id": "price_pro_month"})
    );
    assert_eq!(company.slots().await, json!({"1": 200, "2": 50, "3": 10}));
    assert_eq!((company.trail().await, company.flags().await), (vec![], vec![]));
}

/// Trap 15, and what is paused.
#[tokio::test]
async fn an_unknown_status_changes_nothing_and_is_flagged_once_and_so_is_a_paused_collection() {
    let mut company = Company::new().await;
    for _ in 0..2 {
        company.world.stripe.edit_subscription(&company.stripe, |subscription| {
            subscription["status"] = json!("brand_new");
        });
        company
            .world
            .stripe
            .emit("customer.subscription.updated", &company.stripe.clone())
            .expect("told");
        company.tell().await;
    }
    assert_eq!(
        (company.status().await, company.flags().await),
        ("ACTIVE".to_owned(), vec!["unknown_stripe_status".to_owned()])
    );
    company.world.stripe.edit_subscription(&company.stripe, |subscription| {
        subscription["status"] = json!("active");
    });
    company.world.stripe.pause_collection(&company.stripe, Some("void")).expect("paused");
    company.tell().await;
    company.pass(30).await;
    assert_eq!(company.flags().await, ["unknown_stripe_status", "collection_paused"]);
    company.world.stripe.pause(&company.stripe).expect("paused");
    company.tell().await;
    assert_eq!(company.status().await, "SUSPENDED");
    company.world.stripe.resume(&company.stripe).expect("resumed");
    company.tell().await;
    assert_eq!(company.status().await, "ACTIVE");
}

/// Trap 7: the last word is Stripe's present state, whatever comes last.
#[tokio::test]
async fn a_cancelled_subscription_does_not_come_back_to_life_by_older_news() {
    let mut company = Company::new().await;
    company.world.stripe.change_plan(&company.stripe, "price_enterprise_month").expect("changed");
    company.world.stripe.change_plan(&company.stripe, "price_starter_month").expect("changed");
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    let mut news = company.news();
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

/// Trap 44: what was read before another's word was applied is never applied after it.
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
        .expect("told");
    let event = company.news().pop().expect("an event");
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
        "the other's word, and then this"
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
        .expect("told");
    company.world.stripe.fail_next_on("/subscriptions/", 1, 404);
    company.tell().await;
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
        company.now.fetch_add(33 * 86_400, Ordering::SeqCst);
        company.world.stripe.advance_to("2026-03-05T10:00:00Z".parse().expect("an instant"));
        company.world.stripe.cancel(&company.stripe).expect("cancelled");
        for event in company.news() {
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
    let news = company.news();
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
async fn under_a_hold_stripes_word_is_kept_and_shown_and_a_released_hold_applies_it() {
    let mut company = Company::new().await;
    let api = company.world.api().await;
    let path = format!("/api/v1/operator/subscriptions/{}", company.id);
    api.write("PATCH", &path, json!({"hold": true, "hold_reason": "paid by wire"}))
        .await
        .expect(200);
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.tell().await;
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
    // Operators live in the real time.
    company.now.fetch_add(3_650 * 86_400, Ordering::SeqCst);
    assert_eq!(company.world.outbox().await["done"], 3, "user, mail, and Stripe's word");
    assert_eq!(company.status().await, "EXPIRED");
    assert_eq!(
        company.trail().await,
        ["STRIPE_SUBSCRIPTION_UPDATED", "STRIPE_SUBSCRIPTION_DELETED"]
    );
    company.world.outbox().await;
    assert_eq!(company.trail().await.len(), 2);
}

/// The ADDONs that an operator made end with their MAIN, and when it does.
#[tokio::test]
async fn addons_follow_their_mains_term_and_end_with_it() {
    let mut company = Company::new().await;
    let api = company.world.api().await;
    let new = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 5,
    "parent_subscription_id": company.id, "term_start": START});
    let addon = text(&api.create_subscription(new).await["subscription_id"]);
    let of_addon = format!(
        "SELECT status, term_end::text AS ends FROM subscriptions WHERE subscription_id = '{addon}'"
    );
    company.pass(28).await;
    assert_eq!(
        company.world.row(&of_addon).await,
        json!({"status": "ACTIVE", "ends": "2026-03-31 10:00:00+00"})
    );
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.tell().await;
    assert_eq!(company.world.row(&of_addon).await["status"], "EXPIRED");
    let trail = company
        .world
        .rows(&format!(
            "SELECT event_type, details FROM subscription_audit
                        WHERE subscription_id = '{addon}' AND event_type LIKE 'STRIPE%'
                        ORDER BY id"
        ))
        .await;
    let with = json!({"with_parent": company.id});
    assert_eq!(
        trail,
        [
            json!({"event_type": "STRIPE_INVOICE_PAID", "details": with}),
            json!({"event_type": "STRIPE_SUBSCRIPTION_DELETED", "details": with})
        ]
    );
}

/// One with a Stripe subscription of its own follows that, and never beyond its MAIN.
#[tokio::test]
async fn an_addon_of_its_own_follows_its_own_subscription_and_ends_no_later_than_its_main() {
    let mut company = Company::new().await;
    company.pass(10).await;
    let metadata = [("tenant_id", "acme"), ("parent_subscription_id", company.id.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let own = CheckoutParams {
        metadata,
        quantity: 3,
        customer: Some(company.customer.clone()),
        ..CheckoutParams::subscription("price_standard_slot_month")
    };
    let session = company.world.stripe.create_checkout(own).expect("a checkout");
    let paid = company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    company.tell().await;
    let (main, stripe) = (company.stripe.clone(), text(&paid["subscription"]));
    company.stripe.clone_from(&stripe);
    company.id = text(&company.row("subscription_id").await["subscription_id"]);
    let ends = "device_limit, term_end::text AS ends";
    assert_eq!(
        company.row(ends).await,
        json!({"device_limit": 3, "ends": "2026-02-28 10:00:00+00"}),
        "with its MAIN"
    );
    company.pass(20).await;
    assert_eq!(
        company.row(ends).await,
        json!({"device_limit": 3, "ends": "2026-03-10 10:00:00+00"}),
        "by its own period"
    );

    let api = company.world.api().await;
    let path = format!("/api/v1/operator/subscriptions/{}", company.id);
    for (hold, quantity, slots) in [(false, 5, 5), (true, 7, 5)] {
        if hold {
            api.write("PATCH", &path, json!({"hold": true, "hold_reason": "looked at"}))
                .await
                .expect(200);
        }
        company.world.stripe.edit_subscription(&stripe, |subscription| {
            subscription["items"]["data"][0]["quantity"] = json!(quantity);
        });
        company.world.stripe.emit("customer.subscription.updated", &stripe).expect("told");
        company.tell().await;
        assert_eq!(
            (company.slots().await, company.row("device_limit").await),
            (json!({"2": slots}), json!({"device_limit": slots}))
        );
    }
    company.world.stripe.cancel(&main).expect("cancelled");
    company.tell().await;
    assert_eq!(
        (company.status().await, company.flags().await),
        ("ACTIVE".to_owned(), vec!["addon_still_charged".to_owned()])
    );
    assert_eq!(api.get(Who::Operator, &path).await.expect(200)["effective_status"], "EXPIRED");
}

#[tokio::test]
async fn refunds_disputes_and_needed_action_are_audited_and_flagged_and_change_no_access() {
    let mut company = Company::new().await;
    let invoice =
        text(&company.world.stripe.object(&company.stripe).expect("it")["latest_invoice"]);
    company.world.stripe.refund(&invoice, None).expect("refunded");
    let dispute = company.world.stripe.dispute(&invoice).expect("disputed");
    company.world.stripe.close_dispute(&text(&dispute["id"]), true).expect("closed");
    let news = company.news();
    for _ in 0..2 {
        assert!(company.hand_over(&news).await);
    }
    assert_eq!(
        company.trail().await,
        ["STRIPE_CHARGE_REFUNDED", "STRIPE_DISPUTE_CREATED", "STRIPE_DISPUTE_CLOSED"]
    );
    assert_eq!(company.flags().await, ["refunded", "disputed", "dispute_closed"]);
    assert_eq!(company.status().await, "ACTIVE");
    company.world.stripe.set_card(&company.customer, Card::NeedsAction);
    company.pass(28).await;
    assert_eq!(company.flags().await[3..], ["payment_action_required".to_owned()]);
    assert!(company.trail().await.contains(&"STRIPE_PAYMENT_ACTION_REQUIRED".to_owned()));
    assert_eq!(company.status().await, "GRACE");
}

#[tokio::test]
async fn a_customers_news_fills_only_what_is_empty_and_its_deletion_is_flagged() {
    let mut company = Company::new().await;
    company
        .world
        .stripe
        .update_customer(
            &company.customer,
            &json!({"email": "new@acme.example", "phone": "+1 555",
                "address": {"line2": "2nd floor", "city": "Elsewhere"}}),
        )
        .expect("updated");
    company.tell().await;
    let profile = "SELECT billing_email, phone, address_line2, city, version FROM tenants
                   WHERE tenant_id = 'acme'";
    let filled = json!({"billing_email": "jane@acme.example", "phone": "+1 555",
        "address_line2": "2nd floor", "city": "Springfield", "version": 2});
    assert_eq!(company.world.row(profile).await, filled);
    company
        .world
        .stripe
        .update_customer(&company.customer, &json!({"phone": "+1 556"}))
        .expect("updated");
    company.tell().await;
    assert_eq!(company.world.row(profile).await, filled);
    company.world.stripe.delete_customer(&company.customer).expect("deleted");
    company.tell().await;
    assert_eq!(
        (company.status().await, company.flags().await),
        ("EXPIRED".to_owned(), vec!["customer_deleted".to_owned()])
    );
}

/// A paid checkout whose subscription was incomplete is provisioned by the news that it is
/// complete.
#[tokio::test]
async fn an_incomplete_subscription_is_provisioned_when_it_becomes_active() {
    let world = World::new().await;
    let (session, event) = world.paid_checkout("Acme", "jane@acme.example");
    let subscription = text(&world.stripe.object(&session).expect("it")["subscription"]);
    world.stripe.edit_subscription(&subscription, |subscription| {
        subscription["status"] = json!("incomplete");
    });
    world.receive(&[&event]).await;
    assert_eq!(
        (world.recorded(&event).await.0, world.count("tenants WHERE tenant_id = 'acme'").await),
        ("waiting".to_owned(), 0)
    );
    world
        .stripe
        .edit_subscription(&subscription, |subscription| subscription["status"] = json!("active"));
    let news = world.stripe.emit("customer.subscription.updated", &subscription).expect("told");
    world.receive(&[&news]).await;
    assert_eq!(
        (world.recorded(&event).await.0, world.recorded(&news).await.0),
        ("applied".to_owned(), "applied".to_owned())
    );
    assert_eq!(
        world.row("SELECT status FROM subscriptions WHERE tenant_id = 'acme'").await,
        json!({"status": "ACTIVE"})
    );
}

#[tokio::test]
async fn what_waits_is_taken_up_after_a_lost_wake_and_ends_after_72_hours() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
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
    ahead.store(71 * 3600, Ordering::SeqCst);
    world.outbox().await;
    assert_eq!(world.recorded(&strangers[0]).await.0, "waiting");
    ahead.store(73 * 3600, Ordering::SeqCst);
    world.outbox().await;
    for stranger in &strangers {
        assert_eq!(world.recorded(stranger).await.0, "ignored");
    }
    assert_eq!(
        world.rows("SELECT kind, stripe_event_id FROM flags").await,
        [json!({"kind": "never_matched", "stripe_event_id": strangers[0]["id"]})]
    );
}

#[tokio::test]
async fn a_main_that_is_bought_anew_takes_over_the_devices_of_the_dead_one_with_their_slots() {
    let mut company = Company::new().await;
    let old = company.id.clone();
    for (number, tier) in [(1, Some(2)), (2, Some(2)), (3, Some(3)), (4, None)] {
        company.device(&format!("DEV-{number}"), &old, tier).await;
    }
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.tell().await;
    assert_eq!(company.status().await, "EXPIRED");
    let again = CheckoutParams {
        customer: Some(company.customer.clone()),
        ..CheckoutParams::subscription("price_starter_month")
    };
    let session = company.world.stripe.create_checkout(again.clone()).expect("a checkout");
    let paid = company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    company.stripe = text(&paid["subscription"]);
    company.tell().await;
    let new = text(&company.row("subscription_id").await["subscription_id"]);
    assert_eq!(
        company.row("status, active_device_count").await,
        json!({"status": "ACTIVE", "active_device_count": 4})
    );
    assert_eq!(company.world.count(&format!("devices WHERE subscription_id = '{new}'")).await, 4);
    let used = "SELECT subscription_id, tier_id, slot_limit, slots_used
                FROM subscription_tier_allocations WHERE tenant_id = 'acme' AND slots_used > 0
                ORDER BY tier_id";
    let of = |tier: i32, limit: i32, used: i32| {
        json!({"subscription_id": new, "tier_id": tier,
    "slot_limit": limit, "slots_used": used})
    };
    assert_eq!(
        company.world.rows(used).await,
        [of(2, 5, 2), of(3, 0, 1)],
        "over the limit, and kept"
    );
    assert_eq!(
        company
            .world
            .row(&format!(
                "SELECT active_device_count FROM subscriptions WHERE subscription_id = '{old}'"
            ))
            .await,
        json!({"active_device_count": 0})
    );
    let moved = "subscription_audit WHERE event_type = 'DEVICE_REASSIGNED'
                 AND stripe_event_id IS NOT NULL";
    assert_eq!(company.world.count(moved).await, 4);

    // A second one beside it takes nothing; nor does a third, as long as the second lives, from the
    // first that has died.
    for dies in [false, true] {
        if dies {
            company.world.stripe.cancel(&company.stripe).expect("cancelled");
        }
        let session = company.world.stripe.create_checkout(again.clone()).expect("a checkout");
        company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        company.tell().await;
        assert_eq!(
            company.world.count(&format!("devices WHERE subscription_id = '{new}'")).await,
            4,
            "{dies}"
        );
    }
    assert_eq!(company.status().await, "EXPIRED");
}

/// A tenant that was deleted stays so: who pays for it is told of.
#[tokio::test]
async fn news_that_would_revive_a_deleted_tenants_subscription_is_failed_and_flagged() {
    let mut company = Company::new().await;
    company.world.stripe.pause(&company.stripe).expect("paused");
    company.tell().await;
    company
        .world
        .api()
        .await
        .send(Who::Admin, "DELETE", "/api/v1/operator/tenants/acme", &[], None)
        .await
        .expect(200);
    company.world.stripe.resume(&company.stripe).expect("resumed");
    company.tell().await;
    assert_eq!(company.status().await, "SUSPENDED");
    assert!(
        company.flags().await.iter().all(|kind| kind == "tenant_deleted")
            && !company.flags().await.is_empty()
    );
}

/// The clock at the edge: a word that is applied again and again is one change.
#[tokio::test]
async fn thirty_two_deliveries_of_one_renewal_at_once_are_one_change() {
    let mut company = Company::new().await;
    company.now.fetch_add(28 * 86_400, Ordering::SeqCst);
    company.world.stripe.advance_to(
        START.parse::<Timestamp>().expect("an instant") + SignedDuration::from_hours(24 * 28),
    );
    let news = company.news();
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
