//! Payments of slots that do not fit what is here any more, and ADDONs that Stripe charges for by
//! themselves.

use serde_json::{Value, json};
use simulators::stripe::CheckoutParams;
use tests::api::Who;
use tests::shop::Shop;
use tests::{World, payer, text};

async fn set(shop: &Shop, id: &str, sql: &str) {
    let set = format!("UPDATE subscriptions SET {sql} WHERE subscription_id = '{id}'");
    assert_eq!(shop.world.db.execute(&set, &[]).await.expect("set"), 1);
}

async fn addons(world: &World) -> Vec<Value> {
    world
        .rows(
            "SELECT * FROM subscriptions WHERE subscription_type = 'ADDON'
                ORDER BY subscription_id",
        )
        .await
}

/// Failed with this code, flagged once, and nothing made of it; the order is as it was.
async fn is_failed(shop: &Shop, event: &Value, code: &str) {
    let before = addons(&shop.world).await.len();
    assert!(shop.world.apply(event).await);
    assert_eq!(shop.world.recorded(event).await.0, "failed", "{code}");
    let flags = shop
        .world
        .rows(&format!("SELECT kind FROM flags WHERE stripe_event_id = '{}'", text(&event["id"])))
        .await;
    assert_eq!(flags, [json!({"kind": code})]);
    assert_eq!(addons(&shop.world).await.len(), before, "{code}");
}

/// Trap 42: money was taken, so it never vanishes; and where the parent comes back, a replay gives
/// what was paid for.
#[tokio::test]
async fn slots_paid_for_a_parent_that_is_over_are_flagged_and_a_replay_makes_them_when_it_is_back()
{
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let event = shop.pay(&shop.open(&parent, &[(2, 4)]).await);
    set(&shop, &parent, "status = 'EXPIRED'").await;
    is_failed(&shop, &event, "parent_not_live").await;
    let reason = shop.world.recorded(&event).await.1;
    assert!(reason.contains(&format!("its parent {parent} is over: refund it")), "{reason}");
    assert_eq!(shop.world.row("SELECT status FROM addon_orders").await["status"], "open");
    set(&shop, &parent, "status = 'ACTIVE'").await;
    assert!(shop.world.apply(&event).await);
    assert_eq!(
        (shop.world.recorded(&event).await.0.as_str(), addons(&shop.world).await.len()),
        ("applied", 1)
    );
}

/// Who pays for slots just before their MAIN is suspended has them, and may use them once that is
/// paid again.
#[tokio::test]
async fn slots_paid_for_a_suspended_parent_wait_with_it() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let event = shop.pay(&shop.open(&parent, &[(2, 4)]).await);
    set(&shop, &parent, "status = 'SUSPENDED'").await;
    shop.world.receive(&[&event]).await;
    assert_eq!(addons(&shop.world).await[0]["status"], "ACTIVE");
    let family =
        shop.api.get(Who::Customer("acme"), "/api/v1/customer/billing/status").await.expect(200);
    let addon = family["subscriptions"]
        .as_array()
        .expect("subscriptions")
        .iter()
        .find(|own| own["subscription_type"] == "ADDON")
        .expect("it")
        .clone();
    assert_eq!(addon["effective_status"], "SUSPENDED");
}

/// The clock's edge: by the time of the event the parent has renewed, or its renewal is not known
/// yet.
#[tokio::test]
async fn slots_paid_as_the_parent_renews_belong_to_its_new_term() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let (first, second) =
        (shop.open(&parent, &[(2, 4)]).await, shop.open(&parent, &[(2, 1)]).await);
    let event = shop.pay(&first);
    set(&shop, &parent, "term_start = term_end, term_end = term_end + interval '1 month'").await;
    shop.world.receive(&[&event]).await;
    let ends = |addon: &Value| addon["term_end"].clone();
    let term_end = async || {
        shop.world
            .row(&format!("SELECT term_end FROM subscriptions WHERE subscription_id = '{parent}'"))
            .await["term_end"]
            .clone()
    };
    assert_eq!(ends(&addons(&shop.world).await[0]), term_end().await);
    let event = shop.pay(&second);
    // Over by now, and still live: Stripe's event of the renewal is under way, and will move both.
    set(&shop, &parent, "term_start = now() - interval '1 month', term_end = now()").await;
    shop.world.receive(&[&event]).await;
    assert_eq!(ends(&addons(&shop.world).await[1]), term_end().await);
    let event = shop.pay(&{
        set(&shop, &parent, "term_end = now() + interval '1 month'").await;
        shop.open(&parent, &[(2, 1)]).await
    });
    // Its renewal waits for a bank: over before the order, and still live.
    set(&shop, &parent, "term_end = now() - interval '1 day'").await;
    shop.world.receive(&[&event]).await;
    assert_eq!(ends(&addons(&shop.world).await[2]), term_end().await);
}

#[tokio::test]
async fn a_payment_that_is_not_the_orders_is_flagged_and_makes_nothing() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let (theirs, _) = shop.paid_main("bolt", "month").await;
    let tenant_row =
        shop.world.row("SELECT stripe_customer_id FROM tenants WHERE tenant_id = 'bolt'").await;
    let bolts = text(&tenant_row["stripe_customer_id"]);
    let foreign =
        text(&shop.order("bolt", Shop::wanted(&theirs, &[(2, 1)])).await.expect(200)["session_id"]);
    let foreign =
        shop.world.stripe.object(&foreign).expect("a session")["metadata"]["addon_order_id"]
            .clone();
    for (code, edit) in [
        (
            "unknown_order",
            json!({"metadata": {"addon_order_id": format!("ord_{}", "0".repeat(32))}}),
        ),
        ("unknown_order", json!({"metadata": {"addon_order_id": "ord_1'; DROP TABLE"}})),
        ("unknown_order", json!({"metadata": {"addon_order_id": ""}})),
        ("customer_of_another_tenant", json!({"customer": bolts})),
        ("customer_of_another_tenant", json!({"metadata": {"tenant_id": "bolt"}})),
        ("parent_of_another_tenant", json!({"metadata": {"addon_order_id": foreign}})),
        ("order_amount_differs", json!({"amount_subtotal": 51})),
        ("order_amount_differs", json!({"currency": "eur"})),
    ] {
        let session = shop.open(&parent, &[(2, 4)]).await;
        let event = shop.pay(&session);
        shop.world.stripe.edit_session(&session, |session| {
            for (name, value) in edit.as_object().expect("an object") {
                match value.as_object() {
                    Some(inner) => {
                        inner.iter().for_each(|(key, value)| session[name][key] = value.clone());
                    }
                    None => session[name] = value.clone(),
                }
            }
        });
        is_failed(&shop, &event, code).await;
    }
    // Another checkout's metadata, copied.
    let (session, other) =
        (shop.open(&parent, &[(2, 4)]).await, shop.open(&parent, &[(2, 4)]).await);
    let copied = shop.world.stripe.object(&session).expect("a session")["metadata"].clone();
    let event = shop.pay(&other);
    shop.world.stripe.edit_session(&other, |session| session["metadata"] = copied);
    is_failed(&shop, &event, "order_of_another_checkout").await;
    // And its own, before the function that opened it could note which it is.
    let event = shop.pay(&session);
    shop.world
        .db
        .execute(
            "UPDATE addon_orders SET stripe_checkout_session_id = NULL
                           WHERE stripe_checkout_session_id = $1",
            &[&session],
        )
        .await
        .expect("lost");
    shop.world.receive(&[&event]).await;
    let [addon] = addons(&shop.world).await.try_into().expect("one");
    let noted = shop
        .world
        .row(&format!(
            "SELECT stripe_checkout_session_id FROM addon_orders WHERE subscription_id = '{}'",
            text(&addon["subscription_id"])
        ))
        .await;
    assert_eq!(noted["stripe_checkout_session_id"], json!(session));
    assert_eq!(
        shop.world
            .count(
                "tenants WHERE tenant_id NOT IN ('acme', 'bolt')
                    AND created_at > now() - interval '1 minute'
                    AND stripe_customer_id IS NOT NULL"
            )
            .await,
        0
    );
}

/// A checkout as the seeds make it: a Stripe subscription with the parent in its metadata.
async fn own(
    shop: &Shop,
    parent: &str,
    price: &str,
    quantity: u64,
    more: &[(&str, &str)],
) -> (String, Value) {
    let tenant_row =
        shop.world.row("SELECT stripe_customer_id FROM tenants WHERE tenant_id = 'acme'").await;
    let customer = text(&tenant_row["stripe_customer_id"]);
    let metadata = more
        .iter()
        .chain(&[("parent_subscription_id", parent)])
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let params = CheckoutParams {
        metadata,
        quantity,
        customer: Some(customer),
        ..CheckoutParams::subscription(price)
    };
    let session = shop.world.stripe.create_checkout(params).expect("a checkout");
    let paid = shop.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    (text(&paid["subscription"]), shop.world.event("checkout.session.completed"))
}

#[tokio::test]
async fn an_addon_with_a_stripe_subscription_of_its_own_brings_its_items_or_its_plan() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "year").await;
    let (own_id, event) = own(
        &shop,
        &parent,
        "price_standard_slot_month",
        6,
        &[("tenant_id", "acme"), ("plan_id", "pro")],
    )
    .await;
    shop.world.receive(&[&event, &event]).await;
    let [addon] = addons(&shop.world).await.try_into().expect("one");
    assert_eq!(
        (
            &addon["stripe_subscription_id"],
            &addon["parent_subscription_id"],
            &addon["device_limit"]
        ),
        (&json!(own_id), &json!(parent), &json!(6))
    );
    assert_eq!(
        (&addon["plan_id"], &addon["status"]),
        (&Value::Null, &json!("ACTIVE")),
        "its parent's plan counts once"
    );
    let slots = |id: &str| {
        format!(
            "SELECT tier_id, slot_limit FROM subscription_tier_allocations
             WHERE subscription_id = '{id}' ORDER BY 1"
        )
    };
    assert_eq!(
        shop.world.rows(&slots(&text(&addon["subscription_id"]))).await,
        [json!({"tier_id": 2, "slot_limit": 6})]
    );
    let bought = shop.world.stripe.object(&own_id).expect("a subscription");
    let period = bought["items"]["data"][0]["current_period_end"].clone();
    let ends = format!(
        "SELECT extract(epoch FROM term_end)::bigint AS ends FROM subscriptions
         WHERE subscription_id = '{}'",
        text(&addon["subscription_id"])
    );
    assert_eq!(shop.world.row(&ends).await["ends"], period, "its own period");

    // Without a word of the tenant, by its customer; from its plan; and never beyond its parent.
    shop.move_term(&parent, -10, 5).await;
    let (_, event) = own(&shop, &parent, "price_starter_month", 1, &[]).await;
    shop.world.receive(&[&event]).await;
    let addon = addons(&shop.world).await.pop().expect("another");
    assert_eq!(
        (&addon["plan_id"], &addon["device_limit"], &addon["tenant_id"]),
        (&json!("starter"), &json!(30), &json!("acme"))
    );
    let slots = shop.world.rows(&slots(&text(&addon["subscription_id"]))).await;
    assert_eq!(
        slots,
        [json!({"tier_id": 1, "slot_limit": 25}), json!({"tier_id": 2, "slot_limit": 5})]
    );
    let main = shop
        .world
        .row(&format!("SELECT term_end FROM subscriptions WHERE subscription_id = '{parent}'"))
        .await;
    assert_eq!(addon["term_end"], main["term_end"]);

    let (_, event) = own(&shop, &parent, "price_unmapped", 3, &[("tenant_id", "acme")]).await;
    shop.world.receive(&[&event]).await;
    let addon = addons(&shop.world).await.pop().expect("a third");
    assert_eq!(
        (&addon["plan_id"], &addon["device_limit"]),
        (&Value::Null, &json!(0)),
        "never the smallest plan"
    );
    assert_eq!(shop.world.row("SELECT kind FROM flags").await["kind"], "plan_unresolved");
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), [], "each is charged by its own");
}

#[tokio::test]
async fn an_addon_of_its_own_for_no_live_main_of_the_payer_is_flagged() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let (theirs, _) = shop.paid_main("bolt", "month").await;
    for (named, code) in [
        ("SUB-2020-0001", "unknown_parent"),
        ("nonsense", "unknown_parent"),
        (theirs.as_str(), "parent_of_another_tenant"),
    ] {
        let (_, event) = own(&shop, named, "price_standard_slot_month", 1, &[]).await;
        is_failed(&shop, &event, code).await;
    }
    set(&shop, &parent, "status = 'EXPIRED'").await;
    let (_, event) = own(&shop, &parent, "price_standard_slot_month", 1, &[]).await;
    is_failed(&shop, &event, "parent_not_live").await;
    // No tenant's customer, and no tenant named: an add-on makes no tenant.
    let before = shop.world.count("tenants").await;
    let session =
        shop.world.checkout("price_standard_slot_month", &[("parent_subscription_id", &parent)]);
    shop.world.stripe.pay(&session, payer("who@elsewhere.example")).expect("paid");
    is_failed(&shop, &shop.world.event("checkout.session.completed"), "unknown_tenant").await;
    assert_eq!(shop.world.count("tenants").await, before);
}
