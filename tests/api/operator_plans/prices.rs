//! The Stripe prices of plans.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

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
        currency: "usd".to_owned(),
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

/// A checkout that was paid by a price of no plan, applied.
async fn paid_by(world: &World, price: &str, metadata: &[(&str, &str)]) {
    let session = world.checkout(price, metadata);
    world.stripe.pay(&session, tests::payer("jane@acme.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
}

const SYNCS: &str = "outbox_steps WHERE kind = 'stripe_sync'";

/// Trap 91: what was paid for is given as soon as its price is mapped, and the flag ends.
#[tokio::test]
async fn a_price_that_is_mapped_after_it_was_paid_brings_its_plan_and_ends_its_flag() {
    let world = World::new().await;
    let api = world.api().await;
    team(&api).await;
    let tier_defaults = json!([{"tier_id": 2, "slot_limit": 7}]);
    api.write("PUT", &format!("{PLANS}/team/tier-defaults"), tier_defaults).await.expect(200);
    paid_by(&world, "price_unmapped", &[("company_name", "Acme")]).await;
    world.outbox().await;
    let row = "SELECT plan_id, device_limit FROM subscriptions WHERE tenant_id = 'acme'";
    assert_eq!(world.row(row).await, json!({"plan_id": null, "device_limit": 0}));
    assert_eq!(world.count(SYNCS).await, 0);

    let body = json!({"stripe_annual_price_id": "price_unmapped"});
    api.write("PUT", &format!("{PLANS}/team"), body.clone()).await.expect(200);
    assert_eq!(world.outbox().await, json!({"done": 1, "retried": 0, "failed": 0}));
    assert_eq!(world.row(row).await, json!({"plan_id": "team", "device_limit": 50}));
    let slots = "SELECT tier_id, slot_limit FROM subscription_tier_allocations
                 WHERE tenant_id = 'acme'";
    assert_eq!(world.row(slots).await, json!({"tier_id": 2, "slot_limit": 7}));
    let flag = "SELECT kind, resolved_by, resolution_note FROM flags";
    assert_eq!(
        world.row(flag).await,
        json!({"kind": "plan_unresolved", "resolved_by": "stripe",
            "resolution_note": "Its price is mapped by now"})
    );
    let audit = "SELECT actor_type, actor_id, previous_state->>'resolved_by' AS before,
                 new_state->>'resolved_by' AS after FROM subscription_audit
                 WHERE event_type = 'FLAG_RESOLVED' AND tenant_id = 'acme'";
    assert_eq!(
        world.row(audit).await,
        json!({"actor_type": "system", "actor_id": "stripe", "before": null, "after": "stripe"})
    );

    // Nothing is read again for a price that was mapped already, or by another plan's change.
    api.write("PUT", &format!("{PLANS}/team"), json!({"stripe_annual_price_id": null}))
        .await
        .expect(200);
    api.write("PUT", &format!("{PLANS}/team"), body).await.expect(200);
    assert_eq!(world.count(&format!("{SYNCS} AND status = 'pending'")).await, 0);
}

/// The price of slots, on an ADDON's own Stripe subscription.
#[tokio::test]
async fn a_price_of_slots_that_is_mapped_after_it_was_paid_brings_them() {
    let world = World::new().await;
    let api = world.api().await;
    let new = json!({"tenant_id": "demo-cold-chain", "subscription_type": "MAIN",
        "device_limit": 5, "term_days": 900});
    let parent = text(&api.create_subscription(new).await["subscription_id"]);
    let metadata = [("tenant_id", "demo-cold-chain"), ("parent_subscription_id", parent.as_str())];
    paid_by(&world, "price_unmapped", &metadata).await;
    let sql = format!(
        "SELECT device_limit, (SELECT jsonb_object_agg(tier_id, slot_limit)
             FROM subscription_tier_allocations a
             WHERE a.subscription_id = s.subscription_id) AS slots
         FROM subscriptions s WHERE parent_subscription_id = '{parent}'"
    );
    assert_eq!(world.row(&sql).await, json!({"device_limit": 0, "slots": null}));
    let body = json!({"addon_stripe_price_id": "price_unmapped"});
    api.write("PUT", &format!("{TIERS}/3"), body).await.expect(200);
    world.outbox().await;
    assert_eq!(world.row(&sql).await, json!({"device_limit": 1, "slots": {"3": 1}}));
    assert_eq!(world.count("flags WHERE resolved_at IS NULL").await, 0);
}

#[tokio::test]
async fn all_who_pay_by_a_price_are_read_again_by_one_statement_and_a_login_is_not_behind_them() {
    let world = World::new().await;
    let api = world.api().await;
    team(&api).await;
    let sql = "INSERT INTO tenants (tenant_id, name) SELECT 't-' || n, 'T'
               FROM generate_series(1, 1005) n;
               INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
               device_limit, term_start, term_end, created_by, stripe_subscription_id,
               stripe_status, stripe_price_id)
               SELECT 'SUB-2026-9' || n, 't-' || n, 'MAIN', 'ACTIVE', 0, '2026-01-01',
               '2099-01-01', 'x', 'sub_x' || n, CASE WHEN n <= 1000 THEN 'active'
               ELSE 'canceled' END, 'price_later' FROM generate_series(1, 1005) n";
    world.db.batch_execute(sql).await.expect("payers");
    api.write("PUT", &format!("{PLANS}/team"), json!({"stripe_annual_price_id": "price_later"}))
        .await
        .expect(200);
    let steps = "SELECT count(*), count(DISTINCT payload->>'stripe_subscription_id') AS each,
                 count(*) FILTER (WHERE next_attempt_at > created_at + interval '1 minute')
                 AS later, max(next_attempt_at - created_at)::text AS last FROM";
    assert_eq!(
        world.row(&format!("{steps} {SYNCS}")).await,
        json!({"count": 1000, "each": 1000, "later": 390, "last": "00:01:39"})
    );
}

/// A checkout that finds no plan, at the moment in which an operator maps its price.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_waits_for_the_mapping_of_its_price_that_is_being_written() {
    let world = World::new().await;
    team(&world.api().await).await;
    let session = world.checkout("price_unmapped", &[("company_name", "Acme")]);
    world.stripe.pay(&session, tests::payer("jane@acme.example")).expect("paid");
    let event = world.event("checkout.session.completed");
    let mut other = tests::connect(&world.settings["DATABASE_NAME"]).await;
    let mapping = other.transaction().await.expect("a transaction");
    mapping
        .batch_execute(
            "SELECT pg_advisory_xact_lock(x'70756c736501'::bigint);
             INSERT INTO stripe_prices (stripe_price_id, plan_id, interval)
             VALUES ('price_unmapped', 'team', 'year')",
        )
        .await
        .expect("mapped");
    let commit = async {
        let waits = world.a_lock_is_waited_for();
        tokio::time::timeout(Duration::from_secs(20), waits).await.expect("it waits");
        mapping.commit().await.expect("committed");
    };
    let events = [&event];
    futures::join!(world.receive(&events), commit);
    assert_eq!(
        world.row("SELECT plan_id FROM subscriptions WHERE tenant_id = 'acme'").await,
        json!({"plan_id": "team"})
    );
}

/// Trap 97: a price that was mapped to the wrong plan is not lost to the right one.
#[tokio::test]
async fn a_price_of_the_wrong_plan_is_moved_with_those_who_pay_by_it_and_audited() {
    let world = World::new().await;
    let api = world.api().await;
    let mut team = team(&api).await;
    paid_by(&world, "price_pro_month", &[("company_name", "Acme")]).await;
    world.outbox().await;
    let pro = api.get(Who::Operator, &format!("{PLANS}/pro")).await.expect(200);
    let path = format!("{PLANS}/team");
    let body = json!({"stripe_annual_price_id": "price_pro_month"});
    api.write("PUT", &path, body).await.problem(409, "price_taken");
    // A tier's is not moved, nor one that the same plan sells by the other interval.
    for price in ["price_basic_slot_month", "price_team_month"] {
        let body = json!({"stripe_annual_price_id": price, "move_prices": true});
        api.write("PUT", &path, body).await.problem(409, "price_taken");
    }
    let body = json!({"stripe_annual_price_id": "price_pro_month", "move_prices": true});
    let moved = api.write("PUT", &path, body.clone()).await.expect(200);
    team["stripe_annual_price_id"] = json!("price_pro_month");
    for field in ["stripe_price_id", "stripe_annual_price_id", "device_limit"] {
        assert_eq!(moved[field], team[field], "{field}");
    }
    let old = api.get(Who::Operator, &format!("{PLANS}/pro")).await.expect(200);
    assert_eq!(old["stripe_price_id"], Value::Null);
    assert_eq!(old["version"], json!(pro["version"].as_i64().expect("a version") + 1));
    let audit = "SELECT event_type, previous_state->>'plan_id' AS before,
                 new_state->>'plan_id' AS after, previous_state->>'interval' AS interval
                 FROM subscription_audit WHERE tenant_id IS NULL ORDER BY id DESC LIMIT 3";
    let row = |event: &str, before: &str, after: &str, interval: Value| json!({"event_type": event, "before": before, "after": after, "interval": interval});
    assert_eq!(
        world.rows(audit).await,
        [
            row("PLAN_UPDATED", "pro", "pro", Value::Null),
            row("PRICE_MOVED", "pro", "team", json!("month")),
            row("PLAN_UPDATED", "team", "team", Value::Null),
        ]
    );
    assert_eq!(world.outbox().await, json!({"done": 1, "retried": 0, "failed": 0}));
    assert_eq!(
        world.row("SELECT plan_id, device_limit FROM subscriptions WHERE tenant_id = 'acme'").await,
        json!({"plan_id": "team", "device_limit": 50})
    );
    // Again: it is so already.
    api.write("PUT", &path, body).await.expect(200);
    assert_eq!(world.count(&format!("{SYNCS} AND status = 'pending'")).await, 0);
    assert_eq!(world.count("subscription_audit WHERE event_type = 'PRICE_MOVED'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_that_take_each_others_prices_at_once_wait_for_each_other() {
    let world = World::new().await;
    let api = world.api().await;
    for id in ["a", "b"] {
        let body = json!({"plan_id": id, "name": id, "stripe_price_id": format!("price_{id}")});
        api.write("POST", PLANS, body).await.expect(201);
    }
    let replies = join_all((0..24).map(|n| {
        let plan = if n % 2 == 0 { "a" } else { "b" };
        let price = if n % 4 < 2 { "price_a" } else { "price_b" };
        let body = json!({"stripe_price_id": price, "move_prices": true});
        let api = &api;
        async move { api.write("PUT", &format!("{PLANS}/{plan}"), body).await.status }
    }))
    .await;
    assert_eq!(replies, [200; 24]);
}
