//! `tenants`: customer companies.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, SOURCE_IP, Who};
use tests::{World, text};
use tokio_postgres::GenericClient;

const TENANTS: &str = "/api/v1/operator/tenants";

/// The fields that may be empty, mail addresses and the Stripe customer besides.
const LINES: [&str; 12] = [
    "legal_name",
    "contact_name",
    "phone",
    "industry",
    "company_size",
    "address_line1",
    "address_line2",
    "city",
    "state_province",
    "postal_code",
    "country",
    "data_residency_region",
];

async fn add(api: &Api, id: &str) -> Value {
    api.write("POST", TENANTS, json!({"tenant_id": id, "name": "Acme"})).await.expect(201)
}

async fn audit(world: &World, tenant: &str) -> Vec<String> {
    let sql = format!(
        "SELECT event_type, actor_type, host(ip_address) AS ip FROM subscription_audit
         WHERE tenant_id = '{tenant}' ORDER BY id"
    );
    let rows = world.rows(&sql).await;
    assert!(
        rows.iter().all(|row| row["actor_type"] == "admin" && row["ip"] == SOURCE_IP),
        "{rows:?}"
    );
    rows.iter().map(|row| text(&row["event_type"])).collect()
}

fn ids(answer: &Value) -> Vec<String> {
    let tenants = answer["tenants"].as_array().expect("a list");
    assert_eq!(answer["count"], tenants.len());
    tenants.iter().map(|tenant| text(&tenant["tenant_id"])).collect()
}

/// A subscription in some status, by SQL.
async fn subscribe(db: &impl GenericClient, tenant: &str, status: &str) -> String {
    let sql = "INSERT INTO subscriptions (tenant_id, subscription_type, status, device_limit,
               term_start, term_end, grace_end, created_by)
               VALUES ($1, 'MAIN', $2, 1, now(), now() + interval '1 day', CASE $2 WHEN 'GRACE'
               THEN now() END, 'test') RETURNING subscription_id";
    db.query_one(sql, &[&tenant, &status]).await.expect("a subscription").get(0)
}

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
async fn every_refusal_of_a_tenant_says_what_a_person_would_understand() {
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
async fn of_two_editors_the_second_with_an_old_etag_is_told_and_those_without_leave_a_chain() {
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
async fn tenants_are_listed_by_any_filter_and_page() {
    let world = World::new().await;
    let api = world.api().await;
    for n in 0..5 {
        let body = json!({"tenant_id": format!("t{n}"), "name": "T", "contact_email": format!(
            "ops@t{}.example", n / 2), "billing_email": format!("b{n}@t.example")});
        api.write("POST", TENANTS, body).await.expect(201);
    }
    // As a checkout keeps what was typed.
    world
        .db
        .execute(
            "UPDATE tenants SET contact_email = 'Ops@T0.Example',
                      stripe_customer_id = 'cus_linked' WHERE tenant_id = 't1'",
            &[],
        )
        .await
        .expect("set");
    world
        .db
        .execute("INSERT INTO stripe_customer_aliases VALUES ('cus_alias', 't2')", &[])
        .await
        .expect("an alias");
    api.send(Who::Admin, "DELETE", &format!("{TENANTS}/t4"), &[], None).await.expect(200);
    let list = async |query: &str| {
        ids(&api.get(Who::Operator, &format!("{TENANTS}{query}")).await.expect(200))
    };
    let all = ["demo-cold-chain", "demo-greenhouses", "t0", "t1", "t2", "t3", "t4"];
    assert_eq!(list("").await, all);
    assert_eq!(list("?status=ACTIVE").await, all[..6]);
    assert_eq!(list("?status=DELETED").await, ["t4"]);
    assert_eq!(list("?email=OPS@t0.example").await, ["t0", "t1"]);
    assert_eq!(list("?email=B3@T.example").await, ["t3"]);
    assert_eq!(list("?email=t.example").await, [""; 0], "the whole of it");
    assert_eq!(list("?email=%25@t.example").await, [""; 0]);
    assert_eq!(list("?stripe_customer_id=cus_linked").await, ["t1"]);
    assert_eq!(list("?stripe_customer_id=cus_alias").await, ["t2"]);
    assert_eq!(list("?stripe_customer_id=cus_none").await, [""; 0]);
    assert_eq!(
        list("?email=ops@t0.example&stripe_customer_id=cus_linked&status=ACTIVE&q=t1").await,
        ["t1"]
    );
    assert_eq!(list("?email=ops@t0.example&status=DELETED").await, [""; 0]);

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(Who::Operator, &format!("{TENANTS}?limit=3{cursor}")).await.expect(200);
        seen.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, all);
    assert_eq!(list("?limit=2&offset=4").await, ["t2", "t3"]);
    assert_eq!(list("?offset=7").await, [""; 0]);
    for (query, fault) in [
        ("limit=0", "limit must be from 1 to 500"),
        ("cursor=WzFd", "cursor is not a cursor of this list"),
        ("status=active", "status must be one of ACTIVE, DELETED"),
        ("stripe_customer_id=acme", "stripe_customer_id must match ^cus_[A-Za-z0-9_]{1,251}$"),
        ("email=", "email must not be empty"),
        ("tenant=x", "tenant is not a field of this request"),
    ] {
        assert_eq!(
            api.get(Who::Operator, &format!("{TENANTS}?{query}")).await.faults(),
            [fault],
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_search_finds_beginnings_of_words_and_takes_any_character() {
    let world = World::new().await;
    let api = world.api().await;
    for (id, name, legal_name) in [
        ("acme-iot-corp", "ACME IoT", "Acme Internet of Things Corporation"),
        ("acme-2", "Acme", "Booking.com B.V."),
        ("team-12e45", "Müller & Söhne", "O'Brien A/B Testing"),
        ("x1", "Version 1.5", "C:\\Temp"),
    ] {
        api.write(
            "POST",
            TENANTS,
            json!({"tenant_id": id, "name": name, "legal_name": legal_name}),
        )
        .await
        .expect(201);
    }
    let search = async |typed: &str| {
        let mut url = reqwest::Url::parse("http://x/").expect("a URL");
        url.query_pairs_mut().append_pair("q", typed);
        let reply =
            api.get(Who::Operator, &format!("{TENANTS}?{}", url.query().unwrap_or_default())).await;
        assert_eq!(reply.status, 200, "{typed:?}: {}", reply.body);
        ids(&reply.body)
    };
    for (typed, found) in [
        ("acme", vec!["acme-2", "acme-iot-corp"]),
        ("  AC   co ", vec!["acme-iot-corp"]),
        ("internet corp", vec!["acme-iot-corp"]),
        ("acme-iot-corp", vec!["acme-iot-corp"]),
        ("acme-i", vec!["acme-iot-corp"]),
        ("iot-co", vec!["acme-iot-corp"]),
        ("acme-2", vec!["acme-2"]),
        ("2", vec!["acme-2"]),
        ("booking.com", vec!["acme-2"]),
        ("team-12", vec!["team-12e45"]),
        ("12e45", vec!["team-12e45"]),
        ("mül söh", vec!["team-12e45"]),
        ("müller & söhne", vec!["team-12e45"]),
        ("o'brien", vec!["team-12e45"]),
        ("a/b", vec!["acme-2", "team-12e45"]),
        ("a/b tes", vec!["team-12e45"]),
        ("1.5", vec!["x1"]),
        (r"c:\temp", vec!["x1"]),
        ("cme", vec![]),
        ("acme nothing", vec![]),
        ("acme:*", vec!["acme-2", "acme-iot-corp"]),
        ("!acme", vec!["acme-2", "acme-iot-corp"]),
        ("acme | x1", vec![]),
        ("acme') OR true --", vec![]),
    ] {
        assert_eq!(search(typed).await, found, "{typed}");
    }
    assert_eq!(search("").await.len(), 6, "nothing asked for");
    assert_eq!(search(" ").await.len(), 6);
    for typed in [
        "&",
        "!",
        "'",
        "''",
        "\"",
        r"\",
        ":",
        ":*",
        "<->",
        "( )",
        "%",
        "_",
        "…",
        "😀",
        "'&|!()<>:*\\\"",
        "a'b\\c:*&|!(d)<->e",
        "\t\n",
    ] {
        search(typed).await;
    }
    for nothing in ["&", ":*", "'", "-- %"] {
        assert_eq!(search(nothing).await, [""; 0], "{nothing}");
    }
    search(&"😀a'\\".repeat(25)).await;
    let long = format!("{TENANTS}?q={}", "x".repeat(101));
    assert_eq!(
        api.get(Who::Operator, &long).await.faults(),
        ["q must have at most 100 characters, not 101"]
    );
    assert_eq!(
        api.get(Who::Operator, &format!("{TENANTS}?q=%00")).await.faults(),
        ["q must not contain control characters"]
    );
}

/// Under row-level security too: the owner is subject to a policy like the operators'.
#[tokio::test]
async fn a_search_among_many_tenants_reads_an_index() {
    let world = World::new().await;
    let fill = "INSERT INTO tenants (tenant_id, name, contact_email)
                SELECT 'many-' || n, 'Company ' || md5(n::text), n || '@many.example'
                FROM generate_series(1, 5000) n;
                ANALYZE tenants";
    world.db.batch_execute(fill).await.expect("filled");
    let plan = async |condition: &str| {
        let rows = world
            .db
            .query(&format!("EXPLAIN SELECT * FROM tenants t WHERE {condition}"), &[])
            .await
            .expect("a plan");
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
    };
    let words = "to_tsvector('simple', t.tenant_id || ' ' || t.name || ' ' || \
                 coalesce(t.legal_name, '')) @@ to_tsquery('simple', '''4711'':*')";
    assert!(plan(words).await.contains("tenants_words"), "{}", plan(words).await);
    let email = "lower(t.contact_email) = lower('X@many.example') OR lower(t.billing_email) = \
                 lower('X@many.example')";
    assert!(plan(email).await.contains("tenants_contact_email"), "{}", plan(email).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stripe_customer_belongs_to_one_tenant() {
    let world = World::new().await;
    let api = world.api().await;
    let post = async |id: &str, customer: &str| {
        api.write(
            "POST",
            TENANTS,
            json!({"tenant_id": id, "name": id, "stripe_customer_id": customer}),
        )
        .await
    };
    let link = async |id: &str, customer: Value| {
        api.write(
            "PATCH",
            &format!("{TENANTS}/{id}"),
            json!({"stripe_customer_id": customer, "city": "Oslo"}),
        )
        .await
    };
    post("a", "cus_a").await.expect(201);
    add(&api, "b").await;
    world
        .db
        .execute("INSERT INTO stripe_customer_aliases VALUES ('cus_alias', 'a')", &[])
        .await
        .expect("an alias");
    for customer in ["cus_a", "cus_alias"] {
        let detail = format!("Stripe customer '{customer}' already belongs to tenant 'a'");
        assert_eq!(post("c", customer).await.problem(409, "customer_taken"), detail);
        assert_eq!(link("b", json!(customer)).await.problem(409, "customer_taken"), detail);
    }
    api.get(Who::Operator, &format!("{TENANTS}/c")).await.problem(404, "tenant_not_found");
    assert_eq!(
        api.get(Who::Operator, &format!("{TENANTS}/b")).await.expect(200)["city"],
        Value::Null,
        "nothing of it was done"
    );
    // A further customer becomes the linked one; then the one before is free.
    assert_eq!(link("a", json!("cus_alias")).await.expect(200)["stripe_customer_id"], "cus_alias");
    assert_eq!(link("b", json!("cus_a")).await.expect(200)["stripe_customer_id"], "cus_a");
    link("b", json!(null)).await.expect(200);
    // Many at once: one gets it.
    let replies = join_all((0..8).map(|n| {
        let post = &post;
        async move { post(&format!("many-{n}"), "cus_a").await }
    }))
    .await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    for reply in replies.iter().filter(|reply| reply.status == 409) {
        reply.problem(409, "customer_taken");
    }
    // Two tenants that exchange their customers: none waits for the other for ever.
    link("b", json!("cus_b")).await.expect(200);
    let exchange = (0..16).map(|n| {
        let (tenant, customer) = if n % 2 == 0 { ("a", "cus_b") } else { ("b", "cus_alias") };
        let link = &link;
        async move { link(tenant, json!(customer)).await }
    });
    assert!(join_all(exchange).await.iter().all(|reply| matches!(reply.status, 200 | 409)));
}

/// What an event's applier finds out of a customer stays true until its commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linking_a_customer_waits_for_the_event_of_that_customer() {
    let world = World::new().await;
    let api = world.api().await;
    add(&api, "acme").await;
    let mut other = tests::connect(&world.settings["DATABASE_NAME"]).await;
    let tx = other.transaction().await.expect("a transaction");
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('cus_new', 0))", &[])
        .await
        .expect("as events::store::lock_customer");
    let event = async {
        world.somebody_waits().await;
        tx.execute(
            "INSERT INTO tenants (tenant_id, name, stripe_customer_id)
                    VALUES ('by-checkout', 'x', 'cus_new')",
            &[],
        )
        .await
        .expect("a tenant");
        tx.commit().await.expect("committed");
    };
    let path = format!("{TENANTS}/acme");
    let (linked, ()) =
        tokio::join!(api.write("PATCH", &path, json!({"stripe_customer_id": "cus_new"})), event);
    assert_eq!(
        linked.problem(409, "customer_taken"),
        "Stripe customer 'cus_new' already belongs to tenant 'by-checkout'"
    );
}

#[tokio::test]
async fn a_tenant_is_deleted_once_nothing_of_it_is_live_and_its_id_stays_taken() {
    let world = World::new().await;
    let api = world.api().await;
    add(&api, "acme").await;
    let path = format!("{TENANTS}/acme");
    let delete = async || api.send(Who::Admin, "DELETE", &path, &[], None).await;
    let mut live = Vec::new();
    for status in ["TRIAL", "ACTIVE", "GRACE"] {
        live.push(format!("{} ({status})", subscribe(&world.db, "acme", status).await));
    }
    subscribe(&world.db, "acme", "SUSPENDED").await;
    let detail = delete().await.problem(409, "live_subscription");
    assert_eq!(detail, format!("Tenant 'acme' has 3 live subscriptions: {}", live.join(", ")));
    for n in (0..3).rev() {
        assert!(
            delete()
                .await
                .problem(409, "live_subscription")
                .contains(&format!("has {} live", n + 1))
        );
        let id = live[n].split(' ').next().unwrap_or_default();
        world
            .db
            .execute(
                "UPDATE subscriptions SET status = 'EXPIRED', grace_end = NULL
                          WHERE subscription_id = $1",
                &[&id],
            )
            .await
            .expect("ended");
    }
    assert_eq!(audit(&world, "acme").await, ["TENANT_CREATED"]);
    let before = api.get(Who::Operator, &path).await.expect(200);
    assert_eq!(delete().await.expect(200), json!({"status": "ok", "tenant_id": "acme"}));
    let after = api.get(Who::Operator, &path).await.expect(200);
    assert_eq!(
        (&after["status"], &after["version"], &after["name"]),
        (&json!("DELETED"), &json!(2), &json!("Acme"))
    );
    // Again, also with the tag of before: it is as was meant.
    assert_eq!(delete().await.expect(200), json!({"status": "ok", "tenant_id": "acme"}));
    api.send(Who::Admin, "DELETE", &path, &[("if-match", "\"1\"")], None).await.expect(200);
    assert_eq!(audit(&world, "acme").await, ["TENANT_CREATED", "TENANT_DELETED"]);
    let row = world
        .row(
            "SELECT previous_state, new_state FROM subscription_audit
                         WHERE event_type = 'TENANT_DELETED'",
        )
        .await;
    assert_eq!(row, json!({"previous_state": before, "new_state": after}));
    for body in [json!({"name": "x"}), json!({})] {
        assert_eq!(
            api.write("PATCH", &path, body).await.problem(409, "tenant_deleted"),
            "Tenant 'acme' is deleted"
        );
    }
    api.write("POST", TENANTS, json!({"tenant_id": "acme", "name": "New"}))
        .await
        .problem(409, "tenant_exists");
    assert_eq!(
        subscribe_over_http(&api, "acme").await.problem(409, "tenant_deleted"),
        "Tenant 'acme' is deleted"
    );
}

async fn subscribe_over_http(api: &Api, tenant: &str) -> tests::api::Reply {
    let body = json!({"tenant_id": tenant, "subscription_type": "MAIN", "device_limit": 10,
    "term_days": 30});
    api.write("POST", "/api/v1/operator/subscriptions", body).await
}

/// Whoever gives a tenant a subscription holds its row: the deletion waits, and sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_waits_for_a_subscription_that_is_being_made_and_then_refuses() {
    let world = World::new().await;
    let api = world.api().await;
    add(&api, "acme").await;
    let path = format!("{TENANTS}/acme");
    let mut other = tests::connect(&world.settings["DATABASE_NAME"]).await;
    for (commits, status) in [(true, "TRIAL"), (false, "ACTIVE")] {
        let tx = other.transaction().await.expect("a transaction");
        tx.execute("SELECT FROM tenants WHERE tenant_id = 'acme' FOR SHARE", &[])
            .await
            .expect("held");
        subscribe(&tx, "acme", status).await;
        let making = async {
            world.somebody_waits().await;
            if commits { tx.commit().await } else { tx.rollback().await }.expect("ended");
        };
        let (deleted, ()) = tokio::join!(api.send(Who::Admin, "DELETE", &path, &[], None), making);
        if commits {
            let detail = deleted.problem(409, "live_subscription");
            assert!(
                detail.contains("1 live subscription: SUB-") && detail.ends_with("(TRIAL)"),
                "{detail}"
            );
            world
                .db
                .execute(
                    "UPDATE subscriptions SET status = 'EXPIRED' WHERE tenant_id = 'acme'",
                    &[],
                )
                .await
                .expect("ended");
        } else {
            deleted.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_deletion_and_a_subscription_at_once_one_is_refused() {
    let world = World::new().await;
    let api = world.api().await;
    for n in 0..12 {
        let tenant = format!("race-{n}");
        add(&api, &tenant).await;
        let path = format!("{TENANTS}/{tenant}");
        let (deleted, made) = tokio::join!(
            api.send(Who::Admin, "DELETE", &path, &[], None),
            subscribe_over_http(&api, &tenant)
        );
        match (deleted.status, made.status) {
            (200, 409) => assert_eq!(
                made.problem(409, "tenant_deleted"),
                format!("Tenant '{tenant}' is deleted")
            ),
            (409, 201) => drop(deleted.problem(409, "live_subscription")),
            other => panic!("{other:?}: {} {}", deleted.body, made.body),
        }
    }
    assert_eq!(
        world
            .count(
                "tenants t JOIN subscriptions s USING (tenant_id)
                            WHERE t.status = 'DELETED' AND s.status <> 'EXPIRED'"
            )
            .await,
        0
    );
}
