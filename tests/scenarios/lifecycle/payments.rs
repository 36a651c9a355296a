//! Trials, renewals, grace, suspension, and what disputes and refunds leave.

use serde_json::json;
use simulators::stripe::{Card, CheckoutParams, Dunning, GivenUp};
use tests::company::Company;
use tests::{World, text};

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

/// Traps 16 and 53: grace begins with the unpaid invoice, whenever its event comes, and no later
/// event makes it longer.
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
    company.deliver().await;
    assert_eq!(
        company.row(grace).await,
        json!({"status": "ACTIVE", "ends": null, "term": "2026-04-30 10:00:00+00"})
    );

    // The same, heard of weeks late.
    let mut late = Company::new().await;
    late.world.stripe.set_dunning(Dunning { retry_days: vec![40], then: GivenUp::PastDue });
    late.world.stripe.set_card(&late.customer, Card::Declines);
    late.world.clock.pass(70 * 86_400);
    // The second month that is unpaid.
    late.world.stripe.advance_to("2026-04-11T10:00:00Z".parse().expect("an instant"));
    late.deliver().await;
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
        company.deliver().await;
        let paid = if then == GivenUp::Unpaid { "ACTIVE" } else { "EXPIRED" };
        assert_eq!(company.status().await, paid, "what is cancelled stays so");
    }
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
            .expect("an event");
        company.deliver().await;
    }
    assert_eq!(
        (company.status().await, company.flags().await),
        ("ACTIVE".to_owned(), vec!["unknown_stripe_status".to_owned()])
    );
    company.world.stripe.edit_subscription(&company.stripe, |subscription| {
        subscription["status"] = json!("active");
    });
    company.world.stripe.pause_collection(&company.stripe, Some("void")).expect("paused");
    company.deliver().await;
    company.pass(30).await;
    assert_eq!(company.flags().await, ["unknown_stripe_status", "collection_paused"]);
    company.world.stripe.pause(&company.stripe).expect("paused");
    company.deliver().await;
    assert_eq!(company.status().await, "SUSPENDED");
    company.world.stripe.resume(&company.stripe).expect("resumed");
    company.deliver().await;
    assert_eq!(company.status().await, "ACTIVE");
}

#[tokio::test]
async fn refunds_disputes_and_needed_action_are_audited_and_flagged_and_change_no_access() {
    let mut company = Company::new().await;
    let invoice =
        text(&company.world.stripe.object(&company.stripe).expect("it")["latest_invoice"]);
    company.world.stripe.refund(&invoice, None).expect("refunded");
    let dispute = company.world.stripe.dispute(&invoice).expect("disputed");
    company.world.stripe.close_dispute(&text(&dispute["id"]), true).expect("closed");
    let news = company.new_events();
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

/// A paid checkout whose subscription was incomplete is provisioned by the event that it is
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
    let news = world.stripe.emit("customer.subscription.updated", &subscription).expect("an event");
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
