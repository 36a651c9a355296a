//! What is personal is taken out of a deleted company's rows, and the books stay.

use serde_json::{Value, json};
use simulators::keycloak::User;
use simulators::stripe::{Address, Payer};
use tests::api::{Api, Reply, Who};
use tests::{World, text};

use super::TENANTS;

/// Stands in everything personal of the company, and is too long to stand in a random id.
const MARK: &str = "zqxjkv";

const ACME: Who<'_> = Who::Customer("acme");

/// The tables in which the mark stands, whatever tables there are.
async fn marked(world: &World) -> Vec<String> {
    let tables = world
        .rows(
            "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
             AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname",
        )
        .await;
    let mut found = Vec::new();
    for table in tables.iter().map(|table| text(&table["name"])) {
        let rows = format!("{table} AS row WHERE row::text ILIKE '%{MARK}%'");
        if world.count(&rows).await > 0 {
            found.push(table);
        }
    }
    found
}

async fn erase(api: &Api) -> Reply {
    let note = json!({"note": "Asked for by letter of 2 November"});
    api.write("POST", &format!("{TENANTS}/acme/erase"), note).await
}

async fn hear_everything(world: &World) {
    for event in world.stripe.events() {
        world.receive(&[&event]).await;
    }
}

/// A company that has left its mark wherever it can, without a subscription at Stripe any more.
async fn company(world: &World, api: &Api) -> Value {
    let admin = format!("{MARK}@acme.example");
    let session = world.checkout(
        "price_pro_month",
        &[("company_name", "Acme"), ("admin_email", &admin), ("admin_first_name", "Zqxjkv")],
    );
    let address = Address { line1: Some("Zqxjkv Road 1".to_owned()), ..Address::default() };
    let payer = Payer {
        email: admin.clone(),
        name: Some("Zqxjkv Doe".to_owned()),
        phone: Some("+49 zqxjkv".to_owned()),
        address: Some(address),
    };
    world.stripe.pay(&session, payer).expect("paid");
    hear_everything(world).await;
    world.outbox().await;
    let subscription = world.row("SELECT * FROM subscriptions WHERE tenant_id = 'acme'").await;

    let change = json!({"name": "Zqxjkv GmbH", "metadata": {"reached": "zqxjkv after 5 pm"}});
    api.write("PATCH", &format!("{TENANTS}/acme"), change).await.expect(200);
    let change = json!({"contact_name": "Zqxjkv Doe"});
    api.send(ACME, "PUT", "/api/v1/customer/organization", &[], Some(change)).await.expect(200);
    let device = json!({"device_id": "DEV-1", "name": "Zqxjkv's pump", "site_id": "zqxjkv-home"});
    api.send(ACME, "POST", "/api/v1/customer/devices", &[("idempotency-key", "d1")], Some(device))
        .await
        .expect(201);
    let user = json!({"tenant_id": "acme", "email": "two.zqxjkv@acme.example", "first_name": "Zqxjkv",
        "last_name": "Two"});
    api.send(
        Who::Admin,
        "POST",
        "/api/v1/operator/users",
        &[("idempotency-key", "u1")],
        Some(user),
    )
    .await
    .expect(201);
    world.outbox().await;
    // As a mail server repeats whom it refuses.
    world
        .db
        .batch_execute(
            "UPDATE outbox_steps SET last_error = 'mail server: 550 <zqxjkv@acme.example> is unknown',
             result = result || '{\"to\": \"zqxjkv@acme.example\"}' WHERE kind = 'welcome_mail';
             INSERT INTO flags (kind, tenant_id, detail, resolved_at, resolution_note, created_at)
             VALUES ('step_failed', 'acme', '550 <zqxjkv@acme.example> is unknown', now(),
                     'asked zqxjkv@acme.example', now())",
        )
        .await
        .expect("an error and a flag");
    world.stripe.cancel(&text(&subscription["stripe_subscription_id"])).expect("cancelled");
    hear_everything(world).await;
    // Steps of an organization wait a minute for others of their tenant.
    world.clock.pass(61);
    world.outbox().await;
    subscription
}

#[tokio::test]
async fn nothing_personal_is_left_of_an_erased_tenant_and_the_books_stay() {
    let world = World::new().await;
    let api = world.api().await;
    let subscription = company(&world, &api).await;
    let customer =
        world.row("SELECT stripe_customer_id AS id FROM tenants WHERE name LIKE 'Zqxjkv%'");
    let customer = text(&customer.await["id"]);
    // Whom Keycloak finds too where upper and lower case count for nothing.
    let _ = world.keycloak.add_user(User {
        username: "stranger@elsewhere.example".to_owned(),
        attributes: [("tenant_id".to_owned(), vec!["ACME".to_owned()])].into(),
        ..User::default()
    });

    assert_eq!(world.keycloak.organizations().len(), 1);
    assert_eq!(
        erase(&api).await.problem(409, "tenant_not_deleted"),
        "Tenant 'acme' is not deleted: delete it first"
    );
    api.send(Who::Admin, "DELETE", &format!("{TENANTS}/acme"), &[], None).await.expect(200);
    world.db.execute("UPDATE flags SET resolved_at = NULL", &[]).await.expect("open");
    assert_eq!(
        erase(&api).await.problem(409, "tenant_unfinished"),
        "Tenant 'acme' still has open flags (1)"
    );
    world.db.execute("UPDATE flags SET resolved_at = now()", &[]).await.expect("resolved");
    assert_eq!(
        marked(&world).await,
        [
            "devices",
            "flags",
            "idempotency_keys",
            "outbox_steps",
            "stripe_events",
            "subscription_audit",
            "tenants"
        ]
    );

    let books = async || {
        (
            world.rows("SELECT * FROM subscriptions ORDER BY subscription_id").await,
            world.rows("SELECT event_id, event_type, status FROM stripe_events ORDER BY 1").await,
            world
                .rows(
                    "SELECT id, event_timestamp, event_type, subscription_id, actor_id
                     FROM subscription_audit WHERE event_type <> 'TENANT_ERASED' ORDER BY id",
                )
                .await,
        )
    };
    let before = books().await;
    // Keycloak fails after the first of two users: the repetition goes on.
    world.keycloak.fail_next_on("/users/", 1, 500);
    erase(&api).await.problem(502, "upstream");
    let done = erase(&api).await.expect(200);
    assert_eq!(
        done,
        json!({"tenant_id": "acme", "erased_at": done["erased_at"], "users": 2, "rows": {
            "devices": 1, "stripe_events": before.1.len(), "outbox_steps": 2, "flags": 1,
            "idempotency_keys": done["rows"]["idempotency_keys"],
            "subscription_audit": done["rows"]["subscription_audit"]}})
    );
    assert_eq!(marked(&world).await, [""; 0]);
    assert_eq!(books().await, before);
    assert_eq!(subscription["tenant_id"], "acme");
    let users: Vec<_> = world.keycloak.users().into_iter().map(|user| user.username).collect();
    assert_eq!(users, ["stranger@elsewhere.example"]);
    assert_eq!(world.keycloak.organizations().len(), 0, "its name is the company's");

    let tenant = api.get(Who::Operator, &format!("{TENANTS}/acme")).await.expect(200);
    assert_eq!(
        (&tenant["name"], &tenant["status"], &tenant["erased_at"], &tenant["stripe_customer_id"]),
        (&json!("acme"), &json!("DELETED"), &done["erased_at"], &json!(customer))
    );
    // What a row says that it replaced is what the row before it left.
    let states = world
        .rows(
            "SELECT previous_state, new_state FROM subscription_audit
             WHERE event_type IN ('TENANT_UPDATED', 'ORGANIZATION_UPDATED', 'TENANT_DELETED')
             ORDER BY id",
        )
        .await;
    assert_eq!(states.len(), 3);
    for pair in states.windows(2) {
        let left = pair[0]["new_state"].as_object().expect("a state");
        for (field, replaced) in pair[1]["previous_state"].as_object().expect("a state") {
            // An operator sees more of a tenant than its customers do.
            assert_eq!(left.get(field).unwrap_or(replaced), replaced, "{field}");
        }
    }
    let erasures = "/api/v1/operator/audit?event_type=TENANT_ERASED";
    let rows = api.get(Who::Operator, erasures).await.expect(200)["audit"].clone();
    assert_eq!(
        rows[0]["details"],
        json!({"note": "Asked for by letter of 2 November", "users": 2, "rows": done["rows"]})
    );

    // Again: nothing is left to do, and nothing is said about it.
    let again = erase(&api).await.expect(200);
    assert_eq!((&again["erased_at"], &again["users"]), (&done["erased_at"], &json!(0)));
    assert_eq!(api.get(Who::Operator, erasures).await.expect(200)["count"], 1);

    // What Stripe still says of the customer comes with its event, and goes by a repetition.
    let news = json!({"phone": "+49 zqxjkv 8"});
    world.stripe.update_customer(&customer, &news).expect("news");
    world.receive(&[&world.event("customer.updated")]).await;
    assert_eq!(marked(&world).await, ["stripe_events"]);
    world.clock.pass(60);
    assert_eq!(erase(&api).await.expect(200)["rows"]["stripe_events"], 1);
    assert_eq!(marked(&world).await, [""; 0]);
    assert_eq!(api.get(Who::Operator, erasures).await.expect(200)["count"], 2);
}

/// An audit row may lose what is personal, by whoever has the owner's rights, and nothing else.
#[tokio::test]
async fn an_audit_row_loses_what_is_personal_and_nothing_else() {
    let world = World::new().await;
    let api = world.api().await;
    company(&world, &api).await;
    for change in [
        "details = '{}'",
        "previous_state = NULL, new_state = NULL",
        "new_state = without_personal(new_state), actor_id = 'nobody'",
        "new_state = without_personal(new_state), event_timestamp = event_timestamp + '1 second'",
        "new_state = without_personal(new_state) - 'version'",
        "details = details",
    ] {
        let sql =
            format!("UPDATE subscription_audit SET {change} WHERE event_type = 'TENANT_UPDATED'");
        let refused = world.db.execute(&sql, &[]).await.expect_err(change);
        assert!(format!("{refused:?}").contains("append-only"), "{change}: {refused:?}");
    }
    // A tenant that is not deleted is not erased, by no role.
    let refused = world.db.execute("SELECT erase_tenant('acme')", &[]).await.expect_err("alive");
    assert!(format!("{refused:?}").contains("tenant acme is not deleted"), "{refused:?}");
}
