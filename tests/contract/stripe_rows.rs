//! What every audit row that Stripe caused says in its details (docs/events.md, "Audit").

use std::collections::BTreeMap;

use serde_json::{Value, json};
use simulators::stripe::Card;
use tests::api::Who;
use tests::company::Company;
use tests::shop::Shop;
use tests::{World, payer, text};

/// The rows of the actor `stripe`, the oldest first.
async fn rows(world: &World) -> Vec<Value> {
    let sql = "SELECT event_type, details FROM subscription_audit WHERE actor_id = 'stripe'
               ORDER BY id";
    world.rows(sql).await
}

/// Trap 120.
#[tokio::test]
async fn every_row_of_stripe_has_the_stripe_subscription_its_status_the_plan_and_the_invoice() {
    let mut company = Company::new().await;
    company.device("DEV-1", &company.id.clone(), Some(1)).await;
    for price in ["price_starter_month", "price_unmapped"] {
        company.world.stripe.change_plan(&company.stripe, price).expect("changed");
        company.deliver().await;
    }
    let api = company.world.api().await;
    let mapped = json!({"stripe_price_id": "price_unmapped"});
    api.write("PUT", "/api/v1/operator/plans/enterprise", mapped).await.expect(200);
    company.world.outbox().await;
    company.pass(29).await;
    company.world.stripe.set_card(&company.customer, Card::Declines);
    company.pass(31).await;
    let unpaid =
        company.world.stripe.object(&company.stripe).expect("it")["latest_invoice"].clone();
    company.world.stripe.set_card(&company.customer, Card::Works);
    company.world.stripe.pay_open_invoices(&company.stripe).expect("paid");
    company.deliver().await;
    // A change whose event never comes.
    company.world.stripe.change_plan(&company.stripe, "price_pro_month").expect("changed");
    drop(company.new_events());
    company.world.renewals.handle(json!({})).await.expect("a run");
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.deliver().await;
    let again = company.world.checkout("price_pro_month", &[("tenant_id", "acme")]);
    company.world.stripe.pay(&again, payer("jane@acme.example")).expect("paid");
    company.deliver().await;

    let mut found = BTreeMap::<String, Value>::new();
    for row in rows(&company.world).await {
        let (event, details) = (text(&row["event_type"]), &row["details"]);
        let id = details["stripe_sub_id"].as_str().unwrap_or_default();
        assert!(id.starts_with("sub_"), "{event}: {details}");
        assert!(details["status"].is_string(), "{event}: {details}");
        assert!(details.get("plan_id").is_some(), "{event}: {details}");
        found.insert(event, details.clone());
    }
    let events: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        events,
        [
            "DEVICE_REASSIGNED",
            "FLAG_RESOLVED",
            "PLAN_UNRESOLVED",
            "STRIPE_CHECKOUT_COMPLETED",
            "STRIPE_DRIFT_REPAIRED",
            "STRIPE_INVOICE_PAID",
            "STRIPE_PAYMENT_FAILED",
            "STRIPE_PLAN_CHANGED",
            "STRIPE_SUBSCRIPTION_DELETED",
            "STRIPE_SUBSCRIPTION_UPDATED",
            "TENANT_PROVISIONED",
            "TIER_ALLOCATIONS_SYNCED",
        ]
    );
    let said = |event: &str| {
        let of = |key: &str| found[event][key].clone();
        json!([of("stripe_sub_id"), of("status"), of("plan_id"), of("invoice_id")])
    };
    let first = &company.stripe;
    assert_eq!(said("STRIPE_PAYMENT_FAILED"), json!([first, "past_due", "enterprise", unpaid]));
    assert_eq!(said("STRIPE_INVOICE_PAID"), json!([first, "active", "enterprise", unpaid]));
    assert_eq!(said("STRIPE_SUBSCRIPTION_DELETED"), json!([first, "canceled", "pro", null]));
    assert_eq!(said("STRIPE_DRIFT_REPAIRED"), json!([first, "active", "pro", null]));
    assert_eq!(said("TENANT_PROVISIONED")[2], "pro");
    let session = company.world.stripe.object(&again).expect("it");
    assert_eq!(
        said("STRIPE_CHECKOUT_COMPLETED"),
        json!([session["subscription"], "active", "pro", session["invoice"]])
    );
    assert_eq!(
        company.row("description").await["description"],
        "Created via Stripe Checkout (pro)"
    );
}

/// A payment of slots and a refund have no Stripe subscription; what is known is there.
#[tokio::test]
async fn a_row_without_a_stripe_subscription_has_the_invoice_that_was_paid() {
    let shop = Shop::at_noon().await;
    let (main, _) = shop.paid_main("acme", "month").await;
    let session = shop.open(&main, &[(2, 3)]).await;
    let event = shop.pay(&session);
    shop.world.receive(&[&event]).await;
    let invoice = shop.world.stripe.object(&session).expect("it")["invoice"].clone();
    assert!(invoice.is_string(), "{invoice}");
    let sql = format!(
        "SELECT s.description, a.details FROM subscriptions s JOIN subscription_audit a
         USING (subscription_id) WHERE s.stripe_checkout_session_id = '{session}'
         AND a.event_type = 'ADDON_ORDER_PAID'"
    );
    let details = json!({"checkout_session_id": session, "invoice_id": invoice});
    assert_eq!(
        shop.world.row(&sql).await,
        json!({"description": "Created via Stripe Checkout", "details": details})
    );
    let audit = format!(
        "/api/v1/operator/audit?subscription_id={main}&event_type=STRIPE_CHECKOUT_COMPLETED"
    );
    let shown = shop.api.get(Who::Operator, &audit).await.expect(200);
    assert_eq!(shown["audit"][0]["details"]["status"], "active", "{shown}");
}
