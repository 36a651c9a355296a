//! The rehearsal of docs/operations.md, "Restoring the database": ten minutes are lost, and what
//! Stripe knows comes back.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::stripe::{Interval, Price};
use tests::api::Who;
use tests::{World, new_events, payer, text};

use super::recovery::{backfill_all, business};

/// Companies of before the backup.
const COMPANIES: usize = 200;

/// Those that come in the ten minutes that are lost.
const LATE: usize = 5;

fn pay(world: &World, company: &str) {
    let email = format!("jane@{}.example", company.to_lowercase().replace(' ', "-"));
    let _ = world.paid_checkout(company, &email);
}

async fn hear(world: &World, seen: &mut usize) {
    let news = new_events(&world.stripe, seen);
    world.receive(&news.iter().collect::<Vec<_>>()).await;
}

async fn run_outbox(world: &World) {
    while world.outbox().await["done"] != 0 {}
}

/// The Stripe subscription of a company.
async fn at_stripe(world: &World, n: usize) -> String {
    let sql = format!(
        "SELECT stripe_subscription_id AS id FROM subscriptions
         WHERE tenant_id = 'company-{n}' AND subscription_type = 'MAIN'"
    );
    text(&world.row(&sql).await["id"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lost_ten_minutes_is_equal_to_stripe_after_its_backfill() {
    let mut world = World::new().await;
    let began = world.clock.now();
    world.stripe.add_price(Price {
        id: "price_standard_slot_month".to_owned(),
        currency: "usd".to_owned(),
        product: "prod_standard_slot".to_owned(),
        unit_amount: 300,
        interval: Interval::Month,
        nickname: "price_standard_slot_month".to_owned(),
    });
    let mut seen = 0;
    for n in 0..COMPANIES {
        pay(&world, &format!("Company {n}"));
    }
    hear(&world, &mut seen).await;
    run_outbox(&world).await;
    // In flight: a company whose events are on the queue and not applied.
    pay(&world, "In Flight");
    for event in new_events(&world.stripe, &mut seen) {
        assert_eq!(world.post(&event).await.status(), 200);
    }
    let backup = world.backup().await;

    // What the next ten minutes bring.
    world.clock.pass(60);
    assert_eq!(world.drain().await, 0);
    for n in 0..LATE {
        pay(&world, &format!("Late {n}"));
    }
    let stripe = &world.stripe;
    stripe.change_plan(&at_stripe(&world, 0).await, "price_enterprise_month").expect("upgraded");
    stripe.cancel(&at_stripe(&world, 1).await).expect("cancelled");
    stripe.cancel_at_period_end(&at_stripe(&world, 2).await, true).expect("to be cancelled");
    stripe
        .set_quantity(&at_stripe(&world, 3).await, "price_pro_month", Some(3))
        .expect("three of it");
    let api = world.api().await;
    let main =
        world.row("SELECT subscription_id AS id FROM subscriptions WHERE tenant_id = 'company-4'");
    let order = json!({"parent_subscription_id": main.await["id"], "additions":
        [{"tier_id": 2, "additional_slots": 4}], "success_url": "http://localhost:3000/done",
        "cancel_url": "http://localhost:3000/slots"});
    let path = "/api/v1/customer/billing/addon-checkout";
    let opened = api
        .send(Who::Customer("company-4"), "POST", path, &[("idempotency-key", "o")], Some(order))
        .await
        .expect(200);
    stripe.pay(&text(&opened["session_id"]), payer("jane@company-4.example")).expect("paid");
    let device = json!({"device_id": "DEV-1", "name": "Pump"});
    let key = [("idempotency-key", "d")];
    api.send(Who::Customer("company-5"), "POST", "/api/v1/customer/devices", &key, Some(device))
        .await
        .expect(201);
    hear(&world, &mut seen).await;
    run_outbox(&world).await;
    let lost = business(&world).await;
    let users = world.keycloak.users().len();
    assert_eq!(users, COMPANIES + 1 + LATE);

    // The database is taken back.
    world.clock.pass(540);
    world.restore(backup).await;
    let api = world.api().await;
    assert_eq!(world.count("tenants WHERE tenant_id LIKE 'late-%'").await, 0);
    let (from, to) = (began.to_string(), world.clock.now().to_string());
    let sum = backfill_all(&api, &from, &to).await;
    assert_eq!(world.drain().await, 0);
    run_outbox(&world).await;
    let again = backfill_all(&api, &from, &to).await;
    assert_eq!((&again[0], &again[1]), (&sum[0], &json!(0)), "nothing is missing");

    // Stripe's part is as if nothing had happened.
    let after = business(&world).await;
    let equal = |part: &str| assert_eq!(after[part], lost[part], "{part}");
    equal("tenants");
    equal("slots");
    let subscriptions = |of: &Value| {
        let mut rows = of["subscriptions"].as_array().expect("rows").clone();
        // An ADDON begins when its slots are given.
        for row in rows.iter_mut().filter(|row| row["subscription_type"] == "ADDON") {
            row["term_start"].take();
        }
        rows
    };
    assert_eq!(subscriptions(&after), subscriptions(&lost));
    assert_eq!(world.keycloak.users().len(), users, "no login is made twice");

    // Steps of organizations wait a minute for others of their tenant; Keycloak has them already.
    world.clock.pass(61);
    run_outbox(&world).await;

    // What an operator finds in the flags: an order that is not known any more, and logins that
    // other steps made.
    let flags = world.rows("SELECT kind, count(*) FROM flags WHERE resolved_at IS NULL GROUP BY 1");
    assert_eq!(
        flags.await,
        [
            json!({"kind": "step_failed", "count": LATE + 1}),
            json!({"kind": "unknown_order", "count": 1})
        ]
    );
    let steps = "/api/v1/operator/provisioning?status=failed";
    for step in api.get(Who::Operator, steps).await.expect(200)["steps"].as_array().expect("steps")
    {
        assert!(text(&step["last_error"]).contains("exists"), "{step}");
        let note = json!({"note": "Made before the restore"});
        let path = format!("/api/v1/operator/provisioning/{}/dismiss", step["step_id"]);
        api.write("POST", &path, note).await.expect(200);
    }
    assert_eq!(world.count("outbox_steps WHERE status IN ('pending', 'failed')").await, 0);
    // And what is lost.
    assert_eq!(world.count("devices WHERE tenant_id = 'company-5'").await, 0);
    let invariants = api.get(Who::Operator, "/api/v1/operator/invariants").await.expect(200);
    for finding in invariants["invariants"].as_array().expect("findings") {
        assert_eq!(finding["count"], 0, "{finding}");
    }

    // No subscription gets an id that was given in the time that is lost.
    let next = async || {
        let new = json!({"tenant_id": "company-6", "subscription_type": "TEMPORARY",
            "device_limit": 1, "term_days": 1});
        text(&api.create_subscription(new).await["subscription_id"])
    };
    let number = |id: &str| id.rsplit('-').next().and_then(|n| n.parse::<u32>().ok()).expect("it");
    let before = number(&next().await);
    let env = world.env(&[]);
    let skip = json!({"skip_subscription_ids": 1000});
    migrate::invoked(&env, &skip, Duration::from_mins(1)).await.expect("skipped");
    assert_eq!(number(&next().await), before + 1001);
    let wrong = json!({"skip_subscription_ids": -1});
    let refused = migrate::invoked(&env, &wrong, Duration::from_mins(1)).await.expect_err("-1");
    assert_eq!(
        refused.to_string(),
        "skip_subscription_ids must be a whole number, at most 1000000"
    );
}
