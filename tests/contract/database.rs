//! What the database itself guarantees.

use std::fmt::Write;

use futures::future::join_all;
use serde_json::json;
use shared::db::{execute, query};
use shared::outside::secrets::Role;
use tests::{World, connect, stack};
use tokio_postgres::NoTls;

async fn as_role(world: &World, role: shared::outside::secrets::Role) -> tokio_postgres::Client {
    let aws = tests::aws();
    let secrets = shared::outside::secrets::Secrets::read(&aws, &world.env(&[]), role)
        .await
        .expect("the secret");
    let mut config: tokio_postgres::Config = stack("DATABASE_URL").parse().expect("DATABASE_URL");
    config
        .dbname(&world.settings["DATABASE_NAME"])
        .user(role.database_user().expect("a user"))
        .password(secrets.database_password().expect("a password"));
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscription_ids_are_unique_well_formed_and_grow_a_digit() {
    let world = World::new().await;
    let name = &world.settings["DATABASE_NAME"];
    let ids: Vec<String> = join_all((0..8).map(|_| async {
        let client = connect(name).await;
        let mut ids = Vec::new();
        for _ in 0..50 {
            ids.push(
                client
                    .query_one("SELECT generate_subscription_id()", &[])
                    .await
                    .expect("an id")
                    .get::<_, String>(0),
            );
        }
        ids
    }))
    .await
    .concat();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), 400);
    let year = world.row("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY') AS year").await;
    let prefix = format!("SUB-{}-", year["year"].as_str().expect("a year"));
    assert!(
        ids.iter().all(|id| id.strip_prefix(&prefix).is_some_and(|number| number.len() == 4)),
        "{ids:?}"
    );
    world.db.execute("SELECT setval('subscription_number', 9999)", &[]).await.expect("set");
    assert_eq!(
        world.row("SELECT generate_subscription_id() AS id").await,
        json!({"id": format!("{prefix}10000")})
    );
    // The UTC year, wherever the session's clock stands.
    world.db.batch_execute("SET TIME ZONE 'Pacific/Kiritimati'").await.expect("set");
    assert_eq!(
        world.row("SELECT left(generate_subscription_id('2026-12-31T23:59:59Z'), 8) AS id").await,
        json!({"id": "SUB-2026"})
    );
}

#[tokio::test]
async fn audit_rows_stay_whoever_asks() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.receive(&[&event]).await;
    let system = as_role(&world, Role::System).await;
    let partition = world
        .row("SELECT tableoid::regclass::text AS name FROM subscription_audit LIMIT 1")
        .await["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    for table in ["subscription_audit", &partition] {
        for sql in [
            format!("UPDATE {table} SET event_type = 'X'"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
        ] {
            assert!(system.execute(&sql, &[]).await.is_err(), "pulse_system: {sql}");
            // On a partition the owner's policies do not reach, so an UPDATE finds no row to
            // refuse.
            let done = world.db.execute(&sql, &[]).await;
            assert!(matches!(done, Err(_) | Ok(0)), "owner: {sql}");
        }
    }
    assert_eq!(world.count("subscription_audit").await, 3);
    assert_ne!(partition, "subscription_audit_other", "this month has a partition of its own");
}

/// No hourly run came for so long that rows of a month have no partition: they stay where they are,
/// and the months after it get theirs.
#[tokio::test]
async fn months_of_the_audit_that_came_late_keep_no_other_from_its_partition() {
    let world = World::new().await;
    let late = "INSERT INTO subscription_audit (event_timestamp, event_type, actor_type, actor_id)
                VALUES (now() + interval '30 months', 'X', 'system', 'test')";
    for _ in 0..2 {
        world.db.execute(late, &[]).await.expect("a row");
        world.db.execute("SELECT ensure_audit_partitions(32)", &[]).await.expect("partitions");
    }
    assert_eq!(world.count("subscription_audit_other").await, 2);
    let partitions = "pg_inherits WHERE inhparent = 'subscription_audit'::regclass";
    // This month and 32 more but one, and the one for all others.
    assert_eq!(world.count(partitions).await, 33);
}

/// Tables that are the same for every tenant. Another table without a tenant must be added here, by
/// somebody who has thought of it.
const CATALOGUE: [&str; 9] = [
    "device_tiers",
    "plan_tier_defaults",
    "refinery_schema_history",
    "renewal_approvals",
    "renewal_cursors",
    "renewal_runs",
    "stripe_pace",
    "stripe_prices",
    "subscription_plans",
];

const ROLES: [&str; 4] = ["pulse_app", "pulse_operator", "pulse_system", "pulse_telemetry"];

/// Customers' role writes the audit in a customer's name alone, and takes nothing that others need.
#[tokio::test]
async fn customers_role_speaks_for_customers_only_and_uses_up_nothing() {
    let world = World::new().await;
    let tenant = "INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme')";
    world.db.execute(tenant, &[]).await.expect("a tenant");
    let app = as_role(&world, Role::Customer).await;
    app.batch_execute("SET app.tenant_id = 'acme'").await.expect("a tenant's session");
    for (actor, allowed) in [("customer", true), ("system", false), ("admin", false)] {
        let sql = "INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id,
                   actor_type, actor_id) VALUES (now(), 'UPDATED', 'acme', $1, 'stripe')";
        assert_eq!(app.execute(sql, &[&actor]).await.is_ok(), allowed, "{actor}");
    }
    for sql in ["SELECT book_stripe_read(1)", "SELECT * FROM stripe_pace"] {
        assert!(app.query(sql, &[]).await.is_err(), "{sql}");
    }
    // A copy has no privileges of its template's, so the template is looked at.
    let temporary = "SELECT bool_or(has_database_privilege(role, datname, 'TEMP')) AS may
                     FROM pg_database, unnest(ARRAY['pulse_app', 'pulse_operator', 'pulse_system'])
                     AS role WHERE datname LIKE 'template^_t' || $1 || '^_%' ESCAPE '^'";
    let id = std::process::id().to_string();
    let row = world.db.query_one(temporary, &[&id]).await.expect("a privilege");
    assert!(!row.get::<_, Option<bool>>(0).expect("the template"), "temporary tables");
}

/// Trap 124: whoever has telemetry's role knows which devices are in use and when they were seen,
/// and writes nothing but that.
#[tokio::test]
async fn telemetrys_role_sees_ids_of_devices_in_use_and_writes_when_they_were_seen() {
    let world = World::new().await;
    let fill = "INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme'), ('bolt', 'Bolt');
                INSERT INTO devices (tenant_id, device_id, name, registered_at)
                SELECT tenant_id, 'D-1', 'Pump', now() FROM tenants;
                INSERT INTO devices (tenant_id, device_id, status, registered_at, decommissioned_at)
                VALUES ('acme', 'D-2', 'DECOMMISSIONED', now(), now())";
    world.db.batch_execute(fill).await.expect("devices");
    for other in [Role::Customer, Role::System] {
        let refused = as_role(&world, other).await.batch_execute("SET ROLE pulse_telemetry").await;
        assert!(refused.is_err(), "{other:?} takes the role");
    }
    let row = "SELECT rolcanlogin AS logs_in FROM pg_roles WHERE rolname = 'pulse_telemetry'";
    assert_eq!(world.row(row).await, json!({"logs_in": false}));
    let telemetry = as_role(&world, Role::Operator).await;
    telemetry.batch_execute("SET ROLE pulse_telemetry").await.expect("the role");
    let seen = "UPDATE devices SET last_seen_at = now()";
    // With the two of the development seed.
    assert_eq!(telemetry.execute(seen, &[]).await.expect("written"), 4, "those in use");
    let ids = "SELECT tenant_id, device_id, last_seen_at FROM devices";
    assert_eq!(telemetry.query(ids, &[]).await.expect("ids").len(), 4);
    assert_eq!(world.count("devices WHERE last_seen_at IS NOT NULL").await, 4);
    for sql in [
        "SELECT name FROM devices",
        "SELECT tier_id FROM devices",
        "SELECT status FROM devices",
        "SELECT * FROM devices",
        "SELECT FROM tenants",
        "SELECT FROM subscriptions",
        "SELECT FROM subscription_audit",
        "UPDATE devices SET name = 'x'",
        "UPDATE devices SET updated_at = now()",
        "UPDATE devices SET tier_id = 1",
        "DELETE FROM devices",
        "INSERT INTO devices (tenant_id, device_id, registered_at) VALUES ('acme', 'D-3', now())",
        "INSERT INTO subscription_audit (event_timestamp, event_type, actor_type, actor_id)
         VALUES (now(), 'UPDATED', 'service', 'x')",
        "SELECT generate_subscription_id()",
        "SELECT book_stripe_read(1)",
    ] {
        let refused = telemetry.query(sql, &[]).await.expect_err(sql);
        let code = refused.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("42501"), "{sql}: {refused}");
    }
}

/// Trap 35: a new table without a tenant, a forced policy for each role, or a true foreign key
/// fails here.
#[tokio::test]
async fn every_table_has_a_tenant_and_a_forced_policy_for_each_role_or_is_the_catalogues() {
    let world = World::new().await;
    let tables = "SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,
                         EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid
                         AND attname = 'tenant_id' AND NOT attisdropped) AS has_tenant,
                         (SELECT coalesce(jsonb_agg(r.rolname ORDER BY r.rolname), '[]')
                         FROM pg_policy p, unnest(p.polroles) AS of (role)
                          JOIN pg_roles r ON r.oid = of.role WHERE p.polrelid = c.oid) AS policies,
                         c.relname = 'tenants' OR EXISTS (SELECT FROM pg_constraint
                         WHERE conrelid = c.oid AND contype = 'f'
                              AND confrelid IN ('tenants'::regclass,
                              'subscriptions'::regclass)) AS tenant_is_true
                  FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
                  AND c.relnamespace = 'public'::regnamespace ORDER BY 1";
    let mut catalogue = Vec::new();
    for table in world.rows(tables).await {
        let name = tests::text(&table["name"]);
        if table["has_tenant"] == false {
            catalogue.push(name);
            continue;
        }
        assert_eq!(
            (&table["forced"], &table["tenant_is_true"]),
            (&json!(true), &json!(true)),
            "{name}"
        );
        let mut roles = vec!["pulse_app", "pulse_operator", "pulse_owner", "pulse_system"];
        if name == "devices" {
            roles.push("pulse_telemetry");
        }
        assert_eq!(table["policies"], json!(roles), "{name}");
    }
    assert_eq!(catalogue, CATALOGUE);
    // Partitions are reached through their parent only.
    let open = "SELECT c.relname FROM pg_class c WHERE c.relispartition AND c.relkind = 'r'
                AND (NOT c.relrowsecurity OR has_table_privilege('pulse_app', c.oid, 'SELECT')
                OR has_table_privilege('pulse_operator', c.oid, 'SELECT'))";
    assert_eq!(world.rows(open).await, Vec::<serde_json::Value>::new());
}

/// Trap 37: the audit row and the change commit together, or neither does.
#[tokio::test]
async fn a_change_whose_audit_row_is_refused_is_not_made() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = tests::api::Who::Admin;
    world
        .db
        .batch_execute("INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme')")
        .await
        .expect("a tenant");
    let body = json!({"tenant_id": "acme", "subscription_type": "MAIN", "device_limit": 9,
    "term_days": 9});
    let main = tests::text(&api.create_subscription(body).await["subscription_id"]);
    let path = format!("/api/v1/operator/subscriptions/{main}");
    api.write("POST", &format!("{path}/tier-allocations"), json!({"tier_id": 1, "slot_limit": 5}))
        .await
        .expect(201);
    let customer = tests::api::Who::Customer("acme");
    api.send(customer, "POST", "/api/v1/customer/devices", &[], Some(json!({"device_id": "D-1"})))
        .await
        .expect(201);
    let state = "SELECT (SELECT jsonb_agg(to_jsonb(t) ORDER BY 1) FROM subscriptions t
                 WHERE tenant_id = 'acme') AS subscriptions,
                        (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.id)
                        FROM subscription_tier_allocations t WHERE tenant_id = 'acme') AS slots,
                        (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.device_id)
                        FROM devices t) AS devices, (SELECT jsonb_agg(to_jsonb(t))
                        FROM tenants t) AS tenants,
                        (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.plan_id)
                        FROM subscription_plans t) AS plans, (SELECT count(*)
                        FROM idempotency_keys) AS keys";
    let before = world.row(state).await;
    world
        .db
        .batch_execute("REVOKE INSERT ON subscription_audit FROM pulse_operator, pulse_app")
        .await
        .expect("revoked");
    let plan = json!({"plan_id": "team", "name": "Team"});
    let device = json!({"tenant_id": "acme", "device_id": "D-2"});
    for (who, method, path, body) in [
        (admin, "POST", "/api/v1/operator/plans", plan),
        (admin, "PUT", "/api/v1/operator/plans/pro", json!({"name": "Other"})),
        (admin, "PUT", "/api/v1/operator/plans/pro/tier-defaults", json!([])),
        (admin, "PATCH", "/api/v1/operator/tenants/acme", json!({"name": "Other"})),
        (admin, "PATCH", &path, json!({"status": "SUSPENDED"})),
        (admin, "DELETE", &format!("{path}?force=true"), json!({})),
        (admin, "PUT", &format!("{path}/tier-allocations/1"), json!({"slot_limit": 1})),
        (admin, "POST", "/api/v1/operator/devices", device),
        (
            admin,
            "PUT",
            "/api/v1/operator/devices/tier",
            json!({"tenant_id": "acme", "device_id": "D-1", "tier_id": 2}),
        ),
        (customer, "PUT", "/api/v1/customer/devices/D-1/tier", json!({"tier_id": 1})),
        (customer, "DELETE", "/api/v1/customer/devices/D-1", json!({})),
        (customer, "POST", "/api/v1/customer/devices", json!({"device_id": "D-3"})),
        (customer, "PUT", "/api/v1/customer/organization", json!({"city": "Kiel"})),
    ] {
        let reply = api.send(who, method, path, &[("idempotency-key", "k")], Some(body)).await;
        assert_eq!(reply.status, 503, "{method} {path}: {}", reply.body);
        assert_eq!(world.row(state).await, before, "{method} {path}");
    }
}

/// What each role may do, as PostgreSQL has it. A change here is a change of what a function could
/// do to a tenant's rows.
#[tokio::test]
async fn every_role_has_its_reviewed_grants_and_owns_nothing() {
    let world = World::new().await;
    for role in ROLES {
        let is = format!(
            "SELECT rolsuper OR rolbypassrls OR rolcreaterole
             OR rolcreatedb AS mighty, (SELECT count(*) FROM pg_class
             WHERE relowner = r.oid) AS owns,
                    has_schema_privilege(oid, 'public', 'CREATE') AS creates FROM pg_roles r
                    WHERE rolname = '{role}'"
        );
        assert_eq!(
            world.row(&is).await,
            json!({"mighty": false, "owns": 0, "creates": false}),
            "{role}"
        );
    }
    let grants = "SELECT grantee, table_name AS name, string_agg(DISTINCT privilege_type, ' '
                  ORDER BY privilege_type) AS may, NULL AS columns
                  FROM information_schema.role_table_grants WHERE grantee LIKE 'pulse^_%' ESCAPE '^'
                  AND grantee <> 'pulse_owner' AND table_schema = 'public' GROUP BY 1, 2
                  UNION ALL
                  SELECT grantee, table_name, privilege_type, string_agg(column_name, ' '
                  ORDER BY column_name)
                  FROM information_schema.column_privileges c
                  WHERE grantee LIKE 'pulse^_%' ESCAPE '^' AND grantee <> 'pulse_owner'
                  AND table_schema = 'public'
                    AND NOT EXISTS (SELECT FROM information_schema.role_table_grants t
                                    WHERE t.grantee = c.grantee AND t.table_name = c.table_name
                                    AND t.privilege_type = c.privilege_type) GROUP BY 1, 2, 3
                  ORDER BY 1, 2, 3";
    let mut list = String::new();
    for grant in world.rows(grants).await {
        let columns =
            grant["columns"].as_str().map(|columns| format!(" ({columns})")).unwrap_or_default();
        writeln!(
            list,
            "{} {} {}{columns}",
            tests::text(&grant["grantee"]),
            tests::text(&grant["name"]),
            tests::text(&grant["may"])
        )
        .expect("written");
    }
    tests::reviewed("tests/contract/grants.txt", &list);
}

/// Traps 35 and 50: as the customers' role, in SQL, for every table and verb.
#[tokio::test]
async fn customers_role_sees_and_changes_no_row_of_another_tenant_and_none_without_a_tenant() {
    let world = World::new().await;
    for company in ["Acme", "Bolt"] {
        let (_, event) =
            world.paid_checkout(company, &format!("jane@{}.example", company.to_lowercase()));
        world.receive(&[&event]).await;
    }
    let api = world.api().await;
    let plan = json!({"plan_id": "team", "name": "Team"});
    api.send(
        tests::api::Who::Admin,
        "POST",
        "/api/v1/operator/plans",
        &[("idempotency-key", "k")],
        Some(plan),
    )
    .await
    .expect(201);
    let fill =
        "INSERT INTO flags (kind, tenant_id, detail) SELECT 'x', tenant_id, 'x' FROM tenants;
                INSERT INTO devices (tenant_id, device_id, registered_at)
                SELECT tenant_id, 'D', now() FROM tenants;
                INSERT INTO stripe_customer_aliases SELECT 'cus_alias_' || tenant_id, tenant_id
                FROM tenants;
                INSERT INTO idempotency_keys SELECT 'somebody', tenant_id, 'r', 'k', '', '{}', now()
                FROM tenants;
                INSERT INTO limit_usage SELECT tenant_id, 'users', 1, now(), now() FROM tenants;
                INSERT INTO addon_orders (order_id, tenant_id, parent_subscription_id, interval,
                term_end, remaining_days, period_days, lines, amount_cents, currency, expires_at,
                created_at, updated_at)
                SELECT 'ord_' || md5(subscription_id), tenant_id, subscription_id, 'month',
                now() + interval '1 day', 1, 30, '[{}]', 50, 'usd', now() + interval '1 hour',
                now(), now() FROM subscriptions";
    world.db.batch_execute(fill).await.expect("rows for both");
    let tables = world
        .rows(
            "SELECT table_name AS name FROM information_schema.columns
             WHERE column_name = 'tenant_id' AND table_schema = 'public'
                             AND table_name NOT LIKE 'subscription^_audit^_%' ESCAPE '^'
                             ORDER BY 1",
        )
        .await;
    let mut app = as_role(&world, Role::Customer).await;
    for table in tables.iter().map(|table| tests::text(&table["name"])) {
        let of = async |tenant: &str| {
            world.count(&format!("{table} WHERE tenant_id = '{tenant}'")).await
        };
        let (own, others) = (of("acme").await, of("bolt").await);
        assert!(own > 0 && others > 0, "{table}: rows of both to look at");
        for tenant in [None, Some(""), Some("nobody"), Some("acme")] {
            let tx = app.transaction().await.expect("a transaction");
            if let Some(tenant) = tenant {
                tx.execute("SELECT set_config('app.tenant_id', $1, true)", &[&tenant])
                    .await
                    .expect("set");
            }
            let seen = tx
                .query_one(
                    &format!(
                        "SELECT count(*), count(*) FILTER (WHERE tenant_id <> 'acme') FROM {table}"
                    ),
                    &[],
                )
                .await;
            // No grant at all is as good as no row.
            if let Ok(seen) = seen {
                let expected = if tenant == Some("acme") { own } else { 0 };
                assert_eq!(
                    (seen.get::<_, i64>(0), seen.get::<_, i64>(1)),
                    (expected, 0),
                    "{table} as {tenant:?}"
                );
            }
            drop(tx);
            let tx = app.transaction().await.expect("a transaction");
            if let Some(tenant) = tenant {
                tx.execute("SELECT set_config('app.tenant_id', $1, true)", &[&tenant])
                    .await
                    .expect("set");
            }
            let columns = world
                .row(&format!(
                    "SELECT string_agg(column_name, ' ') AS names
                     FROM information_schema.column_privileges
                WHERE grantee = 'pulse_app' AND privilege_type = 'UPDATE'
                AND table_name = '{table}'"
                ))
                .await;
            if let Some(column) =
                columns["names"].as_str().and_then(|names| names.split(' ').next())
            {
                let changed = tx
                    .execute(
                        &format!("UPDATE {table} SET {column} = {column} WHERE tenant_id = 'bolt'"),
                        &[],
                    )
                    .await
                    .expect("an update");
                assert_eq!(changed, 0, "{table} as {tenant:?}");
            }
            drop(tx);
            let tx = app.transaction().await.expect("a transaction");
            if let Some(tenant) = tenant {
                tx.execute("SELECT set_config('app.tenant_id', $1, true)", &[&tenant])
                    .await
                    .expect("set");
            }
            assert!(
                !matches!(
                    tx.execute(&format!("DELETE FROM {table} WHERE tenant_id = 'bolt'"), &[]).await,
                    Ok(1..)
                ),
                "{table} as {tenant:?}"
            );
            drop(tx);
        }
    }
    // A row for another tenant, and a limit of one's own.
    for sql in [
        "INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, actor_type,
         actor_id) VALUES (now(), 'X', 'bolt', 'customer', 'x')",
        "INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, actor_type,
         actor_id) VALUES (now(), 'X', NULL, 'customer', 'x')",
        "INSERT INTO idempotency_keys VALUES ('s', 'bolt', 'r', 'k2', '', '{}', now())",
        "UPDATE subscriptions SET device_limit = 100000",
        "UPDATE subscriptions SET status = 'ACTIVE'",
        "UPDATE subscriptions SET tenant_id = 'bolt'",
        "UPDATE subscription_tier_allocations SET slot_limit = 100000",
        "UPDATE tenants SET support_tier = 'business'",
        "UPDATE tenants SET stripe_customer_id = 'cus_mine'",
        "UPDATE tenants SET status = 'ACTIVE'",
        "UPDATE subscription_plans SET device_limit = 1",
        "UPDATE addon_orders SET amount_cents = 50",
        "UPDATE addon_orders SET lines = '[]'",
        "UPDATE addon_orders SET status = 'paid'",
        "INSERT INTO addon_orders (order_id, status) VALUES ('ord_' || md5('x'), 'paid')",
        "SELECT * FROM subscription_audit",
        "SELECT * FROM stripe_events",
        "SELECT * FROM outbox_steps",
        "SELECT leave_stripe_customer_step('bolt', '[\"name\"]', now())",
        "SELECT leave_organization_step('bolt', now())",
        "DELETE FROM subscriptions",
    ] {
        let tx = app.transaction().await.expect("a transaction");
        tx.execute("SELECT set_config('app.tenant_id', 'acme', true)", &[]).await.expect("set");
        assert!(tx.execute(sql, &[]).await.is_err(), "{sql}");
    }
}

/// Trap 35: what one request leaves on a pooled connection, an error included, shows the next one
/// nothing.
#[tokio::test]
async fn a_pooled_connection_shows_the_next_request_nothing_also_after_an_error() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.receive(&[&event]).await;
    let env = world.env(&[("DATABASE_POOL_SIZE", "1")]);
    let secrets = shared::outside::secrets::Secrets::read(&tests::aws(), &env, Role::Customer)
        .await
        .expect("the secret");
    let db = shared::db::Db::new(
        shared::process::config::DatabaseSettings::from_env(&env).expect("settings"),
        "pulse_app",
        secrets,
    )
    .expect("a pool");
    let acme = shared::base::ids::TenantId::parse("acme").expect("an id");
    for ending in ["commit", "error", "dropped"] {
        let tx = shared::domain::tenants::session::begin(&db, &acme).await.expect("a transaction");
        assert_eq!(query(&tx, "SELECT FROM subscriptions", &[]).await.expect("rows").len(), 1);
        match ending {
            "commit" => tx.commit().await.expect("committed"),
            "error" => assert!(execute(&tx, "SELECT 1 / 0", &[]).await.is_err()),
            _ => {}
        }
        drop(tx);
        let connection = db.connection().await.expect("the same connection");
        assert_eq!(
            connection.query("SELECT FROM subscriptions", &[]).await.expect("rows").len(),
            0,
            "{ending}"
        );
        let left: Option<String> = connection
            .query_one("SELECT current_setting('app.tenant_id', true)", &[])
            .await
            .expect("a row")
            .get(0);
        assert!(left.is_none_or(|left| left.is_empty()), "{ending}");
    }
}
