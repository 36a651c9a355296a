//! "Active, and its latest invoice is not settled" is three things: paused on purpose, money on its
//! way, and not paid (docs/adr/0014-paused-pending-unpaid.md).

use jiff::SignedDuration;
use serde_json::{Value, json};
use simulators::stripe::{Card, CheckoutParams, Dunning, GivenUp};
use tests::company::Company;
use tests::text;

/// Lets days pass one by one, each with what Stripe sends and one of its hourly runs.
async fn live_through(company: &mut Company, days: i64) {
    for _ in 0..days {
        company.pass(1).await;
        let summary = company.world.renewals.handle(json!({})).await.expect("a run");
        assert!(summary.errors.is_empty(), "{:?}", summary.errors);
    }
}

/// The mails that the hourly run left, oldest first.
async fn mails(company: &Company) -> Vec<String> {
    let sql = "SELECT payload ->> 'mail' AS mail FROM outbox_steps
               WHERE kind = 'mail' AND tenant_id = 'acme' ORDER BY step_id";
    company.world.rows(sql).await.iter().map(|row| text(&row["mail"])).collect()
}

async fn forecast(company: &Company) -> Value {
    company
        .row("status, term_end::date::text AS term, stripe_pending_until IS NOT NULL AS pending")
        .await
}

#[tokio::test]
async fn who_is_not_charged_on_purpose_keeps_access_and_gets_no_mail() {
    for behavior in ["void", "keep_as_draft", "mark_uncollectible"] {
        let mut company = Company::new().await;
        company.world.stripe.pause_collection(&company.stripe, Some(behavior)).expect("paused");
        company.deliver().await;
        live_through(&mut company, 95).await;
        assert_eq!(
            forecast(&company).await,
            json!({"status": "ACTIVE", "term": "2026-05-31", "pending": false}),
            "{behavior}"
        );
        assert_eq!(mails(&company).await, [] as [&str; 0], "{behavior}");
        assert!(
            company.trail().await.iter().all(|name| name == "STRIPE_SUBSCRIPTION_UPDATED"),
            "{behavior}: nothing was paid: {:?}",
            company.trail().await
        );
        // Collected again, it renews by a payment.
        company.world.stripe.pause_collection(&company.stripe, None).expect("resumed");
        company.deliver().await;
        live_through(&mut company, 30).await;
        assert_eq!(
            forecast(&company).await,
            json!({"status": "ACTIVE", "term": "2026-06-30", "pending": false}),
            "{behavior}"
        );
        assert_eq!(company.trail().await.last().map(String::as_str), Some("STRIPE_INVOICE_PAID"));
        assert_eq!(company.flags().await, ["collection_paused"]);
    }
}

/// Neither is whose invoice was open already when collection was paused.
#[tokio::test]
async fn who_is_not_charged_any_more_is_not_asked_for_an_open_invoice() {
    let mut company = Company::new().await;
    company.world.stripe.set_card(&company.customer, Card::Debit { days: 90, succeeds: true });
    live_through(&mut company, 31).await;
    company.world.stripe.pause_collection(&company.stripe, Some("void")).expect("paused");
    company.deliver().await;
    // Longer than a payment may be under way, and not until the next invoice, which is void.
    live_through(&mut company, 26).await;
    let invoice =
        company.world.stripe.object(&company.stripe).expect("it")["latest_invoice"].clone();
    let invoice = company.world.stripe.object(&text(&invoice)).expect("an invoice");
    assert_eq!(invoice["status"], "open");
    assert_eq!(company.status().await, "ACTIVE");
    assert_eq!(mails(&company).await, [] as [&str; 0]);
}

/// A year of one who pays by bank debit: it takes up to 13 days, and nothing is missing meanwhile.
#[tokio::test]
async fn a_year_by_bank_debit_has_no_word_of_a_missing_payment() {
    let mut company = Company::new().await;
    for month in 0_u16..12 {
        let debit = Card::Debit { days: 2 + month, succeeds: true };
        company.world.stripe.set_card(&company.customer, debit);
        live_through(&mut company, 31).await;
        assert_eq!(company.status().await, "ACTIVE", "month {month}");
    }
    assert_eq!(mails(&company).await, [] as [&str; 0]);
    assert_eq!(company.flags().await, [] as [&str; 0]);
    let trail = company.trail().await;
    let paid = trail.iter().filter(|name| *name == "STRIPE_INVOICE_PAID").count();
    assert_eq!(paid, 11, "the twelfth is under way: {trail:?}");
    assert!(!trail.contains(&"STRIPE_PAYMENT_FAILED".to_owned()), "{trail:?}");
}

/// The one who pays by the year gets the notices of a year, and not one more.
#[tokio::test]
async fn a_yearly_bank_debit_gets_the_notices_of_a_year_alone() {
    let mut company = Company::with(CheckoutParams::subscription("price_pro_year")).await;
    company.world.stripe.set_card(&company.customer, Card::Debit { days: 12, succeeds: true });
    live_through(&mut company, 365 + 20).await;
    let year = ["renewal_90", "renewal_60", "renewal_30", "renewal_14", "renewal_7", "renewal_1"];
    assert_eq!(mails(&company).await.join(" ").to_lowercase(), year.join(" "));
    assert_eq!(company.status().await, "ACTIVE");
}

/// A debit that fails after 13 days: access until then, grace of three days at least, and once.
#[tokio::test]
async fn a_bank_debit_that_fails_late_leaves_days_of_grace_and_only_once() {
    let mut company = Company::new().await;
    company.world.stripe.set_dunning(Dunning { retry_days: vec![60], then: GivenUp::PastDue });
    company.world.stripe.set_card(&company.customer, Card::Debit { days: 13, succeeds: false });
    live_through(&mut company, 28 + 12).await;
    assert_eq!(
        forecast(&company).await,
        json!({"status": "ACTIVE", "term": "2026-02-28", "pending": true}),
        "the term is what was paid"
    );
    live_through(&mut company, 2).await;
    let row = company.row("status, grace_end::text AS grace").await;
    assert_eq!(row, json!({"status": "GRACE", "grace": "2026-03-16 10:00:00+00"}), "3 days");
    live_through(&mut company, 20).await;
    assert_eq!(company.status().await, "SUSPENDED");
    assert_eq!(mails(&company).await.join(" ").to_lowercase(), "suspended");
    // The money comes after all.
    company.world.stripe.set_card(&company.customer, Card::Works);
    company.world.stripe.pay_open_invoices(&company.stripe).expect("paid");
    company.deliver().await;
    assert_eq!(company.status().await, "ACTIVE");
}

/// Stripe says active for ever, and no outcome comes: access ends, once and for good, and it does
/// not begin anew.
#[tokio::test]
async fn a_payment_whose_outcome_never_comes_is_waited_for_only_so_long() {
    let mut company = Company::new().await;
    company.world.stripe.set_card(&company.customer, Card::Debit { days: 400, succeeds: true });
    live_through(&mut company, 28 + 23).await;
    assert_eq!(company.status().await, "ACTIVE");
    live_through(&mut company, 2).await;
    let row = company.row("status, grace_end::text AS grace").await;
    assert_eq!(row, json!({"status": "GRACE", "grace": "2026-03-27 10:00:00+00"}));
    for _ in 0..4 {
        live_through(&mut company, 4).await;
    }
    assert_eq!(company.status().await, "SUSPENDED");
    let sql = "SELECT event_type FROM subscription_audit WHERE tenant_id = 'acme'
               AND event_type LIKE 'STATUS%' ORDER BY id";
    let rows = company.world.rows(sql).await;
    let changes: Vec<String> = rows.iter().map(|row| text(&row["event_type"])).collect();
    assert_eq!(changes, ["STATUS_GRACE", "STATUS_SUSPENDED"]);
    assert_eq!(mails(&company).await.join(" ").to_lowercase(), "grace suspended");
    let next = company.world.clock.now() + SignedDuration::from_hours(1);
    assert!(
        company.row("term_end").await["term_end"].as_str().expect("an end")
            < next.to_string().as_str()
    );
}
