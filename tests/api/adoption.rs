//! `operations`: an operator adopts a subscription that was begun at Stripe.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Reply, Who};
use tests::{World, payer, text};

const ADOPT: &str = "/api/v1/operator/subscriptions/adopt";

/// A paid subscription at Stripe of which no event came: its id, its customer, its session.
fn begun(world: &World, price: &str) -> (String, String, String) {
    let session = world.checkout(price, &[]);
    let paid = world.stripe.pay(&session, payer("ops@coldchain.example")).expect("paid");
    (text(&paid["subscription"]), text(&paid["customer"]), session)
}

fn body(tenant: &str, stripe: &str) -> Value {
    json!({"tenant_id": tenant, "stripe_subscription_id": stripe})
}

async fn adopt(api: &Api, tenant: &str, stripe: &str) -> Reply {
    api.write("POST", ADOPT, body(tenant, stripe)).await
}

/// Trap 94: who was sold to by hand gets what is paid for, once.
#[tokio::test]
async fn a_subscription_of_stripes_becomes_a_main_once_and_its_flags_end() {
    let world = World::new().await;
    let api = world.api().await;
    let (stripe, customer, _) = begun(&world, "price_pro_month");
    let flags = format!(
        "INSERT INTO flags (kind, detail, subject)
         VALUES ('never_matched', 'x', '{stripe}'), ('stripe_subscription_unknown', 'x',
         '{stripe}'), ('never_matched', 'x', 'sub_other')"
    );
    world.db.batch_execute(&flags).await.expect("flags");
    let request = async || {
        let headers = [("idempotency-key", "adopt-1")];
        let body = Some(body("demo-cold-chain", &stripe));
        api.send(Who::Admin, "POST", ADOPT, &headers, body).await
    };
    let first = request().await;
    let id = text(&first.body["subscription_id"]);
    assert_eq!(first.header("location"), format!("/api/v1/operator/subscriptions/{id}"));
    let made = first.expect(201);
    for (field, value) in [
        ("tenant_id", json!("demo-cold-chain")),
        ("subscription_type", json!("MAIN")),
        ("status", json!("ACTIVE")),
        ("plan_id", json!("pro")),
        ("device_limit", json!(260)),
        ("stripe_subscription_id", json!(stripe)),
        ("stripe_price_id", json!("price_pro_month")),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(request().await.expect(201), made, "the same request");
    let detail = adopt(&api, "demo-cold-chain", &stripe).await;
    assert_eq!(
        detail.problem(409, "stripe_subscription_known"),
        format!("Stripe subscription '{stripe}' already pays for {id}")
    );
    let sql = format!("subscriptions WHERE stripe_subscription_id = '{stripe}'");
    assert_eq!(world.count(&sql).await, 1);
    let linked = "SELECT stripe_customer_id FROM tenants WHERE tenant_id = 'demo-cold-chain'";
    assert_eq!(world.row(linked).await["stripe_customer_id"], json!(customer));
    let slots = format!("subscription_tier_allocations WHERE subscription_id = '{id}'");
    assert!(world.count(&slots).await > 0);
    let audit = format!(
        "SELECT event_type, actor_type FROM subscription_audit WHERE subscription_id = '{id}'
         OR event_type IN ('FLAG_RESOLVED', 'TENANT_UPDATED') ORDER BY id"
    );
    let by_admin = |event: &str| json!({"event_type": event, "actor_type": "admin"});
    assert_eq!(
        world.rows(&audit).await,
        [
            by_admin("TENANT_UPDATED"),
            by_admin("STRIPE_SUBSCRIPTION_ADOPTED"),
            by_admin("TIER_ALLOCATIONS_SYNCED"),
            by_admin("FLAG_RESOLVED"),
            by_admin("FLAG_RESOLVED"),
        ]
    );
    let open = "SELECT subject FROM flags WHERE resolved_at IS NULL";
    assert_eq!(world.row(open).await, json!({"subject": "sub_other"}));
}

#[tokio::test]
async fn a_price_of_no_plan_is_adopted_with_no_devices_and_flagged() {
    let world = World::new().await;
    let api = world.api().await;
    let (stripe, ..) = begun(&world, "price_unmapped");
    let made = adopt(&api, "demo-cold-chain", &stripe).await.expect(201);
    assert_eq!((&made["plan_id"], &made["device_limit"]), (&Value::Null, &json!(0)));
    let flag = "SELECT kind, subscription_id FROM flags";
    assert_eq!(
        world.row(flag).await,
        json!({"kind": "plan_unresolved", "subscription_id": made["subscription_id"]})
    );
}

#[tokio::test]
async fn every_refusal_of_an_adoption_says_why_and_changes_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    let (stripe, customer, session) = begun(&world, "price_pro_month");
    let tenants = format!(
        "UPDATE tenants SET status = 'DELETED' WHERE tenant_id = 'demo-greenhouses';
         INSERT INTO tenants (tenant_id, name, stripe_customer_id)
         VALUES ('other', 'Other', '{customer}'), ('third', 'Third', NULL)"
    );
    world.db.batch_execute(&tenants).await.expect("tenants");
    let state = "SELECT (SELECT count(*) FROM subscriptions) AS subscriptions,
                 (SELECT count(*) FROM flags) AS flags,
                 (SELECT count(*) FROM subscription_audit) AS audit";
    let before = world.row(state).await;
    let mut refused = Vec::new();
    let mut refuse = async |tenant: &str, stripe: &str, status: u16, code: &str| {
        refused.push(adopt(&api, tenant, stripe).await.problem(status, code));
    };
    refuse("nobody", &stripe, 404, "tenant_not_found").await;
    refuse("demo-greenhouses", &stripe, 409, "tenant_deleted").await;
    refuse("demo-cold-chain", "sub_none", 404, "stripe_subscription_not_found").await;
    refuse("demo-cold-chain", &stripe, 409, "customer_of_another_tenant").await;
    for (edit, code) in [
        (json!({"tenant_id": "third"}), "checkout_under_way"),
        (json!({"parent_subscription_id": "SUB-2026-0001"}), "stripe_subscription_of_addon"),
    ] {
        world.stripe.edit_subscription(&stripe, |subscription| subscription["metadata"] = edit);
        refuse("other", &stripe, 409, code).await;
    }
    world.stripe.edit_subscription(&stripe, |subscription| {
        subscription["metadata"] = json!({"tenant_id": "third"});
        subscription["created"] = json!(world.clock.now().as_second() - 7200);
    });
    refuse("other", &stripe, 409, "customer_of_another_tenant").await;
    world.stripe.edit_subscription(&stripe, |subscription| subscription["metadata"] = json!({}));
    for (status, code) in [
        ("incomplete", "stripe_subscription_incomplete"),
        ("canceled", "stripe_subscription_ended"),
        ("brand_new", "unknown_stripe_status"),
    ] {
        world.stripe.edit_subscription(&stripe, |subscription| {
            subscription["status"] = json!(status);
        });
        refuse("other", &stripe, 409, code).await;
    }
    world.stripe.edit_subscription(&stripe, |subscription| {
        subscription["status"] = json!("active");
    });
    world.stripe.fail_next(3, 500);
    adopt(&api, "other", &stripe).await.problem(502, "upstream");
    // Its checkout has failed: that is to be replayed.
    let event = format!(
        "INSERT INTO stripe_events (event_id, event_type, livemode, created_at, object_id,
         stripe_subscription_id, status) VALUES ('evt_1', 'checkout.session.completed', false,
         now(), '{session}', '{stripe}', 'failed')"
    );
    world.db.batch_execute(&event).await.expect("an event");
    refuse("other", &stripe, 409, "checkout_under_way").await;
    assert!(refused.iter().all(|detail| !detail.is_empty()), "{refused:?}");
    assert_eq!(world.row(state).await, before);
    let faults = api.write("POST", ADOPT, json!({"stripe_subscription_id": "x"})).await.faults();
    assert_eq!(faults.len(), 2, "{faults:?}");
    // An operator decided that the checkout needs nothing.
    world.db.batch_execute("UPDATE stripe_events SET status = 'dismissed'").await.expect("ended");
    adopt(&api, "other", &stripe).await.expect(201);
}

/// Trap 95: of an operator who asks twice, another one, and the checkout itself, one makes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_adoptions_and_the_checkout_at_once_make_one_subscription() {
    let world = World::new().await;
    let api = world.api().await;
    let session = world.checkout("price_pro_month", &[("tenant_id", "demo-cold-chain")]);
    let paid = world.stripe.pay(&session, payer("ops@coldchain.example")).expect("paid");
    let stripe = text(&paid["subscription"]);
    let event = world.event("checkout.session.completed");
    let events = [&event];
    let adoptions = join_all((0..12).map(|_| adopt(&api, "demo-cold-chain", &stripe)));
    let (replies, ()) = futures::join!(adoptions, world.receive(&events));
    assert!(
        replies.iter().filter(|reply| reply.status == 201).count() <= 1
            && replies.iter().all(|reply| matches!(reply.status, 201 | 409)),
        "{:?}",
        replies.iter().map(|reply| reply.body.clone()).collect::<Vec<_>>()
    );
    assert_eq!(world.recorded(&event).await.0, "applied");
    let sql = format!(
        "SELECT count(*), max(stripe_checkout_session_id) AS session FROM subscriptions
         WHERE stripe_subscription_id = '{stripe}'"
    );
    assert_eq!(world.row(&sql).await, json!({"count": 1, "session": session}));
}
