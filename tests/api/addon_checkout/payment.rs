//! What a paid order of slots becomes, and what happens where it is never paid.

use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::api::Who;
use tests::shop::Shop;
use tests::{World, text};

use super::orders;

const ACME: Who<'static> = Who::Customer("acme");
const DEVICES: &str = "/api/v1/customer/devices";

async fn stands(shop: &Shop, session: &str) -> Value {
    shop.api.get(ACME, &format!("/api/v1/customer/billing/checkout/{session}")).await.expect(200)
}

async fn addons(world: &World) -> i64 {
    world.count("subscriptions WHERE subscription_type = 'ADDON'").await
}

/// From the price to the device: bought, paid, there, used.
#[tokio::test]
async fn paid_slots_are_an_addon_that_ends_with_its_parent_and_can_be_used_at_once() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    let session = shop.open(&parent, &[(3, 5), (1, 2)]).await;
    assert_eq!(
        stands(&shop, &session).await,
        json!({"status": "pending", "subscription_id": null})
    );
    let event = shop.pay(&session);
    // Whatever the checkout says next to its order.
    shop.world.stripe.edit_session(&session, |session| {
        session["metadata"]["additions"] = json!("[{\"tier_id\":3,\"additional_slots\":5000}]");
    });
    assert_eq!(stands(&shop, &session).await["status"], "pending", "paid, and not applied yet");
    shop.world.receive(&[&event]).await;
    assert_eq!(shop.world.recorded(&event).await, ("applied".to_owned(), String::new()));

    let addon =
        shop.world.row("SELECT * FROM subscriptions WHERE subscription_type = 'ADDON'").await;
    let main = shop
        .world
        .row(&format!("SELECT * FROM subscriptions WHERE subscription_id = '{parent}'"))
        .await;
    assert_eq!(
        (&addon["parent_subscription_id"], &addon["status"], &addon["device_limit"]),
        (&json!(parent), &json!("ACTIVE"), &json!(7))
    );
    assert_eq!(
        (&addon["term_end"], &addon["stripe_subscription_id"], &addon["plan_id"]),
        (&main["term_end"], &Value::Null, &Value::Null)
    );
    let id = text(&addon["subscription_id"]);
    assert_eq!(
        stands(&shop, &session).await,
        json!({"status": "provisioned", "subscription_id": id})
    );
    let [order] = orders(&shop.world).await.try_into().expect("one order");
    assert_eq!((&order["status"], &order["subscription_id"]), (&json!("paid"), &json!(id)));
    let slots = shop
        .world
        .rows(&format!(
            "SELECT tier_id, slot_limit, slots_used
                                  FROM subscription_tier_allocations WHERE subscription_id = '{id}'
                                  ORDER BY 1"
        ))
        .await;
    assert_eq!(
        slots,
        [
            json!({"tier_id": 1, "slot_limit": 2, "slots_used": 0}),
            json!({"tier_id": 3, "slot_limit": 5, "slots_used": 0})
        ]
    );
    let audit = format!(
        "SELECT event_type, subscription_id FROM subscription_audit WHERE stripe_event_id = '{}'
         ORDER BY id",
        text(&event["id"])
    );
    let audit: Vec<_> = shop
        .world
        .rows(&audit)
        .await
        .iter()
        .map(|row| (text(&row["event_type"]), text(&row["subscription_id"])))
        .collect();
    let expected = ["STRIPE_CHECKOUT_COMPLETED", "TIER_ALLOCATIONS_SYNCED", "ADDON_ORDER_PAID"]
        .map(|kind| (kind.to_owned(), id.clone()));
    assert_eq!(audit, expected);

    let status = shop.api.get(ACME, "/api/v1/customer/billing/status").await.expect(200);
    let shown: Vec<_> = status["subscriptions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| (text(&s["subscription_id"]), s["portal_plan_change"] == true))
        .collect();
    assert_eq!(
        shown,
        [(parent.clone(), false), (id.clone(), false)],
        "the portal offers no other plan next to slots"
    );
    let entitlements = shop.api.get(ACME, "/api/v1/customer/entitlements").await.expect(200);
    assert_eq!(entitlements["devices"]["limit"], 267, "{entitlements}");
    let check = json!({"resource": "tier:premium", "requested": 15});
    shop.api
        .send(ACME, "POST", "/api/v1/customer/entitlements/check", &[], Some(check))
        .await
        .expect(200);
    shop.api.send(ACME, "POST", DEVICES, &[], Some(json!({"device_id": "D"}))).await.expect(201);
    shop.api
        .send(ACME, "PUT", &format!("{DEVICES}/D/tier"), &[], Some(json!({"tier_id": 3})))
        .await
        .expect(200);
    assert_eq!(shop.world.outbox().await["done"], 1, "the quantities");
    let mut items = shop.items(&stripe);
    items.sort();
    assert_eq!(
        items,
        [("price_basic_slot_month".to_owned(), 2), ("price_premium_slot_month".to_owned(), 5)]
    );
}

/// Before anything is bought the portal offers other plans; and a family outside Stripe has no
/// portal.
#[tokio::test]
async fn the_portal_offers_other_plans_where_no_slots_are_renewed_with_the_plan() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let outside = shop.outside_main("acme", 30).await;
    let offered = async || {
        let status = shop.api.get(ACME, "/api/v1/customer/billing/status").await.expect(200);
        let of = |id: &str| {
            status["subscriptions"]
                .as_array()
                .and_then(|all| all.iter().find(|s| s["subscription_id"] == id))
                .expect("there")
                .clone()
        };
        (of(&parent)["portal_plan_change"] == true, of(&outside)["portal_plan_change"] == true)
    };
    assert_eq!(offered().await, (true, false));
    let addon = shop.buy(&parent, &[(2, 1)]).await;
    assert_eq!(offered().await, (false, false));
    shop.api
        .write("DELETE", &format!("/api/v1/operator/subscriptions/{addon}"), json!({}))
        .await
        .expect(200);
    assert_eq!(offered().await, (true, false));
}

#[tokio::test]
async fn a_tenant_that_stripe_does_not_know_becomes_a_customer_with_its_first_slots() {
    let shop = Shop::new().await;
    let parent = shop.outside_main("acme", 365).await;
    let addon = shop.buy(&parent, &[(2, 3)]).await;
    let linked = shop
        .world
        .row(
            "SELECT stripe_customer_id IS NOT NULL AS linked FROM tenants WHERE tenant_id = 'acme'",
        )
        .await;
    assert_eq!(linked["linked"], true);
    let term = shop
        .world
        .row(&format!(
            "SELECT count(DISTINCT term_end) AS ends FROM subscriptions
         WHERE subscription_id IN ('{parent}', '{addon}')"
        ))
        .await;
    assert_eq!(term["ends"], 1);
    assert_eq!(
        shop.world.count("outbox_steps WHERE kind = 'stripe_addon_quantity'").await,
        0,
        "Stripe renews nothing of it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_deliveries_at_once_one_makes_the_addon() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    let event = shop.pay(&shop.open(&parent, &[(2, 4)]).await);
    let mut tries = join_all((0..32).map(|_| shop.world.apply(&event))).await;
    while tries.iter().any(|applied| !applied) {
        tries =
            join_all(tries.iter().filter(|applied| !**applied).map(|_| shop.world.apply(&event)))
                .await;
    }
    assert_eq!((addons(&shop.world).await, shop.world.count("flags").await), (1, 0));
    assert_eq!(
        shop.world.count("subscription_audit WHERE event_type = 'ADDON_ORDER_PAID'").await,
        1
    );
    // The same fact under another event's id.
    let mut twin = event.clone();
    twin["id"] = json!("evt_twin");
    assert!(shop.world.apply(&twin).await);
    assert_eq!(
        shop.world.recorded(&twin).await,
        ("applied".to_owned(), "already provisioned".to_owned())
    );
    assert_eq!(addons(&shop.world).await, 1);
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), [("price_standard_slot_month".to_owned(), 4)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_checkouts_open_at_once_are_two_addons_and_one_sum() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "year").await;
    let (first, second) =
        (shop.open(&parent, &[(2, 4)]).await, shop.open(&parent, &[(2, 3), (3, 1)]).await);
    let events = [shop.pay(&first), shop.pay(&second)];
    let (one, two) = tokio::join!(shop.world.apply(&events[0]), shop.world.apply(&events[1]));
    assert!(one && two);
    assert_eq!(addons(&shop.world).await, 2);
    shop.world.outbox().await;
    let mut items = shop.items(&stripe);
    items.sort();
    assert_eq!(
        items,
        [("price_premium_slot_year".to_owned(), 1), ("price_standard_slot_year".to_owned(), 7)]
    );
    assert_eq!(
        shop.world.count("outbox_steps WHERE kind = 'stripe_addon_quantity'").await,
        1,
        "one step a family"
    );
}

#[tokio::test]
async fn while_stripe_is_away_an_order_waits_and_its_lost_session_is_found_again() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let sessions = async || {
        shop.world
            .stripe
            .requests()
            .iter()
            .filter(|(method, path)| method == "POST" && path.contains("checkout/sessions"))
            .count()
    };
    let body = Shop::wanted(&parent, &[(2, 2)]);
    shop.world.stripe.fail_next_on("/checkout/sessions", 3, 503);
    shop.order_as("k", body.clone()).await.problem(502, "upstream");
    let [waiting] = orders(&shop.world).await.try_into().expect("one order");
    assert_eq!(
        (&waiting["status"], &waiting["stripe_checkout_session_id"]),
        (&json!("open"), &Value::Null)
    );
    let other = shop.order_as("k", Shop::wanted(&parent, &[(2, 9)])).await;
    assert_eq!(
        other.faults(),
        ["idempotency-key was used for another request"],
        "nor is an order without a session another's"
    );
    // Another price from now on: what was ordered keeps the one that was shown.
    shop.api
        .write("PUT", "/api/v1/operator/device-tiers/2", json!({"addon_monthly_price_cents": 999}))
        .await
        .expect(200);
    shop.world.stripe.lose_answer_on("/checkout/sessions", 500);
    shop.world.stripe.fail_next_on("/checkout/sessions", 2, 503);
    let before = sessions().await;
    shop.order_as("k", body.clone()).await.problem(502, "upstream");
    let opened = shop.order_as("k", body.clone()).await.expect(200);
    assert_eq!(opened["amount_cents"], waiting["amount_cents"]);
    assert!(sessions().await > before);
    let session = shop.world.stripe.object(&text(&opened["session_id"])).expect("a session");
    assert_eq!(session["amount_total"], waiting["amount_cents"]);
    let made = reqwest::Client::new()
        .get(format!("{}v1/checkout/sessions?limit=100", shop.world.stripe.base_url()));
    let made: Value = made
        .bearer_auth(tests::stack("STRIPE_SECRET_KEY"))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let of_order = made["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|session| session["mode"] == "payment")
        .count();
    assert_eq!((of_order, orders(&shop.world).await.len()), (1, 1));

    // One that was repeated too late for Stripe to take is over, and says so.
    let send = async || {
        shop.api
            .send(
                ACME,
                "POST",
                tests::shop::ADDON_CHECKOUT,
                &[("idempotency-key", "late")],
                Some(body.clone()),
            )
            .await
    };
    shop.world.stripe.fail_next_on("/checkout/sessions", 3, 503);
    send().await.problem(502, "upstream");
    shop.world.stripe.set_now(shop.world.clock.now() + SignedDuration::from_mins(6));
    assert_eq!(
        send().await.problem(409, "order_expired"),
        "This order was not completed in time. Order again, with another Idempotency-Key."
    );
}

#[tokio::test]
async fn a_checkout_that_expired_closes_its_order_and_others_are_no_matter_of_ours() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let session = shop.open(&parent, &[(2, 2)]).await;
    shop.world.stripe.expire(&session).expect("expired");
    let event = shop.world.event("checkout.session.expired");
    shop.world.receive(&[&event]).await;
    assert_eq!(shop.world.recorded(&event).await.0, "applied");
    assert_eq!(orders(&shop.world).await[0]["status"], "expired");
    assert_eq!(stands(&shop, &session).await["status"], "failed");
    assert_eq!(
        shop.world.count("subscription_audit WHERE event_type = 'ADDON_ORDER_EXPIRED'").await,
        1
    );
    let plain = shop.world.checkout("price_pro_month", &[("plan_id", "pro")]);
    shop.world.stripe.expire(&plain).expect("expired");
    let event = shop.world.event("checkout.session.expired");
    shop.world.receive(&[&event]).await;
    assert_eq!(
        shop.world.recorded(&event).await,
        ("ignored".to_owned(), "the checkout expired".to_owned())
    );
    assert_eq!((addons(&shop.world).await, shop.world.count("flags").await), (0, 0));
}
