//! An operator adds a company and changes it.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::World;
use tests::api::{SOURCE_IP, Who};

use super::{LINES, TENANTS, add, audit};

#[tokio::test]
async fn a_tenant_is_added_read_and_changed_and_each_change_is_audited() {
    let world = World::new().await;
    let api = world.api().await;
    let claims = world.keycloak.claims(&["operator_admin"], None);
    let token = world.keycloak.sign(&claims).expect("a token");
    let reply = api
        .send(
            Who::Token(&token),
            "POST",
            TENANTS,
            &[],
            Some(json!({"tenant_id": "tiny", "name": "Tiny"})),
        )
        .await;
    assert_eq!(
        (reply.header("etag"), reply.header("location")),
        ("\"1\"", "/api/v1/operator/tenants/tiny")
    );
    let tiny = reply.expect(201);
    for field in LINES.into_iter().chain(["contact_email", "billing_email", "stripe_customer_id"]) {
        assert_eq!(tiny[field], Value::Null, "{field}");
    }
    let defaults = [
        ("status", json!("ACTIVE")),
        ("support_tier", json!("standard")),
        ("metadata", json!({})),
        ("version", json!(1)),
    ];
    for (field, value) in defaults {
        assert_eq!(tiny[field], value, "{field}");
    }
    let columns =
        world.row("SELECT to_jsonb(t) AS row FROM tenants t WHERE tenant_id = 'tiny'").await["row"]
            .clone();
    let names =
        |object: &Value| object.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&tiny), names(&columns), "every column");

    let mut whole = json!({"tenant_id": "whole", "name": "Whole Ltd",
        "contact_email": "Ops@Whole.example", "billing_email": "billing@whole.example",
                           "support_tier": "gold", "stripe_customer_id": "cus_whole",
                           "metadata": {"crm": 17}});
    for field in LINES {
        whole[field] = json!(format!("a {field} – ä"));
    }
    let made = api.write("POST", TENANTS, whole.clone()).await.expect(201);
    whole["contact_email"] = json!("ops@whole.example");
    for (field, value) in whole.as_object().expect("an object") {
        assert_eq!(made[field], *value, "{field}");
    }
    let read = api.get(Who::Operator, &format!("{TENANTS}/whole")).await;
    assert_eq!(read.header("etag"), "\"1\"");
    assert_eq!(read.expect(200), made);

    // Absent keeps, null clears, a value replaces.
    let mut cleared = json!({"name": "Whole & Co", "contact_email": null,
        "stripe_customer_id": null, "metadata": {}});
    for field in LINES {
        cleared[field] = Value::Null;
    }
    let reply = api.write("PATCH", &format!("{TENANTS}/whole"), cleared.clone()).await;
    assert_eq!(reply.header("etag"), "\"2\"");
    let changed = reply.expect(200);
    for (field, value) in cleared.as_object().expect("an object") {
        assert_eq!(changed[field], *value, "{field}");
    }
    assert_eq!(
        (&changed["billing_email"], &changed["support_tier"]),
        (&json!("billing@whole.example"), &json!("gold"))
    );
    assert_eq!(api.get(Who::Operator, &format!("{TENANTS}/whole")).await.expect(200), changed);
    // What is so already is no change: no version, no audit row.
    let same = api
        .write("PATCH", &format!("{TENANTS}/whole"), json!({"phone": null, "name": "Whole & Co"}))
        .await;
    assert_eq!((same.header("etag"), &same.body["updated_at"]), ("\"2\"", &changed["updated_at"]));
    let back =
        api.write("PATCH", &format!("{TENANTS}/whole"), whole_without_id(&whole)).await.expect(200);
    assert_eq!(
        (&back["version"], &back["city"], &back["stripe_customer_id"]),
        (&json!(3), &whole["city"], &json!("cus_whole"))
    );

    assert_eq!(
        audit(&world, "whole").await,
        ["TENANT_CREATED", "TENANT_UPDATED", "TENANT_UPDATED"]
    );
    let states = world
        .rows(
            "SELECT previous_state, new_state FROM subscription_audit
                             WHERE tenant_id = 'whole' ORDER BY id",
        )
        .await;
    assert_eq!(
        states,
        [
            json!({"previous_state": null, "new_state": made}),
            json!({"previous_state": made, "new_state": changed}),
            json!({"previous_state": changed, "new_state": back})
        ]
    );
    let actor = world
        .row(
            "SELECT actor_id, host(ip_address) AS ip FROM subscription_audit
                           WHERE tenant_id = 'tiny'",
        )
        .await;
    assert_eq!(actor, json!({"actor_id": claims["sub"], "ip": SOURCE_IP}));
}

fn whole_without_id(whole: &Value) -> Value {
    let mut update = whole.clone();
    update.as_object_mut().expect("an object").remove("tenant_id");
    update
}

#[tokio::test]
async fn every_refusal_of_a_tenant_says_what_an_operator_would_understand() {
    let world = World::new().await;
    let api = world.api().await;
    add(&api, "acme").await;
    let patch =
        async |id: &str, body: Value| api.write("PATCH", &format!("{TENANTS}/{id}"), body).await;
    let again = api.write("POST", TENANTS, json!({"tenant_id": "acme", "name": "Again"})).await;
    assert_eq!(again.problem(409, "tenant_exists"), "Tenant 'acme' already exists");
    assert_eq!(
        api.get(Who::Operator, &format!("{TENANTS}/none")).await.problem(404, "tenant_not_found"),
        "Tenant not found"
    );
    assert_eq!(
        patch("none", json!({"name": "x"})).await.problem(404, "tenant_not_found"),
        "Tenant not found"
    );
    let delete = api.send(Who::Admin, "DELETE", &format!("{TENANTS}/none"), &[], None).await;
    assert_eq!(delete.problem(404, "tenant_not_found"), "Tenant not found");
    api.get(Who::Operator, &format!("{TENANTS}/No_Good")).await.problem(404, "not_found");
    assert_eq!(patch("acme", json!({})).await.problem(400, "no_fields"), "No fields to update");
    let bad = json!({
        "tenant_id": "No Good", "name": "", "legal_name": "x".repeat(201), "contact_email": "jane",
        "billing_email": 7, "phone": "1\u{0}",
        "support_tier": null, "stripe_customer_id": "sub_1", "metadata": [], "status": "DELETED",
        "city": "  ",
    });
    let faults = api.write("POST", TENANTS, bad).await.faults();
    assert_eq!(
        faults,
        [
            "billing_email must be text, not a whole number",
            "city must not be empty",
            "contact_email must be a mail address of at most 254 characters",
            "legal_name must have at most 200 characters, not 201",
            "metadata must be an object, not a list",
            "name must not be empty",
            "phone must not contain control characters",
            "status is not a field of this request",
            "stripe_customer_id must match ^cus_[A-Za-z0-9_]{1,251}$",
            "support_tier must be text, not null",
            "tenant_id must match ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        ]
    );
    assert_eq!(
        api.write("POST", TENANTS, json!({})).await.faults(),
        ["tenant_id is required", "name is required"]
    );
    let faults = patch(
        "acme",
        json!({"tenant_id": "other", "name": null, "support_tier": null,
    "metadata": null, "version": 7}),
    )
    .await
    .faults();
    let expected = [
        "metadata must be an object, not null",
        "name must be text, not null",
        "support_tier must be text, not null",
        "tenant_id is not a field of this request",
        "version is not a field of this request",
    ];
    assert_eq!(faults, expected);
    assert_eq!(audit(&world, "acme").await, ["TENANT_CREATED"], "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_editors_the_second_with_an_old_etag_is_refused_and_those_without_leave_a_chain() {
    let world = World::new().await;
    let api = world.api().await;
    add(&api, "acme").await;
    let path = format!("{TENANTS}/acme");
    let change = async |tag: &str, body: Value| {
        api.send(Who::Admin, "PATCH", &path, &[("if-match", tag)], Some(body)).await
    };
    let both =
        join_all([change("\"1\"", json!({"name": "A"})), change("\"1\"", json!({"name": "B"}))])
            .await;
    let mut statuses: Vec<u16> = both.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let detail = change("\"1\"", json!({"city": "Oslo"})).await.problem(412, "version_changed");
    assert!(detail.contains("version 2"), "{detail}");
    api.send(Who::Admin, "DELETE", &path, &[("if-match", "\"1\"")], None)
        .await
        .problem(412, "version_changed");
    assert_eq!(api.get(Who::Operator, &path).await.expect(200)["city"], Value::Null);
    // Without a tag every change counts, and each of them knows what it replaced.
    let replies =
        join_all((0..8).map(|n| api.write("PATCH", &path, json!({LINES[n]: format!("{n}")}))))
            .await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let rows = world
        .rows(
            "SELECT previous_state, new_state FROM subscription_audit
                           WHERE tenant_id = 'acme' ORDER BY id",
        )
        .await;
    assert_eq!(rows.len(), 10);
    let mut versions: Vec<_> =
        rows.iter().filter_map(|row| row["new_state"]["version"].as_i64()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=10).collect::<Vec<_>>());
    for row in &rows[1..] {
        let before = rows.iter().find(|other| other["new_state"] == row["previous_state"]);
        assert!(before.is_some(), "what it replaced was there: {row}");
    }
    assert_eq!(rows.iter().filter(|row| row["new_state"] == latest(&rows)).count(), 1);
    assert_eq!(api.get(Who::Operator, &path).await.expect(200), latest(&rows));
}

/// The state of the highest version.
fn latest(rows: &[Value]) -> Value {
    rows.iter().max_by_key(|row| row["new_state"]["version"].as_i64()).expect("rows")["new_state"]
        .clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_makes_one_tenant_however_often_and_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let body = json!({"tenant_id": "acme", "name": "Acme", "stripe_customer_id": "cus_acme"});
    let post = async |key: &str, body: &Value| {
        api.send(Who::Admin, "POST", TENANTS, &[("idempotency-key", key)], Some(body.clone())).await
    };
    let replies = join_all((0..12).map(|_| post("key-1", &body))).await;
    let first = replies.iter().find(|reply| reply.status == 201).expect("one was made").clone();
    for reply in &replies {
        match reply.status {
            201 => assert_eq!(
                (&reply.body, reply.header("etag"), reply.header("location")),
                (&first.body, "\"1\"", "/api/v1/operator/tenants/acme")
            ),
            _ => drop(reply.problem(409, "request_in_progress")),
        }
    }
    api.write("PATCH", &format!("{TENANTS}/acme"), json!({"name": "Other"})).await.expect(200);
    assert_eq!(
        post("key-1", &body).await.expect(201),
        first.body,
        "the first answer, whatever has become of it"
    );
    let other = json!({"tenant_id": "other", "name": "Other"});
    assert_eq!(
        post("key-1", &other).await.faults(),
        ["idempotency-key was used for another request"]
    );
    post("key-2", &body).await.problem(409, "tenant_exists");
    post("key-2", &other).await.expect(201);
    assert_eq!(audit(&world, "acme").await, ["TENANT_CREATED", "TENANT_UPDATED"]);
}

#[tokio::test]
async fn an_operator_sets_the_service_level_and_its_customer_reads_it() {
    let world = World::new().await;
    let api = world.api().await;
    let new = json!({"tenant_id": "acme", "name": "Acme", "sla_level": "99.9"});
    let made = api.write("POST", "/api/v1/operator/tenants", new).await.expect(201);
    assert_eq!(made["sla_level"], "99.90");
    let path = "/api/v1/operator/tenants/acme";
    let changed = api.write("PATCH", path, json!({"sla_level": "99.95"})).await.expect(200);
    assert_eq!(changed["sla_level"], "99.95");
    let stored = world.row("SELECT sla_level FROM tenants WHERE tenant_id = 'acme'").await;
    assert_eq!(stored["sla_level"], 9995);
    let (acme, own) = (Who::Customer("acme"), "/api/v1/customer/organization");
    assert_eq!(api.get(acme, own).await.expect(200)["sla_level"], "99.95");
    let refused = api.send(acme, "PUT", own, &[], Some(json!({"sla_level": "100"}))).await;
    assert_eq!(refused.faults(), ["sla_level is not a field of this request"]);
    for wrong in ["100.01", "99.955", "99,95", "-1", ""] {
        let faults = api.write("PATCH", path, json!({"sla_level": wrong})).await.faults();
        assert!(faults[0].starts_with("sla_level must match ^(100"), "{wrong}: {faults:?}");
    }
    let number = api.write("PATCH", path, json!({"sla_level": 99.95})).await.faults();
    assert_eq!(number, ["sla_level must be text, not a number"]);
    let same = api.write("PATCH", path, json!({"sla_level": "99.95"})).await;
    assert_eq!(same.header("etag"), "\"2\"", "no change");
    let cleared = api.write("PATCH", path, json!({"sla_level": null})).await.expect(200);
    assert_eq!(cleared["sla_level"], serde_json::Value::Null);
}
