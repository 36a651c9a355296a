//! `device-tier`: what a device is called and where it is, as its customer and operators change it,
//! and one device as operators see it.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Reply, SOURCE_IP, Who};
use tests::{World, text};

const ACME: Who<'static> = Who::Customer("acme");
const OWN: &str = "/api/v1/customer/devices/D-1";
const ACMES: &str = "/api/v1/operator/tenants/acme/devices/D-1";

/// Two tenants, of which Acme has a device on a MAIN.
async fn world() -> (World, Api) {
    let world = World::new().await;
    let tenants = "INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme'), ('bolt', 'Bolt')";
    world.db.execute(tenants, &[]).await.expect("tenants");
    let api = world.api().await;
    api.create_subscription(json!({"tenant_id": "acme", "subscription_type": "MAIN",
        "device_limit": 10, "term_days": 365}))
        .await;
    let new = json!({"device_id": "D-1", "name": "Pump"});
    let made = api.send(ACME, "POST", "/api/v1/customer/devices", &[], Some(new)).await;
    assert_eq!(made.header("location"), OWN);
    assert_eq!(made.header("etag"), "\"1\"");
    made.expect(201);
    (world, api)
}

async fn patch(api: &Api, who: Who<'_>, path: &str, tag: &str, body: Value) -> Reply {
    let headers: &[_] = if tag.is_empty() { &[] } else { &[("if-match", tag)] };
    api.send(who, "PATCH", path, headers, Some(body)).await
}

#[tokio::test]
async fn a_device_is_renamed_and_the_audit_has_who_and_what() {
    let (world, api) = world().await;
    let body = json!({"name": "Pump north", "site_id": "north"});
    let renamed = patch(&api, ACME, OWN, "\"1\"", body).await;
    assert_eq!(renamed.header("etag"), "\"2\"");
    let renamed = renamed.expect(200);
    assert_eq!(renamed["status"], "ACTIVE");
    let of = |field: &str| renamed[field].clone();
    assert_eq!(
        [of("name"), of("site_id"), of("version")],
        [json!("Pump north"), json!("north"), json!(2)]
    );
    let cleared = patch(&api, Who::Admin, ACMES, "*", json!({"site_id": null})).await.expect(200);
    assert_eq!(cleared["site_id"], Value::Null);
    let read = api.get(ACME, OWN).await;
    assert_eq!(read.header("etag"), "\"3\"");
    let read = read.expect(200);
    assert_eq!([&read["name"], &read["site_id"]], [&json!("Pump north"), &Value::Null]);
    assert_eq!(api.get(Who::Operator, ACMES).await.expect(200), read);

    let rows = world
        .rows(
            "SELECT actor_type, host(ip_address) AS ip, device_id, tenant_id, previous_state,
                    new_state FROM subscription_audit WHERE event_type = 'DEVICE_UPDATED'
             ORDER BY id",
        )
        .await;
    let before = json!({"name": "Pump", "site_id": null});
    let between = json!({"name": "Pump north", "site_id": "north"});
    let after = json!({"name": "Pump north", "site_id": null});
    let row = |actor: &str, previous: &Value, new: &Value| {
        json!({"actor_type": actor, "ip": SOURCE_IP, "device_id": "D-1", "tenant_id": "acme",
            "previous_state": previous, "new_state": new})
    };
    assert_eq!(rows, [row("customer", &before, &between), row("admin", &between, &after)]);
}

#[tokio::test]
async fn what_cannot_be_changed_of_a_device_is_refused_and_changes_nothing() {
    let (world, api) = world().await;
    patch(&api, ACME, OWN, "", json!({"name": "Pump"})).await.expect(200);
    let rows = world.count("subscription_audit").await;
    let same = patch(&api, ACME, OWN, "", json!({"name": "Pump", "site_id": null})).await;
    assert_eq!(same.header("etag"), "\"1\"", "what is so already makes no version");
    let none = patch(&api, ACME, OWN, "", json!({})).await;
    assert_eq!(none.problem(400, "no_fields"), "No fields to update");
    patch(&api, ACME, OWN, "\"7\"", json!({"name": "x"})).await.problem(412, "version_changed");
    let faults = patch(&api, ACME, OWN, "", json!({"name": "", "tier_id": 1})).await.faults();
    assert_eq!(faults, ["name must not be empty", "tier_id is not a field of this request"]);
    let name = json!({"name": "Mine"});
    let bolt = Who::Customer("bolt");
    patch(&api, bolt, OWN, "", name.clone()).await.problem(404, "device_not_found");
    let bolts = "/api/v1/operator/tenants/bolt/devices/D-1";
    patch(&api, Who::Admin, bolts, "", name.clone()).await.problem(404, "device_not_found");
    api.get(Who::Operator, bolts).await.problem(404, "device_not_found");
    let reader = patch(&api, Who::Operator, ACMES, "", name.clone()).await;
    reader.problem(403, "operator_admin_required");
    assert_eq!(world.count("subscription_audit").await, rows);
    assert_eq!(api.get(ACME, OWN).await.expect(200)["name"], "Pump");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_rename_a_device_at_once_one_is_told_to_read_again() {
    let (world, api) = world().await;
    let renamed = (0..6).map(|n| {
        let (who, path) = if n % 2 == 0 { (ACME, OWN) } else { (Who::Admin, ACMES) };
        patch(&api, who, path, "\"1\"", json!({"name": format!("Pump {n}")}))
    });
    let mut statuses: Vec<_> = join_all(renamed).await.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412]);
    let sql = "SELECT count(*) AS n FROM subscription_audit WHERE event_type = 'DEVICE_UPDATED'";
    assert_eq!(world.row(sql).await["n"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_takes_a_device_out_of_use_once_and_reads_it_still() {
    let (world, api) = world().await;
    let main = text(&api.get(ACME, OWN).await.expect(200)["subscription_id"]);
    let slots = format!("/api/v1/operator/subscriptions/{main}/tier-allocations");
    api.write("POST", &slots, json!({"tier_id": 1, "slot_limit": 1})).await.expect(201);
    let tier = json!({"tier_id": 1});
    api.send(ACME, "PUT", &format!("{OWN}/tier"), &[], Some(tier)).await.expect(200);
    let gone = join_all((0..4).map(|_| api.send(Who::Admin, "DELETE", ACMES, &[], None))).await;
    let done: Vec<_> = gone.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(done.len(), 1, "the others find none in use");
    assert_eq!(done[0].body, json!({"status": "ok", "device_id": "D-1"}));
    for reply in gone.iter().filter(|reply| reply.status != 200) {
        reply.problem(404, "device_not_found");
    }
    let read = api.get(Who::Operator, ACMES).await.expect(200);
    assert_eq!([&read["status"], &read["tier_id"]], [&json!("DECOMMISSIONED"), &Value::Null]);
    api.get(ACME, OWN).await.problem(404, "device_not_found");
    let counts = world
        .row(
            "SELECT s.active_device_count, a.slots_used FROM subscriptions s
             JOIN subscription_tier_allocations a USING (subscription_id)
             WHERE s.tenant_id = 'acme'",
        )
        .await;
    assert_eq!(counts, json!({"active_device_count": 0, "slots_used": 0}));
    let row = world
        .row(
            "SELECT actor_type, details FROM subscription_audit
             WHERE event_type = 'DEVICE_DECOMMISSIONED'",
        )
        .await;
    assert_eq!(
        row,
        json!({"actor_type": "admin",
        "details": {"device_id": "D-1", "subscription_id": main, "tier_id": 1}})
    );
    // Registered again it has the next version: what was read of the former one does not fit.
    let again = json!({"device_id": "D-1", "name": "Another pump"});
    let again = api.send(ACME, "POST", "/api/v1/customer/devices", &[], Some(again)).await;
    assert_eq!(again.header("etag"), "\"2\"");
}

async fn assign(api: &Api, dry_run: bool, body: Value) -> Reply {
    let path = format!("/api/v1/operator/devices/tier-assignments?dry_run={dry_run}");
    api.write("POST", &path, body).await
}

#[tokio::test]
async fn operators_give_many_devices_a_tier_and_are_told_which_are_beyond_the_limit() {
    let (world, api) = world().await;
    let main = text(&api.get(ACME, OWN).await.expect(200)["subscription_id"]);
    let slots = format!("/api/v1/operator/subscriptions/{main}/tier-allocations");
    api.write("POST", &slots, json!({"tier_id": 1, "slot_limit": 2})).await.expect(201);
    for id in ["D-2", "D-3"] {
        let new = json!({"device_id": id});
        api.send(ACME, "POST", "/api/v1/customer/devices", &[], Some(new)).await.expect(201);
    }
    let nowhere = json!({"tenant_id": "acme", "device_id": "D-4", "subscription_id": null});
    api.write("POST", "/api/v1/operator/devices", nowhere).await.expect(201);
    let body = json!({"tenant_id": "acme", "tier_id": 1, "notes": "Sold by phone",
        "device_ids": ["D-1", "D-9", "D-2", "D-4", "D-3"]});
    let rows = world.count("subscription_audit").await;
    let tried = assign(&api, true, body.clone()).await.expect(200);
    let one = |id: &str, status: &str, over: bool| {
        json!({"device_id": id, "status": status, "code": null, "detail": null,
            "over_limit": over})
    };
    let refused = |id: &str, code: &str, detail: &str| {
        json!({"device_id": id, "status": "refused", "code": code, "detail": detail,
            "over_limit": false})
    };
    let no_place = "Device has no subscription assigned. Assign a subscription first.";
    let mut expected = json!({"dry_run": true, "changed": 3, "refused": 2, "over_limit": 1,
        "results": [one("D-1", "assigned", false),
            refused("D-9", "device_not_found", "Device not found"),
            one("D-2", "assigned", false), refused("D-4", "no_subscription", no_place),
            one("D-3", "assigned", true)]});
    assert_eq!(tried, expected);
    assert_eq!(world.count("subscription_audit").await, rows, "a dry run changes nothing");
    assert_eq!(api.get(ACME, OWN).await.expect(200)["tier_id"], Value::Null);

    let done = assign(&api, false, body.clone()).await.expect(200);
    expected["dry_run"] = json!(false);
    assert_eq!(done, expected);
    let used = "SELECT slots_used FROM subscription_tier_allocations
                WHERE tenant_id = 'acme' AND tier_id = 1";
    assert_eq!(world.row(used).await["slots_used"], 3);
    let audit = "SELECT device_id, actor_type, details FROM subscription_audit
                 WHERE event_type = 'OPERATOR_TIER_ASSIGNMENT' ORDER BY id";
    let audit = world.rows(audit).await;
    assert_eq!(audit.len(), 3);
    let row = json!({"device_id": "D-1", "actor_type": "admin", "details": {"device_id": "D-1",
        "old_tier_id": null, "new_tier_id": 1, "of_many": 3, "notes": "Sold by phone"}});
    assert_eq!(audit[0], row);
    let again = assign(&api, false, body).await.expect(200);
    assert_eq!(
        [&again["changed"], &again["results"][0]["status"]],
        [&json!(0), &json!("unchanged")]
    );

    // A tier without any slot, and back to none.
    let premium = json!({"tenant_id": "acme", "tier_id": 3, "device_ids": ["D-1"]});
    let premium = assign(&api, false, premium).await.expect(200);
    assert_eq!(premium["over_limit"], 1);
    let none = json!({"tenant_id": "acme", "tier_id": null, "device_ids": ["D-1", "D-2"]});
    let none = assign(&api, false, none).await.expect(200);
    assert_eq!(
        none["results"],
        json!([one("D-1", "removed", false), one("D-2", "removed", false)])
    );
    let used = "SELECT tier_id, slots_used FROM subscription_tier_allocations
                WHERE tenant_id = 'acme' ORDER BY tier_id";
    let used = world.rows(used).await;
    assert_eq!(
        used,
        [json!({"tier_id": 1, "slots_used": 1}), json!({"tier_id": 3, "slots_used": 0})]
    );
}

#[tokio::test]
async fn a_bulk_override_that_cannot_be_is_refused_whole() {
    let (world, api) = world().await;
    let rows = world.count("subscription_audit").await;
    let body = json!({"tenant_id": "acme", "tier_id": 99, "device_ids": ["D-1"]});
    assign(&api, false, body).await.problem(404, "tier_not_found");
    let twice = json!({"tenant_id": "acme", "tier_id": 1, "device_ids": ["D-1", "D-1"]});
    assert_eq!(assign(&api, false, twice).await.faults(), ["device_ids[1] is listed twice"]);
    let many: Vec<_> = (0..501).map(|n| format!("D-{n}")).collect();
    let many = json!({"tenant_id": "acme", "tier_id": 1, "device_ids": many});
    assert_eq!(
        assign(&api, false, many).await.faults(),
        ["device_ids must have at most 500 items"]
    );
    let bolts = json!({"tenant_id": "bolt", "tier_id": 1, "device_ids": ["D-1"]});
    let bolts = assign(&api, false, bolts).await.expect(200);
    assert_eq!(bolts["results"][0]["code"], "device_not_found", "another tenant's");
    assert_eq!(world.count("subscription_audit").await, rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_overrides_of_the_same_devices_at_once_are_counted_once() {
    let (world, api) = world().await;
    for n in 2..=6 {
        let new = json!({ "device_id": format!("D-{n}") });
        api.send(ACME, "POST", "/api/v1/customer/devices", &[], Some(new)).await.expect(201);
    }
    let ids = |reversed: bool| {
        let mut ids: Vec<_> = (1..=6).map(|n| format!("D-{n}")).collect();
        if reversed {
            ids.reverse();
        }
        json!({"tenant_id": "acme", "tier_id": 1, "device_ids": ids})
    };
    let replies = join_all((0..6).map(|n| assign(&api, false, ids(n % 2 == 1)))).await;
    let changed: u64 = replies
        .into_iter()
        .map(|reply| reply.expect(200)["changed"].as_u64().expect("a number"))
        .sum();
    assert_eq!(changed, 6);
    let used = "SELECT slots_used FROM subscription_tier_allocations
                WHERE tenant_id = 'acme' AND tier_id = 1";
    assert_eq!(world.row(used).await["slots_used"], 6);
}
