//! An operator creates a subscription.

use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::api::{SOURCE_IP, Who};
use tests::{World, text};

use super::{SUBSCRIPTIONS, addon_of, instant, main_of, path, tenant};

#[tokio::test]
async fn the_four_types_are_created_with_their_terms() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let create = async |body: Value| api.write("POST", SUBSCRIPTIONS, body).await;
    let of = |kind: &str, more: Value| {
        let mut body = json!({"tenant_id": "acme", "subscription_type": kind, "device_limit": 5});
        more.as_object()
            .expect("fields")
            .iter()
            .for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let reply = create(of(
        "MAIN",
        json!({"term_days": 365, "plan_id": "pro", "description": "By wire", "notes": "PO 7",
        "transaction_ref": "W-1"}),
    ))
    .await;
    assert_eq!(reply.header("etag"), "\"1\"");
    assert!(reply.header("location").starts_with("/api/v1/operator/subscriptions/SUB-"));
    let main = reply.expect(201);
    assert_eq!(
        instant(&main["term_end"]).duration_since(instant(&main["term_start"])),
        SignedDuration::from_hours(24 * 365)
    );
    assert_eq!(
        (&main["status"], &main["device_limit"], &main["plan_id"], &main["tenant_name"]),
        (&json!("ACTIVE"), &json!(5), &json!("pro"), &json!("acme"))
    );

    let trial = create(of("TRIAL", json!({}))).await.expect(201);
    assert_eq!(
        instant(&trial["term_end"]).duration_since(instant(&trial["term_start"])),
        SignedDuration::from_hours(24 * 14)
    );
    let temporary = create(of(
        "TEMPORARY",
        json!({"term_start": "2030-01-01T00:00:00+02:00", "term_end": "2030-02-01T00:00:00Z"}),
    ))
    .await
    .expect(201);
    assert_eq!(
        (&temporary["term_start"], &temporary["term_end"]),
        (&json!("2029-12-31T22:00:00Z"), &json!("2030-02-01T00:00:00Z"))
    );
    // An ADDON ends with its parent, whatever is asked.
    let addon = create(of(
        "ADDON",
        json!({"parent_subscription_id": main["subscription_id"], "term_days": 5}),
    ))
    .await
    .expect(201);
    assert_eq!(
        (&addon["term_end"], &addon["parent_subscription_id"]),
        (&main["term_end"], &main["subscription_id"])
    );

    let row = world
        .row(&format!(
            "SELECT * FROM subscription_audit WHERE subscription_id = '{}'",
            text(&main["subscription_id"])
        ))
        .await;
    assert_eq!(row["details"], json!({"notes": "PO 7", "transaction_ref": "W-1"}));
    assert_eq!(
        (&row["event_type"], &row["actor_type"], &row["tenant_id"]),
        (&json!("SUBSCRIPTION_CREATED"), &json!("admin"), &json!("acme"))
    );
    assert!(
        row["ip_address"].as_str().is_some_and(|ip| ip.starts_with(SOURCE_IP))
            && row["previous_state"].is_null()
    );
    assert_eq!(row["new_state"]["subscription_id"], main["subscription_id"]);
    assert_eq!(
        world.count("subscription_tier_allocations WHERE tenant_id = 'acme'").await,
        0,
        "none before a sync"
    );
}

#[tokio::test]
async fn every_refusal_of_a_creation_says_why() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    tenant(&world, "bolt").await;
    let main = main_of(&api, "acme").await;
    let other = main_of(&api, "bolt").await;
    let addon = addon_of(&api, &main).await;
    let try_one = async |kind: &str, more: Value| {
        let mut body = json!({"tenant_id": "acme", "subscription_type": kind, "device_limit": 5});
        more.as_object()
            .expect("fields")
            .iter()
            .for_each(|(name, value)| body[name] = value.clone());
        api.write("POST", SUBSCRIPTIONS, body).await
    };
    let refused = async |kind: &str, more: Value, status: u16, code: &str| {
        try_one(kind, more).await.problem(status, code)
    };
    assert_eq!(
        refused("MAIN", json!({"tenant_id": "nobody", "term_days": 1}), 404, "tenant_not_found")
            .await,
        "Tenant not found"
    );
    assert_eq!(
        refused("MAIN", json!({"plan_id": "none", "term_days": 1}), 404, "plan_not_found").await,
        "Plan not found"
    );
    assert_eq!(
        refused("MAIN", json!({}), 400, "term_required").await,
        "term_end or term_days required for non-TRIAL subscriptions"
    );
    assert_eq!(
        refused("ADDON", json!({}), 400, "parent_required").await,
        "ADDON requires parent_subscription_id"
    );
    let parent = |id: &Value| json!({"parent_subscription_id": id});
    assert_eq!(
        refused("ADDON", parent(&json!("SUB-1999-0001")), 404, "parent_not_found").await,
        "Parent subscription not found"
    );
    assert_eq!(
        refused("ADDON", parent(&addon["subscription_id"]), 400, "parent_not_main").await,
        "Parent must be MAIN subscription"
    );
    assert_eq!(
        refused("ADDON", parent(&other["subscription_id"]), 400, "parent_of_another_tenant").await,
        "Parent belongs to different tenant"
    );
    api.write("PATCH", &path(&main), json!({"status": "SUSPENDED"})).await.expect(200);
    assert_eq!(
        refused("ADDON", parent(&main["subscription_id"]), 400, "parent_not_live").await,
        "Parent subscription is SUSPENDED"
    );
    world
        .db
        .execute(
            "UPDATE subscriptions SET status = 'GRACE',
                      grace_end = now() + interval '1 day', term_start = now() - interval '9 days',
                      term_end = now() - interval '1 hour' WHERE tenant_id = 'acme'
                      AND subscription_type = 'MAIN'",
            &[],
        )
        .await
        .expect("aged");
    refused("ADDON", parent(&main["subscription_id"]), 400, "parent_ended").await;
    world
        .db
        .execute("UPDATE tenants SET status = 'DELETED' WHERE tenant_id = 'bolt'", &[])
        .await
        .expect("deleted");
    refused("MAIN", json!({"tenant_id": "bolt", "term_days": 1}), 409, "tenant_deleted").await;
    for (kind, more, fault) in [
        ("MAIN", json!({"term_days": 0}), "term_days must be from 1 to 3660"),
        ("MAIN", json!({"term_days": 3661}), "term_days must be from 1 to 3660"),
        (
            "MAIN",
            json!({"term_days": 1, "term_end": "2030-01-01T00:00:00Z"}),
            "term_days cannot be combined with term_end",
        ),
        (
            "MAIN",
            json!({"term_start": "2030-01-01T00:00:00Z", "term_end": "2030-01-01T00:00:00Z"}),
            "term_end must be after term_start",
        ),
        (
            "MAIN",
            json!({"term_end": "2030-01-01T00:00:00"}),
            "term_end must be a time with an offset, such as 2026-01-31T09:30:00Z",
        ),
        (
            "MAIN",
            json!({"term_days": 1, "device_limit": 0}),
            "device_limit must be from 1 to 1000000000",
        ),
        (
            "MAIN",
            json!({"term_days": 1, "parent_subscription_id": "SUB-2026-0001"}),
            "parent_subscription_id is only for an ADDON",
        ),
        (
            "main",
            json!({"term_days": 1}),
            "subscription_type must be one of MAIN, ADDON, TRIAL, TEMPORARY",
        ),
    ] {
        assert_eq!(try_one(kind, more).await.faults(), [fault]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_at_once_have_ids_of_their_own() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let body = json!({"tenant_id": "acme", "subscription_type": "TRIAL", "device_limit": 1});
    let replies = join_all((0..500).map(|_| api.write("POST", SUBSCRIPTIONS, body.clone()))).await;
    let ids: std::collections::BTreeSet<String> =
        replies.into_iter().map(|reply| text(&reply.expect(201)["subscription_id"])).collect();
    assert_eq!(ids.len(), 500);
    let year = &ids.first().expect("one")[..9];
    let well_formed = |id: &String| {
        id.starts_with(year) && id[9..].len() == 4 && id[9..].bytes().all(|b| b.is_ascii_digit())
    };
    assert!(year.starts_with("SUB-") && ids.iter().all(well_formed), "{ids:?}");
}

#[tokio::test]
async fn one_key_creates_one_subscription() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let body = json!({"tenant_id": "acme", "subscription_type": "TRIAL", "device_limit": 1});
    let post = async || {
        api.send(Who::Admin, "POST", SUBSCRIPTIONS, &[("idempotency-key", "k")], Some(body.clone()))
            .await
    };
    let first = post().await;
    let again = post().await;
    assert_eq!(
        (first.status, &first.body, first.header("location")),
        (201, &again.body, again.header("location"))
    );
    assert_eq!(world.count("subscriptions WHERE tenant_id = 'acme'").await, 1);
}
