//! What a customer who comes back from Stripe's page is told.

use serde_json::{Value, json};
use tests::{payer, text};

use super::{ACME, checkout, stands, wanted, world};

/// Trap 93: who has paid does not wait for ever.
#[tokio::test]
async fn a_paid_checkout_whose_event_failed_is_failed_until_its_replay() {
    let (world, api) = world().await;
    let session = text(&checkout(&api, ACME, wanted()).await.expect(200)["session_id"]);
    world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    let event = world.event("checkout.session.completed");
    let status = async || stands(&api, ACME, &session).await.expect(200)["status"].clone();
    assert_eq!(status().await, "pending", "its event is under way");
    let link = async |customer: Value| {
        let sql = "UPDATE tenants SET stripe_customer_id = $1 WHERE tenant_id = 'bolt'";
        world.db.execute(sql, &[&customer.as_str()]).await.expect("linked");
    };
    link(json!("cus_bolt")).await;
    world.stripe.edit_session(&session, |session| session["customer"] = json!("cus_bolt"));
    world.receive(&[&event]).await;
    assert_eq!(world.recorded(&event).await.0, "failed");
    assert_eq!(status().await, "failed");
    link(Value::Null).await;
    assert!(world.apply(&event).await);
    assert_eq!(world.recorded(&event).await.0, "applied");
    assert_eq!(status().await, "provisioned");
}
