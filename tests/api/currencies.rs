//! Plans and slots in several currencies: what counts is what the plan is paid in.

use serde_json::{Value, json};
use simulators::stripe::{Interval, Price};
use tests::api::{Reply, Who};
use tests::shop::Shop;
use tests::{World, payer, text};

const ACME: Who<'static> = Who::Customer("acme");
const BILLING: &str = "/api/v1/customer/billing";
const PLANS: &str = "/api/v1/operator/plans";
const TIERS: &str = "/api/v1/operator/device-tiers";

/// A listed price.
fn price(currency: &str, interval: &str, id: Option<&str>, cents: Option<i64>) -> Value {
    json!({"currency": currency, "interval": interval, "stripe_price_id": id, "cents": cents})
}

/// Adds a price in a further currency to those that a plan or tier has.
async fn add(shop: &Shop, path: &str, id: &str, interval: &str, cents: i64) {
    let mut prices = shop.api.get(Who::Operator, path).await.expect(200)["prices"].clone();
    let list = prices.as_array_mut().expect("prices");
    list.push(price("eur", interval, Some(id), Some(cents)));
    shop.api.write("PUT", path, json!({ "prices": prices })).await.expect(200);
}

/// Where pro and standard slots are sold in euros too, by the month, and premium ones are not.
async fn shop() -> Shop {
    let shop = Shop::at_noon().await;
    for (id, unit_amount) in
        [("price_pro_month_eur", 27_000), ("price_standard_slot_month_eur", 280)]
    {
        shop.world.stripe.add_price(Price {
            id: id.to_owned(),
            product: "prod_in_euros".to_owned(),
            currency: "eur".to_owned(),
            unit_amount,
            interval: Interval::Month,
            nickname: id.to_owned(),
        });
    }
    add(&shop, &format!("{PLANS}/pro"), "price_pro_month_eur", "month", 27_000).await;
    add(&shop, &format!("{TIERS}/2"), "price_standard_slot_month_eur", "month", 280).await;
    shop
}

fn plan(change: &Value) -> Value {
    let mut body = json!({"plan_id": "pro", "interval": "month",
        "success_url": "https://app.pulse.example/done",
        "cancel_url": "https://app.pulse.example/"});
    for (name, value) in change.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

async fn checkout(shop: &Shop, change: Value) -> Reply {
    let path = format!("{BILLING}/checkout");
    shop.api.send(ACME, "POST", &path, &[], Some(plan(&change))).await
}

/// Buys pro in euros by the API; ours and Stripe's id of it.
async fn main_in_euros(shop: &Shop) -> (String, String) {
    let opened = checkout(shop, json!({"currency": "eur"})).await.expect(200);
    let event = shop.pay(&text(&opened["session_id"]));
    shop.world.receive(&[&event]).await;
    let row = "SELECT subscription_id, stripe_subscription_id, stripe_currency FROM subscriptions
               WHERE tenant_id = 'acme' AND subscription_type = 'MAIN'";
    let main = shop.world.row(row).await;
    assert_eq!(main["stripe_currency"], "eur");
    (text(&main["subscription_id"]), text(&main["stripe_subscription_id"]))
}

/// Trap 100: from the button to the renewal, nothing of a company that pays in euros is in dollars.
#[tokio::test]
async fn slots_under_a_plan_in_euros_are_priced_charged_and_renewed_in_euros() {
    let shop = shop().await;
    let offers = shop.api.get(ACME, &format!("{BILLING}/config")).await.expect(200);
    let pro = offers["plans"].as_array().expect("plans").iter().find(|it| it["plan_id"] == "pro");
    let listed = |currency: &str, interval: &str, cents: i64| json!({"currency": currency, "interval": interval, "cents": cents});
    assert_eq!(
        pro.expect("pro")["prices"],
        json!([
            listed("usd", "month", 29_900),
            listed("usd", "year", 299_000),
            listed("eur", "month", 27_000)
        ])
    );
    let tiers = shop.api.get(ACME, "/api/v1/customer/device-tiers").await.expect(200);
    assert_eq!(tiers["tiers"][1]["prices"][2], listed("eur", "month", 280), "{tiers}");
    assert_eq!(tiers["tiers"][1]["currency"], "usd");

    let (main, stripe) = main_in_euros(&shop).await;
    let status = shop.api.get(ACME, &format!("{BILLING}/status")).await.expect(200);
    assert_eq!(status["subscriptions"][0]["currency"], "eur");
    let wanted = Shop::wanted(&main, &[(2, 5)]);
    let shown = shop.price("acme", wanted.clone()).await.expect(200);
    assert_eq!(
        (&shown["currency"], &shown["amount_cents"], &shown["lines"][0]["slot_price_cents"]),
        (&json!("eur"), &json!(5 * 280), &json!(280))
    );
    let ordered = shop.order("acme", wanted).await.expect(200);
    let id = text(&ordered["session_id"]);
    let session = shop.world.stripe.object(&id).expect("a session");
    assert_eq!(
        (&session["currency"], &session["amount_total"]),
        (&json!("eur"), &shown["amount_cents"])
    );
    let order = shop.world.row("SELECT currency, amount_cents FROM addon_orders").await;
    assert_eq!(order, json!({"currency": "eur", "amount_cents": 1_400}));
    let event = shop.pay(&id);
    let paid = shop.world.stripe.object(&id).expect("a session");
    let invoice = shop.world.stripe.object(&text(&paid["invoice"])).expect("an invoice");
    assert_eq!(
        (&invoice["currency"], &invoice["amount_paid"]),
        (&json!("eur"), &shown["amount_cents"])
    );
    shop.world.receive(&[&event]).await;
    let addon = "SELECT device_limit, status FROM subscriptions WHERE subscription_type = 'ADDON'";
    assert_eq!(shop.world.row(addon).await, json!({"device_limit": 5, "status": "ACTIVE"}));
    // Stripe renews them by the price in euros: it takes no other beside the plan.
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), [("price_standard_slot_month_eur".to_owned(), 5)]);
    assert_eq!(shop.world.count("flags").await, 0);
}

#[tokio::test]
async fn a_tier_without_a_price_in_the_plans_currency_is_not_sold_and_the_answer_names_it() {
    let shop = shop().await;
    let (main, _) = main_in_euros(&shop).await;
    let refused = shop.order("acme", Shop::wanted(&main, &[(2, 1), (3, 1)])).await;
    refused.problem(422, "tier_not_sold");
    assert_eq!(
        refused.body["errors"][0],
        json!({"field": "additions[1].tier_id",
            "message":
                format!("is not sold by the month in EUR, as {main} is paid: contact sales")})
    );
    assert!(refused.body["detail"].to_string().contains("EUR"), "{}", refused.body);
    assert_eq!(shop.world.count("addon_orders").await, 0);
    // With a Stripe price and nothing to show, it is not sold either; nor without one.
    let path = format!("{TIERS}/3");
    let prices = json!({"prices": [price("eur", "month", Some("price_premium_eur"), None)]});
    shop.api.write("PUT", &path, prices).await.expect(200);
    shop.order("acme", Shop::wanted(&main, &[(3, 1)])).await.problem(422, "tier_not_sold");
    // What is paid in dollars, or outside Stripe, has the price in dollars as before.
    let outside = shop.outside_main("acme", 365).await;
    shop.move_term(&outside, 0, 365).await;
    let shown = shop.price("acme", Shop::wanted(&outside, &[(2, 1)])).await.expect(200);
    assert_eq!((&shown["currency"], &shown["amount_cents"]), (&json!("usd"), &json!(3_000)));
    let refused = shop.price("acme", Shop::wanted(&outside, &[(3, 1)])).await;
    refused.problem(422, "tier_not_sold");
    assert!(refused.body["detail"].to_string().contains("in USD"), "{}", refused.body);
}

/// Trap 101: the operator need not have said it.
#[tokio::test]
async fn what_stripe_says_of_a_prices_currency_counts_more_than_what_it_was_taken_for() {
    let world = World::new().await;
    let api = world.api().await;
    let new = json!({"plan_id": "team", "name": "Team", "device_limit": 5,
        "stripe_price_id": "price_pro_month_eur", "monthly_price_cents": 9_900});
    let team = api.write("POST", PLANS, new).await.expect(201);
    let usd = price("usd", "month", Some("price_pro_month_eur"), Some(9_900));
    assert_eq!((&team["currency"], &team["prices"]), (&json!("usd"), &json!([usd])));
    let buy = async |company: &str| {
        let metadata = [("company_name", company), ("admin_email", "jane@acme.example")];
        let session = world.checkout("price_pro_month_eur", &metadata);
        world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        world.receive(&[&world.event("checkout.session.completed")]).await;
    };
    buy("Acme").await;
    let path = format!("{PLANS}/team");
    let read = api.get(Who::Operator, &path).await.expect(200);
    assert_eq!(
        read["prices"],
        json!([
            price("usd", "month", None, Some(9_900)),
            price("eur", "month", Some("price_pro_month_eur"), Some(9_900))
        ])
    );
    assert_eq!((&read["stripe_price_id"], &read["version"]), (&Value::Null, &json!(2)));
    let row = "SELECT plan_id, stripe_currency FROM subscriptions WHERE tenant_id = 'acme'";
    assert_eq!(world.row(row).await, json!({"plan_id": "team", "stripe_currency": "eur"}));
    let flag = world.row("SELECT kind, subject, detail FROM flags").await;
    assert_eq!(
        flag,
        json!({"kind": "price_currency", "subject": "price_pro_month_eur",
            "detail": "Stripe price price_pro_month_eur of plan 'team' is in EUR, and was taken \
                       for USD: look at its prices"})
    );
    let audit = "SELECT previous_state->>'currency' AS before, new_state->>'currency' AS after,
                 tenant_id FROM subscription_audit WHERE event_type = 'PRICE_CURRENCY_CORRECTED'";
    let corrected = json!({"before": "usd", "after": "eur", "tenant_id": null});
    assert_eq!(world.rows(audit).await, std::slice::from_ref(&corrected));
    // Once; and an operator cannot say otherwise any more.
    buy("Bolt").await;
    assert_eq!(world.rows(audit).await, [corrected]);
    for body in [
        json!({"stripe_price_id": "price_pro_month_eur"}),
        json!({"prices": [price("gbp", "month", Some("price_pro_month_eur"), None)]}),
    ] {
        let said = api.write("PUT", &path, body).await;
        assert!(said.problem(409, "price_currency").contains("is in EUR at Stripe"));
    }
    let kept = json!({"prices": [price("eur", "month", Some("price_pro_month_eur"), Some(9_500))]});
    let kept = api.write("PUT", &path, kept).await.expect(200);
    assert_eq!(kept["monthly_price_cents"], Value::Null);
    assert_eq!(world.count("flags").await, 1);
}

#[tokio::test]
async fn prices_are_listed_and_replaced_as_a_whole_and_every_refusal_says_why() {
    let world = World::new().await;
    let api = world.api().await;
    let path = format!("{PLANS}/pro");
    let before = api.get(Who::Operator, &path).await.expect(200);
    assert_eq!(
        before["prices"],
        json!([
            price("usd", "month", Some("price_pro_month"), Some(29_900)),
            price("usd", "year", Some("price_pro_year"), Some(299_000))
        ])
    );
    let put = async |body: Value| api.write("PUT", &path, body).await;
    let list = json!([
        price("eur", "year", Some("price_pro_year_eur"), Some(270_000)),
        price("chf", "month", Some("price_pro_month_chf"), None),
        price("usd", "month", Some("price_pro_month"), Some(31_000)),
    ]);
    let after = put(json!({ "prices": list.clone() })).await.expect(200);
    assert_eq!(after["prices"], json!([list[2], list[1], list[0]]), "the default currency first");
    assert_eq!(
        (&after["monthly_price_cents"], &after["stripe_price_id"]),
        (&json!(31_000), &json!("price_pro_month"))
    );
    assert_eq!(
        (&after["annual_price_cents"], &after["stripe_annual_price_id"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(put(json!({"prices": after["prices"]})).await.expect(200), after, "nothing new");
    // The fields of before are the default currency's, and leave the others.
    let single = put(json!({"monthly_price_cents": 32_000})).await.expect(200);
    assert_eq!(single["prices"][0]["cents"], 32_000);
    assert_eq!(single["prices"].as_array().map(Vec::len), Some(3));
    // Out of the list: no more sold, and still mapped.
    put(json!({"prices": [list[2]]})).await.expect(200);
    let rows = "SELECT stripe_price_id AS id, is_current, is_further FROM stripe_prices
                WHERE plan_id = 'pro' ORDER BY 1";
    let row = |id: &str, is_current: bool| json!({"id": id, "is_current": is_current, "is_further": false});
    assert_eq!(
        world.rows(rows).await,
        [
            row("price_pro_month", true),
            row("price_pro_month_chf", false),
            row("price_pro_year", false),
            row("price_pro_year_eur", false),
        ]
    );
    for (body, faults) in [
        (
            json!({"prices": [price("usd", "month", None, Some(1))], "monthly_price_cents": 1}),
            &["prices cannot stand beside the fields of single prices: it has those too"][..],
        ),
        (
            json!({"prices": [price("eur", "month", None, Some(1)),
                price("eur", "month", Some("price_x"), None)]}),
            &[
                "prices[0].stripe_price_id is required: outside Stripe everything is paid in usd",
                "prices[1] is the second in eur by the month",
            ],
        ),
        (
            json!({"prices": [price("eur", "month", Some("price_x"), None),
                price("zzz", "year", Some("price_x"), None)]}),
            &[
                "prices[1].currency is not a currency of Stripe's",
                "prices[1].stripe_price_id is listed twice",
            ],
        ),
        (
            json!({"prices": [price("EUR", "month", None, None)]}),
            &["prices[0].currency must match ^[a-z]{3}$"],
        ),
    ] {
        assert_eq!(put(body.clone()).await.faults(), faults, "{body}");
        let mut new = body;
        new["plan_id"] = json!("team");
        new["name"] = json!("Team");
        assert_eq!(api.write("POST", PLANS, new).await.faults(), faults);
    }
    let taken = json!({"prices": [price("eur", "month", Some("price_starter_month"), None)]});
    put(taken.clone()).await.problem(409, "price_taken");
    let mut moved = taken;
    moved["move_prices"] = json!(true);
    let moved = put(moved).await.expect(200);
    assert_eq!(moved["prices"][0]["stripe_price_id"], "price_starter_month");
    let starter = api.get(Who::Operator, &format!("{PLANS}/starter")).await.expect(200);
    assert_eq!((&starter["stripe_price_id"], &starter["version"]), (&Value::Null, &json!(2)));
}

#[tokio::test]
async fn a_checkout_of_a_plan_is_in_the_currency_that_is_named_or_that_the_company_pays_in() {
    let shop = shop().await;
    let currency = |opened: &Value| {
        let session = shop.world.stripe.object(&text(&opened["session_id"])).expect("a session");
        text(&session["currency"])
    };
    assert_eq!(currency(&checkout(&shop, json!({})).await.expect(200)), "usd", "the default");
    for (change, fault) in [
        (json!({"currency": "chf"}), "currency is not sold by the month in CHF: choose usd or eur"),
        (
            json!({"currency": "eur", "interval": "year"}),
            "currency is not sold by the year in EUR: choose usd",
        ),
    ] {
        assert_eq!(checkout(&shop, change).await.faults(), [fault]);
    }
    main_in_euros(&shop).await;
    let another = checkout(&shop, json!({"additional": true})).await.expect(200);
    assert_eq!(currency(&another), "eur", "as the company pays already");
    let fault = "currency is EUR, which the company pays in: the plan is not sold in it";
    let year = json!({"additional": true, "interval": "year"});
    assert_eq!(checkout(&shop, year).await.faults(), [fault]);
    // The only one in which it is sold.
    let new = json!({"plan_id": "team", "name": "Team",
        "prices": [price("eur", "month", Some("price_starter_month_eur"), Some(4_500))]});
    shop.api.write("POST", PLANS, new).await.expect(201);
    let body = plan(&json!({"plan_id": "team"}));
    let path = format!("{BILLING}/checkout");
    let bolt = Who::Customer("bolt");
    let opened = shop.api.send(bolt, "POST", &path, &[], Some(body)).await.expect(200);
    assert_eq!(currency(&opened), "eur");
}

/// Trap 102: a deployment sells in another currency than dollars.
#[tokio::test]
async fn a_deployment_says_what_is_meant_where_nothing_names_a_currency() {
    let shop = shop().await;
    let migrate = async |currency: &str| {
        let env = shop.world.env(&[("BILLING_CURRENCY", currency)]);
        migrate::invoked(&env, &json!({}), std::time::Duration::from_mins(2)).await
    };
    // Both are sold: which would the older fields mean?
    let refused = migrate("eur").await.expect_err("refused").to_string();
    assert!(refused.contains("cannot become eur: Stripe prices in usd are sold"), "{refused}");
    migrate("usd").await.expect("it is that");
    migrate("gbp").await.expect("nothing is sold in it");
    let read = shop.api.get(Who::Operator, &format!("{TIERS}/2")).await.expect(200);
    assert_eq!(
        (&read["currency"], &read["prices"][0]),
        (&json!("gbp"), &price("gbp", "month", Some("price_standard_slot_month"), Some(300)))
    );
    let outside = shop.outside_main("acme", 365).await;
    shop.move_term(&outside, 0, 365).await;
    let shown = shop.price("acme", Shop::wanted(&outside, &[(2, 1)])).await.expect(200);
    assert_eq!((&shown["currency"], &shown["amount_cents"]), (&json!("gbp"), &json!(3_000)));
    // Once Stripe has said that what is sold is in it, it stays.
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.receive(&[&event]).await;
    let env = world.env(&[("BILLING_CURRENCY", "eur")]);
    let again = migrate::invoked(&env, &json!({}), std::time::Duration::from_mins(2)).await;
    assert!(again.expect_err("refused").to_string().contains("Stripe prices in usd are sold"));
}
