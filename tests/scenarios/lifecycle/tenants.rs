//! What Stripe says of a customer, and of subscriptions of one customer after each other.

use serde_json::json;
use simulators::stripe::CheckoutParams;
use tests::api::Who;
use tests::company::Company;
use tests::{payer, text};

#[tokio::test]
async fn a_customers_event_fills_only_what_is_empty_and_its_deletion_is_flagged() {
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
    company.deliver().await;
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
    company.deliver().await;
    assert_eq!(company.world.row(profile).await, filled);
    company.world.stripe.delete_customer(&company.customer).expect("deleted");
    company.deliver().await;
    assert_eq!(
        (company.status().await, company.flags().await),
        ("EXPIRED".to_owned(), vec!["customer_deleted".to_owned()])
    );
}

#[tokio::test]
async fn a_main_that_is_bought_again_adopts_the_devices_of_the_dead_one_with_their_slots() {
    let mut company = Company::new().await;
    let old = company.id.clone();
    for (number, tier) in [(1, Some(2)), (2, Some(2)), (3, Some(3)), (4, None)] {
        company.device(&format!("DEV-{number}"), &old, tier).await;
    }
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.deliver().await;
    assert_eq!(company.status().await, "EXPIRED");
    let again = CheckoutParams {
        customer: Some(company.customer.clone()),
        ..CheckoutParams::subscription("price_starter_month")
    };
    let session = company.world.stripe.create_checkout(again.clone()).expect("a checkout");
    let paid = company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    company.stripe = text(&paid["subscription"]);
    company.deliver().await;
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

    // A second one next to it takes nothing; nor does a third, as long as the second lives, from
    // the first that has died.
    for dies in [false, true] {
        if dies {
            company.world.stripe.cancel(&company.stripe).expect("cancelled");
        }
        let session = company.world.stripe.create_checkout(again.clone()).expect("a checkout");
        company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        company.deliver().await;
        assert_eq!(
            company.world.count(&format!("devices WHERE subscription_id = '{new}'")).await,
            4,
            "{dies}"
        );
    }
    assert_eq!(company.status().await, "EXPIRED");
}

/// A tenant that was deleted stays so: a payment for it is flagged.
#[tokio::test]
async fn a_snapshot_that_would_revive_a_deleted_tenants_subscription_is_failed_and_flagged() {
    let mut company = Company::new().await;
    company.world.stripe.pause(&company.stripe).expect("paused");
    company.deliver().await;
    company
        .world
        .api()
        .await
        .send(Who::Admin, "DELETE", "/api/v1/operator/tenants/acme", &[], None)
        .await
        .expect(200);
    company.world.stripe.resume(&company.stripe).expect("resumed");
    company.deliver().await;
    assert_eq!(company.status().await, "SUSPENDED");
    assert!(
        company.flags().await.iter().all(|kind| kind == "tenant_deleted")
            && !company.flags().await.is_empty()
    );
}
