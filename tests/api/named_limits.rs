//! Named limits: a number, unlimited, or a feature; and their use, as services report it.

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::api::{Api, Reply, Who};
use tests::{World, text};

const PLANS: &str = "/api/v1/operator/plans";
const CHECK: &str = "/api/v1/customer/entitlements/check";
const ENTITLEMENTS: &str = "/api/v1/customer/entitlements";
const USAGE: &str = "/api/v1/customer/entitlements/usage";
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

async fn report(api: &Api, usage: Value, as_of: Timestamp) -> Reply {
    let body = json!({"tenant_id": "acme", "usage": usage, "as_of": as_of});
    api.send(Who::Service, "PUT", USAGE, &[], Some(body)).await
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

/// Trap 112.
#[tokio::test]
async fn use_is_what_was_counted_last_whatever_comes_in_which_order() {
    let (world, api) = companies().await;
    subscribe(&api, "MAIN", "pro", None).await;
    let noon = world.clock.now() - SignedDuration::from_hours(1);
    let later = |minutes: i64| noon + SignedDuration::from_mins(minutes);
    assert_eq!(api.get(ACME, ENTITLEMENTS).await.expect(200)["usage"], json!({}));

    let first = report(&api, json!({"alert_rules": 12, "users": 3}), noon).await.expect(200);
    let known = json!({"alert_rules": {"used": 12, "as_of": noon},
        "users": {"used": 3, "as_of": noon}});
    assert_eq!(first, json!({"tenant_id": "acme", "usage": known}));
    let shown = api.get(ACME, ENTITLEMENTS).await.expect(200);
    assert_eq!((&shown["usage"], &shown["limits"]["alert_rules"]), (&known, &json!(25)));

    // Older, and the same again.
    for as_of in [later(-1), noon] {
        let same = report(&api, json!({"alert_rules": 12, "users": 3}), as_of).await.expect(200);
        assert_eq!(same["usage"], known);
    }
    let older = report(&api, json!({"alert_rules": 99}), later(-1)).await.expect(200);
    assert_eq!(older["usage"], known);
    // Each name by itself: one is newer now, the other stays.
    let newer = report(&api, json!({"alert_rules": 2}), later(1)).await.expect(200);
    assert_eq!(newer["usage"]["alert_rules"], json!({"used": 2, "as_of": later(1)}));
    assert_eq!(newer["usage"]["users"], known["users"]);
    let half = report(&api, json!({"alert_rules": 5, "users": 4}), noon).await.expect(200);
    assert_eq!(half["usage"]["alert_rules"]["used"], 2);
    assert_eq!(half["usage"]["users"]["used"], 4, "of one instant the higher count");

    // Many at once, in both orders of their names.
    let replies = join_all((2..34).map(|n| {
        let usage = json!({"alert_rules": n, "users": n, "notification_channels": n});
        report(&api, usage, later(n))
    }))
    .await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let last = json!({"used": 33, "as_of": later(33)});
    let usage = api.get(ACME, ENTITLEMENTS).await.expect(200)["usage"].clone();
    assert_eq!(usage, json!({"alert_rules": last, "notification_channels": last, "users": last}));
    // It is nobody else's.
    let bolts = api.get(Who::Customer("bolt"), ENTITLEMENTS).await.expect(200);
    assert_eq!(bolts["usage"], json!({}));
}

#[tokio::test]
async fn a_check_takes_the_use_that_was_reported_unless_it_is_told_another() {
    let (world, api) = companies().await;
    let main = subscribe(&api, "MAIN", "pro", None).await;
    let rules = |more: Value| {
        let mut body = json!({"resource": "alert_rules"});
        body.as_object_mut().expect("a body").extend(more.as_object().expect("more").clone());
        body
    };
    let unknown = "current_usage is required: nobody has reported how many alert_rules there are";
    assert_eq!(check(&api, rules(json!({}))).await.faults(), [unknown]);
    report(&api, json!({"alert_rules": 24}), world.clock.now()).await.expect(200);
    let allowed = check(&api, rules(json!({}))).await.expect(200);
    assert_eq!(
        (&allowed["limit"], &allowed["used"], &allowed["remaining"]),
        (&json!(25), &json!(24), &json!(1))
    );
    let refused = check(&api, rules(json!({"requested": 2}))).await;
    assert_eq!(
        refused.problem(402, "limit_reached"),
        "2 more of alert_rules would exceed what was paid for. Used: 24/25. Upgrade your plan."
    );
    check(&api, rules(json!({"requested": 2, "current_usage": 23}))).await.expect(200);
    check(&api, rules(json!({"current_usage": 25}))).await.problem(402, "limit_reached");
    // The report is the whole company's.
    let one = rules(json!({"subscription_id": main}));
    assert_eq!(check(&api, one).await.faults(), [unknown]);
    check(&api, rules(json!({"subscription_id": main, "current_usage": 3}))).await.expect(200);
}

/// Trap 113.
#[tokio::test]
async fn a_report_that_cannot_be_is_refused_whole_and_a_customer_reports_nothing() {
    let (world, api) = companies().await;
    plan(&api, "team", json!({"sso": true, "exports": 7})).await.expect(201);
    let now = world.clock.now();
    let bad = json!({"alert_rules": 1, "unicorns": 2, "sso": 1, "devices": 5});
    let faults = [
        "usage.devices is nothing that a plan limits",
        "usage.sso is a feature, and nothing to count",
        "usage.unicorns is nothing that a plan limits",
    ];
    assert_eq!(report(&api, bad, now).await.faults(), faults);
    let ahead = now + SignedDuration::from_mins(10);
    let early = report(&api, json!({"alert_rules": 1}), ahead).await;
    assert_eq!(early.faults(), ["as_of must not be in the future"]);
    assert_eq!(
        report(&api, json!({"alert_rules": null, "users": -1}), now).await.faults(),
        [
            "usage.alert_rules must be a whole number, not null",
            "usage.users must be from 0 to 1000000000"
        ]
    );
    let empty = api.send(Who::Service, "PUT", USAGE, &[], Some(json!({}))).await;
    assert_eq!(empty.faults(), ["tenant_id is required", "usage is required", "as_of is required"]);
    let unknown = json!({"tenant_id": "nobody", "usage": {}, "as_of": now});
    let unknown = api.send(Who::Service, "PUT", USAGE, &[], Some(unknown)).await;
    unknown.problem(403, "tenant_deleted");
    let own = json!({"tenant_id": "acme", "usage": {"alert_rules": 0}, "as_of": now});
    for who in [ACME, Who::Operator, Who::Admin] {
        let reply = api.send(who, "PUT", USAGE, &[], Some(own.clone())).await;
        assert_eq!(reply.problem(403, "service_required"), "This route needs the role service.");
    }
    assert_eq!(world.count("limit_usage").await, 0);

    // What no plan names any more is still counted for who has bought it.
    subscribe(&api, "MAIN", "team", None).await;
    api.write("PUT", &format!("{PLANS}/team"), json!({"limits": {}})).await.expect(200);
    report(&api, json!({"exports": 6}), now).await.expect(200);
    check(&api, json!({"resource": "exports"})).await.expect(200);
    check(&api, json!({"resource": "exports", "requested": 2})).await.problem(402, "limit_reached");
}

/// Trap 114. Users are in Keycloak, so they are counted whenever one is made or changed here.
#[tokio::test]
async fn users_are_counted_here_by_who_makes_enables_and_disables_them() {
    let (world, api) = companies().await;
    subscribe(&api, "MAIN", "pro", None).await;
    let used =
        async || api.get(ACME, ENTITLEMENTS).await.expect(200)["usage"]["users"]["used"].clone();
    assert_eq!(used().await, Value::Null);
    let users = "/api/v1/operator/users";
    let made = join_all((0..5).map(|n| {
        let body = json!({"tenant_id": "acme", "email": format!("u{n}@acme.example")});
        api.write("POST", users, body)
    }))
    .await;
    let bolts = json!({"tenant_id": "bolt", "email": "jane@bolt.example"});
    api.write("POST", users, bolts).await.expect(201);
    assert_eq!(used().await, 5);
    check(&api, json!({"resource": "users"})).await.problem(402, "limit_reached");
    let first = made[0].body["id"].clone();
    let path = format!("{users}/{}", text(&first));
    api.write("PATCH", &path, json!({"enabled": false})).await.expect(200);
    assert_eq!(used().await, 4);
    check(&api, json!({"resource": "users"})).await.expect(200);
    api.write("PATCH", &path, json!({"enabled": true})).await.expect(200);
    assert_eq!(used().await, 5);

    // The first user of a checkout.
    let (_, paid) = world.paid_checkout("First", "jane@first.example");
    world.receive(&[&paid]).await;
    world.outbox().await;
    let first = api.get(Who::Customer("first"), ENTITLEMENTS).await.expect(200);
    assert_eq!(first["usage"]["users"]["used"], 1);
}
