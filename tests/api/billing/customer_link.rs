//! The link between a company and its Stripe customer, and the portal behind it.

use serde_json::{Value, json};
use shared::outside::secrets::{Role, Secrets};
use tests::{World, stack, text};

use super::{ACME, BOLT, checkout, linked, portal, wanted, world};

#[tokio::test]
async fn the_portal_opens_for_a_company_that_stripe_knows() {
    let (world, api) = world().await;
    let none = portal(&api, ACME, "https://app.pulse.example/billing").await;
    assert_eq!(
        none.problem(409, "no_billing_account"),
        "The company has no billing account yet. It gets one with its first checkout."
    );
    assert!(world.stripe.requests().is_empty());
    checkout(&api, ACME, wanted()).await.expect(200);
    let opened = portal(&api, ACME, "https://app.pulse.example/billing").await.expect(200);
    let session = text(&opened["url"])
        .rsplit('/')
        .next()
        .and_then(|id| world.stripe.object(id))
        .expect("a session");
    assert_eq!(
        (&session["customer"], &session["return_url"]),
        (&linked(&world, "acme").await, &json!("https://app.pulse.example/billing"))
    );
    assert_eq!(opened, json!({"url": session["url"]}), "nothing else of Stripe's");
    portal(&api, BOLT, "https://app.pulse.example/billing")
        .await
        .problem(409, "no_billing_account");
    let again = portal(&api, ACME, "https://app.pulse.example/billing").await.expect(200);
    assert_ne!(again, opened, "each visit is its own");
    assert_eq!(portal(&api, ACME, "").await.faults(), ["return_url must not be empty"]);
}

/// Trap 87: Stripe answers a key for a day with the customer that it made then.
#[tokio::test]
async fn a_customer_that_an_operator_has_unlinked_does_not_come_back_by_a_replayed_key() {
    let (world, api) = world().await;
    checkout(&api, ACME, wanted()).await.expect(200);
    let first = linked(&world, "acme").await;
    let link = async |tenant: &str, customer: Value| {
        let path = format!("/api/v1/operator/tenants/{tenant}");
        api.write("PATCH", &path, json!({"stripe_customer_id": customer})).await.expect(200)
    };
    // Perhaps because it is another company's.
    link("acme", Value::Null).await;
    link("bolt", first.clone()).await;
    checkout(&api, ACME, wanted()).await.expect(200);
    let second = linked(&world, "acme").await;
    assert!(second.is_string() && second != first, "{first} {second}");
    assert_eq!(linked(&world, "bolt").await, first);
    checkout(&api, ACME, wanted()).await.expect(200);
    assert_eq!(linked(&world, "acme").await, second, "and it stays");
}

/// In SQL, as customers' role: what the function that links would have to be tricked into.
#[tokio::test]
async fn customers_role_links_its_own_tenant_once_and_nothing_else() {
    let (world, _) = world().await;
    let others = "INSERT INTO tenants (tenant_id, name, stripe_customer_id)
                  VALUES ('cog', 'Cog', 'cus_cog')";
    world.db.execute(others, &[]).await.expect("a tenant");
    world
        .db
        .execute(
            "INSERT INTO stripe_customer_aliases (stripe_customer_id, tenant_id)
                      VALUES ('cus_cog2', 'cog')",
            &[],
        )
        .await
        .expect("an alias");
    let mut app = as_customer(&world).await;
    let link = async |app: &mut tokio_postgres::Client, tenant: Option<&str>, sql: &str| {
        let tx = app.transaction().await.expect("a transaction");
        if let Some(tenant) = tenant {
            tx.execute("SELECT set_config('app.tenant_id', $1, true)", &[&tenant])
                .await
                .expect("set");
        }
        let done = tx.query_one(sql, &[]).await.map(|row| row.get::<_, bool>(0));
        tx.commit().await.expect("ended");
        done.map_err(|error| error.code().map(|state| state.code().to_owned()))
    };
    let denied = Err(Some("42501".to_owned()));
    let update = "UPDATE tenants SET stripe_customer_id = 'cus_mine' RETURNING true";
    assert_eq!(link(&mut app, Some("acme"), update).await, denied, "never directly");
    let to = |customer: &str| format!("SELECT link_stripe_customer('{customer}')");
    for (tenant, customer) in [
        (None, "cus_mine"),
        (Some(""), "cus_mine"),
        (Some("nobody"), "cus_mine"),
        (Some("cog"), "cus_mine"),
        (Some("acme"), "cus_cog"),
        (Some("acme"), "cus_cog2"),
        (Some("acme"), "sub_1"),
        (Some("acme"), ""),
        (Some("acme"), "cus_1 OR true"),
    ] {
        assert_eq!(
            link(&mut app, tenant, &to(customer)).await,
            Ok(false),
            "{customer} as {tenant:?}"
        );
    }
    assert_eq!(
        link(&mut app, Some("acme"), "SELECT coalesce(link_stripe_customer(NULL), false)").await,
        Ok(false)
    );
    // A table of the caller's own, found first by whoever has no path of their own.
    app.batch_execute(
        "CREATE TEMP TABLE tenants (tenant_id text, status text, stripe_customer_id text)",
    )
    .await
    .expect("a temporary table");
    assert_eq!(link(&mut app, Some("acme"), &to("cus_mine")).await, Ok(true));
    app.batch_execute("DROP TABLE pg_temp.tenants").await.expect("dropped");
    assert_eq!(link(&mut app, Some("acme"), &to("cus_other")).await, Ok(false), "a link stays");
    assert_eq!(
        link(&mut app, Some("bolt"), &to("cus_mine")).await,
        Ok(false),
        "and is one tenant's"
    );
    world
        .db
        .execute("UPDATE tenants SET status = 'DELETED' WHERE tenant_id = 'bolt'", &[])
        .await
        .expect("deleted");
    assert_eq!(link(&mut app, Some("bolt"), &to("cus_late")).await, Ok(false));
    let now = world
        .rows(
            "SELECT tenant_id, stripe_customer_id FROM tenants
                          WHERE tenant_id IN ('acme', 'bolt', 'cog') ORDER BY 1",
        )
        .await;
    let of = |tenant: &str, customer: Value| {
        json!({"tenant_id": tenant,
        "stripe_customer_id": customer})
    };
    assert_eq!(
        now,
        [of("acme", json!("cus_mine")), of("bolt", Value::Null), of("cog", json!("cus_cog"))]
    );

    let may = "SELECT string_agg(r.rolname, ' ' ORDER BY r.rolname) AS roles FROM pg_roles r
               WHERE r.rolname LIKE 'pulse^_%' ESCAPE '^'
               AND has_function_privilege(r.oid, 'link_stripe_customer(text)', 'EXECUTE')";
    assert_eq!(world.row(may).await["roles"], "pulse_app pulse_owner");
    let is = "SELECT prosecdef AND proconfig IS NOT NULL
              AND pg_get_userbyid(proowner) = 'pulse_owner' AS pinned FROM pg_proc
              WHERE proname = 'link_stripe_customer'";
    assert_eq!(world.row(is).await["pinned"], true);
}

async fn as_customer(world: &World) -> tokio_postgres::Client {
    let secrets =
        Secrets::read(&tests::aws(), &world.env(&[]), Role::Customer).await.expect("the secret");
    let mut config: tokio_postgres::Config = stack("DATABASE_URL").parse().expect("DATABASE_URL");
    config
        .dbname(&world.settings["DATABASE_NAME"])
        .user("pulse_app")
        .password(secrets.database_password().expect("a password"));
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}
