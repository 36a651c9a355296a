//! The Stripe customer of a company.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::World;
use tests::api::Who;

use super::{TENANTS, add};

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
        world.a_lock_is_waited_for().await;
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
