//! The Stripe prices of plans.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::World;
use tests::api::Who;

use super::{PLANS, TIERS, team};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stripe_price_belongs_to_one_thing_and_a_replaced_one_stays_mapped() {
    let world = World::new().await;
    let api = world.api().await;
    team(&api).await;
    let put = async |body: Value| api.write("PUT", &format!("{PLANS}/team"), body).await;
    let mapped = "SELECT stripe_price_id, interval, is_current FROM stripe_prices
                  WHERE plan_id = 'team' ORDER BY stripe_price_id";
    put(json!({"stripe_price_id": "price_team_new", "stripe_annual_price_id": "price_team_year"}))
        .await
        .expect(200);
    assert_eq!(
        world.rows(mapped).await,
        [
            json!({"stripe_price_id": "price_team_month", "interval": "month",
                "is_current": false}),
            json!({"stripe_price_id": "price_team_new", "interval": "month", "is_current": true}),
            json!({"stripe_price_id": "price_team_year", "interval": "year", "is_current": true}),
        ]
    );
    // Another plan's, another interval's, a tier's slots': taken, and nothing of the request is
    // done.
    for body in [
        json!({"name": "X", "stripe_price_id": "price_pro_month"}),
        json!({"name": "X", "stripe_price_id": "price_team_year"}),
        json!({"name": "X", "stripe_annual_price_id": "price_basic_slot_month"}),
    ] {
        put(body).await.problem(409, "price_taken");
    }
    let tier = json!({"name": "gold", "display_name": "Gold",
        "addon_stripe_price_id": "price_team_month"});
    api.write("POST", TIERS, tier).await.problem(409, "price_taken");
    assert_eq!(api.get(Who::Operator, &format!("{PLANS}/team")).await.expect(200)["name"], "Team");
    // Back to the former one, then to none: both stay mapped.
    assert_eq!(
        put(json!({"stripe_price_id": "price_team_month"})).await.expect(200)["stripe_price_id"],
        "price_team_month"
    );
    assert_eq!(
        put(json!({"stripe_price_id": null})).await.expect(200)["stripe_price_id"],
        Value::Null
    );
    assert_eq!(world.rows(mapped).await.iter().filter(|row| row["is_current"] == true).count(), 1);
    assert_eq!(world.rows(mapped).await.len(), 3);
    // A customer on a former price of a retired plan still resolves.
    put(json!({"is_active": false})).await.expect(200);
    world.stripe.add_price(simulators::stripe::Price {
        id: "price_team_month".to_owned(),
        product: "prod_team".to_owned(),
        unit_amount: 9_900,
        interval: simulators::stripe::Interval::Month,
        nickname: "Team".to_owned(),
    });
    let session = world.checkout(
        "price_team_month",
        &[("company_name", "Late Payer"), ("admin_email", "late@payer.example")],
    );
    world.stripe.pay(&session, tests::payer("late@payer.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    assert_eq!(
        world
            .row("SELECT plan_id, device_limit FROM subscriptions WHERE tenant_id = 'late-payer'")
            .await,
        json!({"plan_id": "team", "device_limit": 50})
    );
}

/// Two plans that exchange their prices at once: no deadlock reaches a caller, and each price has
/// one owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_that_exchange_prices_at_once_wait_for_each_other() {
    let world = World::new().await;
    let api = world.api().await;
    for id in ["a", "b"] {
        api.write("POST", PLANS, json!({"plan_id": id, "name": id})).await.expect(201);
    }
    let replies = join_all((0..32).map(|n| {
        let (plan, other) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let body = json!({"stripe_price_id": format!("price_{plan}_{}", n % 4),
        "stripe_annual_price_id": format!("price_{other}_{}", n % 4)});
        let api = &api;
        async move { api.write("PUT", &format!("{PLANS}/{plan}"), body).await }
    }))
    .await;
    assert!(
        replies.iter().all(|reply| matches!(reply.status, 200 | 409)),
        "{:?}",
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
    assert!(replies.iter().any(|reply| reply.status == 200));
}
