//! An operator deletes a company.

use serde_json::json;
use tests::World;
use tests::api::{Api, Who};
use tokio_postgres::GenericClient;

use super::{TENANTS, add, audit};

/// A subscription in some status, by SQL.
async fn subscribe(db: &impl GenericClient, tenant: &str, status: &str) -> String {
    let sql = "INSERT INTO subscriptions (tenant_id, subscription_type, status, device_limit,
               term_start, term_end, grace_end, created_by)
               VALUES ($1, 'MAIN', $2, 1, now(), now() + interval '1 day', CASE $2 WHEN 'GRACE'
               THEN now() END, 'test') RETURNING subscription_id";
    db.query_one(sql, &[&tenant, &status]).await.expect("a subscription").get(0)
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
            world.a_lock_is_waited_for().await;
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
