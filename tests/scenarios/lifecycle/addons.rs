//! ADDONs follow their MAIN.

use serde_json::json;
use simulators::stripe::CheckoutParams;
use tests::api::Who;
use tests::company::{Company, START};
use tests::{payer, text};

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
    company.deliver().await;
    assert_eq!(company.world.row(&of_addon).await["status"], "EXPIRED");
    let trail = company
        .world
        .rows(&format!(
            "SELECT event_type, details - 'invoice_id' AS details FROM subscription_audit
                        WHERE subscription_id = '{addon}' AND event_type LIKE 'STRIPE%'
                        ORDER BY id"
        ))
        .await;
    let with = |status: &str| {
        json!({"with_parent": company.id, "stripe_sub_id": company.stripe, "status": status,
            "plan_id": "pro"})
    };
    assert_eq!(
        trail,
        [
            json!({"event_type": "STRIPE_INVOICE_PAID", "details": with("active")}),
            json!({"event_type": "STRIPE_SUBSCRIPTION_DELETED", "details": with("canceled")})
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
    company.deliver().await;
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
        company.world.stripe.emit("customer.subscription.updated", &stripe).expect("an event");
        company.deliver().await;
        assert_eq!(
            (company.slots().await, company.row("device_limit").await),
            (json!({"2": slots}), json!({"device_limit": slots}))
        );
    }
    company.world.stripe.cancel(&main).expect("cancelled");
    company.deliver().await;
    assert_eq!(
        (company.status().await, company.flags().await),
        ("ACTIVE".to_owned(), vec!["addon_still_charged".to_owned()])
    );
    assert_eq!(api.get(Who::Operator, &path).await.expect(200)["effective_status"], "EXPIRED");
}

/// What is not collected is not paid: where Stripe then pauses the MAIN, its term falls back to the
/// one that was paid, and the ADDON that began since goes with it, and on with it again.
#[tokio::test]
async fn an_addon_falls_back_with_its_mains_term_though_it_began_after_that() {
    let mut company = Company::new().await;
    let stripe = company.stripe.clone();
    company.world.stripe.pause_collection(&stripe, Some("keep_as_draft")).expect("not collected");
    company.pass(30).await;
    let api = company.world.api().await;
    let new = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 5,
        "parent_subscription_id": company.id, "term_start": company.world.clock.now()});
    let addon = text(&api.create_subscription(new).await["subscription_id"]);
    let sql = format!("SELECT term_end FROM subscriptions WHERE subscription_id = '{addon}'");
    let ends = async |company: &Company| {
        [
            company.row("term_end").await["term_end"].clone(),
            company.world.row(&sql).await["term_end"].clone(),
        ]
    };
    assert_eq!(ends(&company).await, ["2026-03-31T10:00:00+00:00"; 2]);
    company.world.stripe.pause(&stripe).expect("paused");
    company.deliver().await;
    assert_eq!(ends(&company).await, ["2026-02-28T10:00:00+00:00"; 2]);
    company.world.stripe.pause_collection(&stripe, None).expect("collected");
    company.world.stripe.resume(&stripe).expect("resumed");
    company.deliver().await;
    assert_eq!(ends(&company).await, ["2026-04-02T10:00:00+00:00"; 2]);
}
