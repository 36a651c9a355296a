//! The order of slots: its price, its checkout session, and its refusals.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::Reply;
use tests::shop::Shop;
use tests::text;

use super::orders;

/// Half a cent up, of exact whole numbers.
fn rounded(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

/// Trap 38: first, middle and last day, at 1, 2 and 5: shown, ordered and charged are one amount.
#[tokio::test]
async fn what_was_shown_is_what_the_order_says_and_stripe_charges() {
    let shop = Shop::at_noon().await;
    let (monthly, _) = shop.paid_main("acme", "month").await;
    let (yearly, _) = shop.paid_main("acme", "year").await;
    let outside = shop.outside_main("acme", 365).await;
    for (parent, interval, price, length) in [
        (&monthly, "month", 300, 30),
        (&yearly, "year", 3_000, 365),
        (&outside, "year", 3_000, 365),
    ] {
        for (gone, slots) in [(0, 1), (0, 5), (length / 2, 2), (length - 1, 5)] {
            shop.move_term(parent, -gone, length - gone).await;
            let body = Shop::wanted(parent, &[(2, slots), (3, 1)]);
            let shown = shop.price("acme", body.clone()).await.expect(200);
            let (left, period) = (i64::from(length - gone), i64::from(length));
            let expected = [
                rounded(i64::from(slots) * price * left, period),
                rounded(3 * price * left, period),
            ];
            assert_eq!(
                (&shown["interval"], &shown["remaining_days"], &shown["period_days"]),
                (&json!(interval), &json!(left), &json!(period)),
                "{shown}"
            );
            assert_eq!(shown["amount_cents"], expected[0] + expected[1]);
            let calculation = format!("{slots} × {price} × {left} / {period} = {}", expected[0]);
            let line = json!({
                "tier_id": 2, "name": "standard", "display_name": "Standard",
                "additional_slots": slots, "slot_price_cents": price,
                "amount_cents": expected[0], "calculation": calculation,
            });
            assert_eq!(shown["lines"][0], line);
            assert_eq!(
                (&shown["url"], &shown["session_id"], &shown["currency"]),
                (&Value::Null, &Value::Null, &json!("usd"))
            );
            let opened = shop.order("acme", body).await.expect(200);
            let session =
                shop.world.stripe.object(&text(&opened["session_id"])).expect("a session");
            assert_eq!(
                (&opened["lines"], &opened["amount_cents"]),
                (&shown["lines"], &shown["amount_cents"])
            );
            assert_eq!(
                (&session["amount_subtotal"], &session["amount_total"]),
                (&shown["amount_cents"], &shown["amount_cents"])
            );
            let order = shop
                .world
                .row(
                    "SELECT amount_cents, lines, remaining_days, period_days
                                        FROM addon_orders ORDER BY created_at DESC LIMIT 1",
                )
                .await;
            assert_eq!(
                (&order["amount_cents"], &order["lines"]),
                (&shown["amount_cents"], &shown["lines"])
            );
        }
    }
    let (before, requests) =
        (shop.world.count("addon_orders").await, shop.world.stripe.requests().len());
    let bare = json!({"parent_subscription_id": yearly, "additions": [{"tier_id": 1,
    "additional_slots": 100}]});
    shop.price("acme", bare).await.expect(200);
    assert_eq!(
        (shop.world.count("addon_orders").await, shop.world.stripe.requests().len()),
        (before, requests),
        "a price leaves nothing, and reads nothing from outside"
    );
}

/// Trap 51: three annual prices; and the leap days of three years cost nothing.
#[tokio::test]
async fn three_years_outside_stripe_cost_three_annual_prices() {
    let shop = Shop::at_noon().await;
    let parent = shop.outside_main("acme", 3 * 365).await;
    // With 29 February 2028.
    shop.move_term(&parent, 0, 3 * 365 + 1).await;
    let shown = shop.price("acme", Shop::wanted(&parent, &[(2, 2)])).await.expect(200);
    assert_eq!(
        (&shown["amount_cents"], &shown["remaining_days"]),
        (&json!(3 * 2 * 3_000), &json!(3 * 365))
    );
}

#[tokio::test]
async fn the_session_takes_one_payment_by_card_and_closes_in_time() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "year").await;
    let session = shop.open(&parent, &[(2, 5), (1, 2)]).await;
    let session = shop.world.stripe.object(&session).expect("a session");
    let order = shop
        .world
        .row("SELECT *, floor(extract(epoch FROM expires_at))::bigint AS closes FROM addon_orders")
        .await;
    let linked =
        shop.world.row("SELECT stripe_customer_id FROM tenants WHERE tenant_id = 'acme'").await;
    assert_eq!(
        (&session["mode"], &session["customer"]),
        (&json!("payment"), &linked["stripe_customer_id"])
    );
    assert_eq!(
        (&session["payment_method_types"], &session["invoice_creation"]["enabled"]),
        (&json!(["card"]), &json!(true))
    );
    assert_eq!(
        session["metadata"],
        json!({"tenant_id": "acme", "parent_subscription_id": parent,
            "addon_order_id": order["order_id"]})
    );
    assert_eq!(
        (&session["expires_at"], &session["id"]),
        (&order["closes"], &order["stripe_checkout_session_id"])
    );
    let open_for = session["expires_at"].as_i64().expect("a time")
        - session["created"].as_i64().expect("a time");
    assert!((30 * 60..=36 * 60).contains(&open_for), "{open_for}");
    let audit = shop
        .world
        .row(
            "SELECT actor_type, tenant_id, subscription_id, new_state->>'order_id' AS ordered
              FROM subscription_audit WHERE event_type = 'ADDON_ORDERED'",
        )
        .await;
    assert_eq!(
        audit,
        json!({"actor_type": "customer", "tenant_id": "acme", "subscription_id": parent,
            "ordered": order["order_id"]})
    );
}

#[tokio::test]
async fn an_order_is_refused_in_words_that_say_what_to_do_and_leaves_nothing() {
    let shop = Shop::at_noon().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let theirs = shop.outside_main("bolt", 100).await;
    let refused = async |body: Value| {
        let (shown, ordered) =
            (shop.price("acme", body.clone()).await, shop.order("acme", body).await);
        assert_eq!(
            (shown.status, &shown.body["code"], &shown.body["errors"]),
            (ordered.status, &ordered.body["code"], &ordered.body["errors"])
        );
        ordered
    };
    let field = |reply: &Reply| {
        format!(
            "{} {}",
            text(&reply.body["errors"][0]["field"]),
            text(&reply.body["errors"][0]["message"])
        )
    };
    // Another tenant's is as none, to the word.
    let unknown = refused(Shop::wanted("SUB-2020-0001", &[(2, 1)])).await;
    let foreign = refused(Shop::wanted(&theirs, &[(2, 1)])).await;
    assert_eq!(
        foreign.problem(404, "subscription_not_found"),
        unknown.problem(404, "subscription_not_found")
    );
    let trial = json!({"tenant_id": "acme", "subscription_type": "TRIAL", "device_limit": 1});
    let trial = text(&shop.api.create_subscription(trial).await["subscription_id"]);
    let addon = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 1,
    "parent_subscription_id": parent});
    let addon = text(&shop.api.create_subscription(addon).await["subscription_id"]);
    for id in [trial, addon] {
        assert_eq!(
            refused(Shop::wanted(&id, &[(2, 1)])).await.problem(400, "parent_not_main"),
            "Parent must be MAIN subscription"
        );
    }
    assert_eq!(
        refused(Shop::wanted(&parent, &[(2, 1), (1, 1), (2, 2)])).await.faults(),
        ["additions[2].tier_id is listed twice"]
    );
    assert_eq!(refused(Shop::wanted(&parent, &[])).await.faults(), ["additions must not be empty"]);
    for slots in [0, -1, 100_001] {
        assert_eq!(
            refused(Shop::wanted(&parent, &[(2, slots)])).await.faults(),
            ["additions[0].additional_slots must be from 1 to 100000"]
        );
    }
    assert_eq!(
        refused(Shop::wanted(&parent, &[(99, 1)])).await.problem(404, "tier_not_found"),
        "Device tier not found or inactive"
    );
    let tier = async |change: Value| {
        shop.api.write("PUT", "/api/v1/operator/device-tiers/3", change).await.expect(200)
    };
    tier(json!({"is_active": false})).await;
    refused(Shop::wanted(&parent, &[(3, 1)])).await.problem(404, "tier_not_found");
    tier(json!({"is_active": true, "addon_stripe_price_id": null})).await;
    let unsold = refused(Shop::wanted(&parent, &[(2, 1), (3, 1)])).await;
    unsold.problem(422, "tier_not_sold");
    assert_eq!(
        field(&unsold),
        format!(
            "additions[1].tier_id is not sold by the month in USD, as {parent} is paid: \
             contact sales"
        )
    );
    tier(json!({"addon_stripe_price_id": "price_premium_slot_month",
        "addon_monthly_price_cents": null}))
    .await;
    refused(Shop::wanted(&parent, &[(3, 1)])).await.problem(422, "tier_not_sold");
    tier(json!({"addon_monthly_price_cents": 49})).await;
    shop.move_term(&parent, 0, 30).await;
    let small = refused(Shop::wanted(&parent, &[(3, 1)])).await;
    small.problem(422, "amount_too_small");
    assert_eq!(
        field(&small),
        "additions come to 49 USD cents until the term ends; the least that can be paid is 50"
    );
    tier(json!({"addon_monthly_price_cents": 99_999_999_999_i64})).await;
    let large = refused(Shop::wanted(&parent, &[(3, 100_000)])).await;
    large.problem(422, "amount_too_large");
    assert_eq!(
        field(&large),
        "additions come to more than can be paid at once: order less, or contact sales"
    );
    tier(json!({"addon_monthly_price_cents": 50})).await;
    assert_eq!(
        shop.price("acme", Shop::wanted(&parent, &[(3, 1)])).await.expect(200)["amount_cents"],
        50,
        "the least"
    );

    let set = async |sql: &str| {
        let set = format!("UPDATE subscriptions SET {sql} WHERE subscription_id = '{parent}'");
        assert_eq!(shop.world.db.execute(&set, &[]).await.expect("set"), 1);
    };
    set("term_end = '2026-06-10T12:34Z'").await;
    let near = refused(Shop::wanted(&parent, &[(2, 1)])).await.problem(409, "renewal_near");
    assert!(near.starts_with(&format!("The term of {parent} ends at ")), "{near}");
    set("term_end = '2026-06-10T12:37Z'").await;
    shop.price("acme", Shop::wanted(&parent, &[(2, 10)])).await.expect(200);
    set("term_end = '2026-06-30T12:00Z', hold_reason = 'x', held_by = 'x', held_at = now()").await;
    refused(Shop::wanted(&parent, &[(2, 1)])).await.problem(409, "subscription_held");
    set("hold_reason = NULL, held_by = NULL, held_at = NULL, status = 'SUSPENDED'").await;
    assert_eq!(
        refused(Shop::wanted(&parent, &[(2, 1)])).await.problem(400, "parent_not_live"),
        "Parent subscription is SUSPENDED"
    );
    set("status = 'ACTIVE'").await;

    let body = |change: Value| {
        let mut body = Shop::wanted(&parent, &[(2, 1)]);
        change
            .as_object()
            .expect("an object")
            .iter()
            .for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let elsewhere = shop
        .order(
            "acme",
            body(json!({"success_url": "https://evil.example/", "cancel_url": "/slots"})),
        )
        .await
        .faults();
    let words = "must be a whole URL on one of the origins whose pages may call";
    assert_eq!(elsewhere, [format!("success_url {words}"), format!("cancel_url {words}")]);
    assert_eq!(
        (
            shop.world.count("addon_orders").await,
            shop.world.count("subscription_audit WHERE event_type = 'ADDON_ORDERED'").await
        ),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_is_one_order_and_one_session() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let body = Shop::wanted(&parent, &[(2, 2)]);
    let patiently = async || loop {
        let reply = shop.order_as("k", body.clone()).await;
        if reply.body["code"] != "request_in_progress" {
            return reply;
        }
    };
    let replies = join_all((0..6).map(|_| patiently())).await;
    let first = replies[0].clone().expect(200);
    for reply in replies {
        assert_eq!(reply.expect(200), first);
    }
    let [order] = orders(&shop.world).await.try_into().expect("one order");
    assert_eq!(order["stripe_checkout_session_id"], first["session_id"]);
    let other = shop.order_as("k", Shop::wanted(&parent, &[(2, 3)])).await;
    assert_eq!(other.faults(), ["idempotency-key was used for another request"]);
    shop.order("acme", body).await.expect(200);
    assert_eq!(shop.world.count("addon_orders").await, 2, "without a key each is its own");
}

/// A page that names no address gets its customer back all the same.
#[tokio::test]
async fn an_order_without_addresses_leads_back_to_the_product() {
    let shop = Shop::at_noon().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let mut body = Shop::wanted(&parent, &[(2, 1)]);
    for url in ["success_url", "cancel_url"] {
        body.as_object_mut().expect("an object").remove(url);
    }
    let session = text(&shop.order("acme", body).await.expect(200)["session_id"]);
    let session = shop.world.stripe.object(&session).expect("a session");
    for url in ["success_url", "cancel_url"] {
        assert_eq!(session[url], "https://app.pulse.example/", "{url}");
    }
}
