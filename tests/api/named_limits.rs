//! Named limits: a number, unlimited, or a feature.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Reply, Who};
use tests::{World, text};

const PLANS: &str = "/api/v1/operator/plans";
const CHECK: &str = "/api/v1/customer/entitlements/check";
const ENTITLEMENTS: &str = "/api/v1/customer/entitlements";
const ACME: Who<'static> = Who::Customer("acme");

/// A world with two companies that have bought nothing.
async fn companies() -> (World, Api) {
    let world = World::new().await;
    let sql = "INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme'), ('bolt', 'Bolt')";
    world.db.batch_execute(sql).await.expect("tenants");
    let api = world.api().await;
    (world, api)
}

async fn plan(api: &Api, id: &str, limits: Value) -> Reply {
    api.write("POST", PLANS, json!({"plan_id": id, "name": id, "limits": limits})).await
}

async fn subscribe(api: &Api, kind: &str, plan: &str, parent: Option<&str>) -> String {
    let mut body = json!({"tenant_id": "acme", "subscription_type": kind, "device_limit": 1,
        "plan_id": plan, "parent_subscription_id": parent});
    if parent.is_none() {
        body["term_days"] = json!(365);
    }
    text(&api.create_subscription(body).await["subscription_id"])
}

async fn check(api: &Api, body: Value) -> Reply {
    api.send(ACME, "POST", CHECK, &[], Some(body)).await
}

async fn limits(api: &Api) -> Value {
    api.get(ACME, ENTITLEMENTS).await.expect(200)["limits"].clone()
}

/// Trap 110.
#[tokio::test]
async fn what_is_unlimited_or_a_feature_is_sold_copied_summed_and_checked_as_that() {
    let (world, api) = companies().await;
    let big = json!({"alert_rules": null, "users": 5, "sso": true, "api_access": false});
    let made = plan(&api, "big", big.clone()).await.expect(201);
    assert_eq!(made["limits"], big);
    let path = format!("{PLANS}/big");
    assert_eq!(api.get(Who::Operator, &path).await.expect(200)["limits"], big);
    plan(&api, "small", json!({"alert_rules": 10, "users": 3, "sso": false})).await.expect(201);

    let main = subscribe(&api, "MAIN", "small", None).await;
    assert_eq!(limits(&api).await, json!({"alert_rules": 10, "users": 3, "sso": false}));
    check(&api, json!({"resource": "sso"})).await.problem(402, "feature_not_in_plan");
    // Known from another plan, and not of this one.
    let refused = check(&api, json!({"resource": "api_access"})).await;
    assert_eq!(
        refused.problem(402, "feature_not_in_plan"),
        "api_access is not part of what was paid for. Upgrade your plan."
    );

    let addon = subscribe(&api, "ADDON", "big", Some(&main)).await;
    let copied = api.get(Who::Operator, &format!("/api/v1/operator/subscriptions/{addon}")).await;
    assert_eq!(copied.expect(200)["limits"], big);
    let pooled = json!({"alert_rules": null, "users": 8, "sso": true, "api_access": false});
    assert_eq!(limits(&api).await, pooled);
    // And of another family.
    subscribe(&api, "TRIAL", "big", None).await;
    let all = api.get(ACME, ENTITLEMENTS).await.expect(200);
    assert_eq!(
        all["limits"],
        json!({"alert_rules": null, "users": 13, "sso": true, "api_access": false})
    );
    assert_eq!(all["families"][0]["limits"], pooled);

    let allowed = check(&api, json!({"resource": "sso"})).await.expect(200);
    let feature = json!({"allowed": true, "resource": "sso", "limit": true, "used": null,
        "remaining": null});
    assert_eq!(allowed, feature);
    let unlimited = |used: Value| {
        json!({"allowed": true, "resource": "alert_rules", "limit": null, "used": used,
            "remaining": null})
    };
    let many = json!({"resource": "alert_rules", "requested": 1_000_000_000});
    assert_eq!(check(&api, many).await.expect(200), unlimited(Value::Null));
    let told = json!({"resource": "alert_rules", "current_usage": 900});
    assert_eq!(check(&api, told).await.expect(200), unlimited(json!(900)));

    // Without its copies, as the release before left them, it is as the plans say.
    world.db.execute("UPDATE subscriptions SET limits = NULL", &[]).await.expect("none");
    assert_eq!(
        limits(&api).await,
        json!({"alert_rules": null, "users": 13, "sso": true, "api_access": false})
    );
    // What has ended gives neither.
    world
        .db
        .execute("UPDATE subscriptions SET status = 'SUSPENDED'", &[])
        .await
        .expect("suspended");
    assert_eq!(limits(&api).await, json!({}));
    check(&api, json!({"resource": "sso"})).await.problem(402, "feature_not_in_plan");
    check(&api, json!({"resource": "alert_rules"})).await.problem(402, "limit_reached");
}

/// Trap 111.
#[tokio::test]
async fn a_name_is_a_feature_in_every_plan_or_in_none() {
    let (_world, api) = companies().await;
    plan(&api, "team", json!({"sso": true, "users": 7})).await.expect(201);
    let mixed = json!({"users": true, "sso": null, "alert_rules": null});
    let faults = [
        "limits.sso must be true or false, as in the plan 'team'",
        "limits.users must be a whole number or null, as in the plan 'enterprise'",
    ];
    assert_eq!(plan(&api, "mixed", mixed.clone()).await.faults(), faults);
    api.get(Who::Operator, &format!("{PLANS}/mixed")).await.problem(404, "plan_not_found");
    let team = format!("{PLANS}/team");
    let put = async |limits: Value| api.write("PUT", &team, json!({ "limits": limits })).await;
    assert_eq!(put(json!({"users": false})).await.faults(), faults[1..].to_vec().as_slice());
    assert_eq!(
        put(json!({"users": "many"})).await.faults(),
        ["limits.users must be a whole number, true, false or null"]
    );
    assert_eq!(api.get(Who::Operator, &team).await.expect(200)["version"], 1);
    // Its own kind may change while no other plan has the name.
    assert_eq!(put(json!({"sso": 3})).await.expect(200)["limits"], json!({"sso": 3}));

    // Of two at once that name it in both ways, one is refused.
    let both = [json!({"exports": true}), json!({"exports": 5})];
    let at_once = join_all((0..8).map(|n| {
        let (api, limits) = (&api, both[n % 2].clone());
        async move { plan(api, &format!("twin-{n}"), limits).await.status }
    }))
    .await;
    let (even, odd): (Vec<_>, Vec<_>) = at_once.iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let statuses = |of: Vec<(usize, &u16)>| of.iter().map(|(_, s)| **s).collect::<Vec<_>>();
    let (even, odd) = (statuses(even), statuses(odd));
    assert!(
        (even == [201; 4] && odd == [422; 4]) || (even == [422; 4] && odd == [201; 4]),
        "{even:?} and {odd:?}"
    );
}

/// A name may change its kind after it was copied: then nobody loses anything.
#[tokio::test]
async fn a_copy_of_the_other_kind_adds_up_in_favour_of_the_customer() {
    let (_world, api) = companies().await;
    plan(&api, "team", json!({"exports": 4, "audit_log": 4})).await.expect(201);
    subscribe(&api, "MAIN", "team", None).await;
    let changed = json!({"limits": {"exports": true, "audit_log": false}});
    api.write("PUT", &format!("{PLANS}/team"), changed).await.expect(200);
    assert_eq!(limits(&api).await, json!({"exports": 4, "audit_log": 4}), "copied when bought");
    subscribe(&api, "TRIAL", "team", None).await;
    assert_eq!(limits(&api).await, json!({"exports": null, "audit_log": 4}));
}
