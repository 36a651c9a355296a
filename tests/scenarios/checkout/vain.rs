//! Money that buys nothing raises a flag, whichever way it came: somebody has paid and has nothing,
//! so an operator must look.

use serde_json::{Value, json};
use simulators::stripe::{Card, CheckoutParams, Dunning, GivenUp};
use tests::company::Company;
use tests::{World, payer, text};

async fn flags(world: &World) -> Vec<String> {
    let rows = world.rows("SELECT kind FROM flags ORDER BY flag_id").await;
    rows.iter().map(|row| text(&row["kind"])).collect()
}

/// A bank debit settles after its subscription was cancelled. No one is welcomed, until the company
/// buys something that runs.
#[tokio::test]
async fn a_debit_that_settles_after_the_cancellation_is_flagged_and_welcomes_nobody() {
    let world = World::new().await;
    let metadata = [("company_name", "Late Debit"), ("admin_email", "a@late.example")];
    let session = world.checkout("price_pro_month", &metadata);
    let open = world.stripe.pay_async(&session, payer("a@late.example")).expect("completed");
    world.stripe.cancel(&text(&open["subscription"])).expect("cancelled");
    world.stripe.settle(&session).expect("paid");
    let mut seen = 0;
    let news = tests::new_events(&world.stripe, &mut seen);
    world.receive(&news.iter().collect::<Vec<_>>()).await;
    let made = world
        .row(
            "SELECT s.status FROM subscriptions s JOIN tenants USING (tenant_id)
                          WHERE name = 'Late Debit'",
        )
        .await;
    assert_eq!(made, json!({"status": "EXPIRED"}));
    assert_eq!(flags(&world).await, ["paid_without_access"]);
    let steps = "outbox_steps WHERE kind <> 'keycloak_organization'";
    assert_eq!(world.count(steps).await, 0, "no login, no welcome");

    let again = CheckoutParams {
        customer: Some(text(&open["customer"])),
        metadata: [("admin_email".to_owned(), "a@late.example".to_owned())].into(),
        ..CheckoutParams::subscription("price_pro_month")
    };
    let session = world.stripe.create_checkout(again).expect("a checkout");
    world.stripe.pay(&session, payer("a@late.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    assert_eq!(flags(&world).await, ["paid_without_access"]);
    assert_eq!(world.count("outbox_steps WHERE kind = 'keycloak_user'").await, 1);
    let session = world.checkout("price_starter_month", &[("tenant_id", "late-debit")]);
    world.stripe.pay(&session, payer("a@late.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    assert_eq!(world.count("outbox_steps WHERE kind = 'keycloak_user'").await, 1, "only once");
}

/// An old invoice is paid after its subscription has ended.
#[tokio::test]
async fn an_invoice_that_is_paid_after_the_end_is_flagged() {
    let mut company = Company::new().await;
    company.world.stripe.set_dunning(Dunning { retry_days: vec![3], then: GivenUp::Canceled });
    company.world.stripe.set_card(&company.customer, Card::Declines);
    company.pass(28).await;
    company.pass(4).await;
    assert_eq!(company.status().await, "EXPIRED");
    assert_eq!(company.flags().await, [] as [&str; 0]);
    company.world.stripe.set_card(&company.customer, Card::Works);
    company.world.stripe.pay_open_invoices(&company.stripe).expect("paid");
    company.deliver().await;
    assert_eq!(
        (company.status().await.as_str(), company.flags().await),
        ("EXPIRED", vec!["paid_without_access".to_owned()])
    );
    assert_eq!(company.trail().await.last().map(String::as_str), Some("STRIPE_INVOICE_PAID"));
}

/// A MAIN is bought while Stripe still tries to charge for an older one.
#[tokio::test]
async fn a_purchase_while_stripe_charges_for_another_is_flagged_unless_both_are_wanted() {
    let mut company = Company::new().await;
    company.world.stripe.set_dunning(Dunning { retry_days: vec![3], then: GivenUp::Unpaid });
    company.world.stripe.set_card(&company.customer, Card::Declines);
    company.pass(28).await;
    company.pass(4).await;
    assert_eq!(company.status().await, "SUSPENDED");
    company.world.stripe.set_card(&company.customer, Card::Works);
    for (additional, flags) in [(true, vec![]), (false, vec!["paid_twice".to_owned()])] {
        let metadata = if additional { vec![("additional", "true")] } else { vec![] };
        let metadata =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let session = company.world.stripe.create_checkout(CheckoutParams {
            customer: Some(company.customer.clone()),
            metadata,
            ..CheckoutParams::subscription("price_starter_month")
        });
        let session = session.expect("a checkout");
        company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        company.deliver().await;
        // A day later it is no twin of the first.
        company.pass(2).await;
        assert_eq!(company.flags().await, flags, "additional: {additional}");
    }
    let detail = company.world.row("SELECT detail FROM flags").await["detail"].clone();
    assert!(text(&detail).contains("goes on at Stripe"), "{detail}");
}

/// A renewal that is paid for an ADDON of its own, while its MAIN is suspended.
#[tokio::test]
async fn an_addon_that_is_paid_under_a_suspended_main_is_flagged() {
    let mut company = Company::new().await;
    let parent = company.id.clone();
    let metadata = [("tenant_id", "acme"), ("parent_subscription_id", parent.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let own = CheckoutParams {
        customer: Some(company.customer.clone()),
        metadata,
        ..CheckoutParams::subscription("price_starter_month")
    };
    let session = company.world.stripe.create_checkout(own).expect("a checkout");
    company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    company.deliver().await;
    assert_eq!(company.flags().await, [] as [&str; 0]);
    company.world.stripe.pause(&company.stripe.clone()).expect("paused");
    company.deliver().await;
    company.pass(28).await;
    let flags: Vec<Value> =
        company.world.rows("SELECT kind, detail FROM flags ORDER BY flag_id").await;
    assert_eq!(
        flags.iter().map(|flag| text(&flag["kind"])).collect::<Vec<_>>(),
        ["paid_without_access"],
        "{flags:?}"
    );
}
