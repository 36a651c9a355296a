//! Workers claim steps; a step is given up, retried or dismissed.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::World;

use super::provisioned;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_at_once_do_each_step_once() {
    let world = World::new().await;
    for number in 0..6 {
        provisioned(&world, &format!("Acme {number}"), &format!("admin{number}@acme.example"))
            .await;
    }
    assert!(join_all((0..8).map(|_| world.provisioning.handle())).await.iter().all(Result::is_ok));
    world.outbox().await;
    let users = world.keycloak.users();
    assert_eq!(users.len(), 6);
    assert!(users.iter().all(|user| user.mails_sent == 1), "no mail twice");
    assert_eq!(world.count("outbox_steps WHERE status = 'done' AND attempts = 1").await, 12);
    assert_eq!(world.count("subscription_audit WHERE actor_id = 'outbox'").await, 12);
}

/// Trap 4: a worker that died gives its step back after the lease; one that only was slow has no
/// say any more.
#[tokio::test]
async fn a_step_whose_worker_died_is_claimed_again_and_the_slow_worker_has_no_effect() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    // A worker that claimed the step and died.
    world
        .db
        .execute(
            "UPDATE outbox_steps SET claim = claim + 1, attempts = 1,
                  claimed_until = now() + interval '120 seconds' WHERE kind = 'keycloak_user'",
            &[],
        )
        .await
        .expect("claimed");
    assert_eq!(world.outbox().await["done"], 0, "its lease stands");
    world.clock.run_ahead(121);
    // Taken over by one that is itself overtaken while Keycloak answers.
    world.keycloak.set_latency(std::time::Duration::from_millis(150));
    let overtake = async {
        while world.count("outbox_steps WHERE kind = 'keycloak_user' AND attempts = 2").await == 0 {
        }
        world
            .db
            .execute("UPDATE outbox_steps SET claim = claim + 1 WHERE kind = 'keycloak_user'", &[])
            .await
            .expect("overtaken");
    };
    let (_, ()) = tokio::join!(world.provisioning.handle(), overtake);
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'USER_CREATED'").await,
        0,
        "the overtaken worker wrote nothing"
    );
    world.keycloak.set_latency(std::time::Duration::ZERO);
    world.clock.run_ahead(500);
    assert_eq!(world.outbox().await["done"], 2);
    assert_eq!(world.keycloak.users().len(), 1);
}

/// A step is tried for 72 hours, then it waits for an operator, who retries or dismisses it.
#[tokio::test]
async fn a_step_is_given_up_after_72_hours_and_an_operator_retries_or_dismisses_it() {
    let world = World::new().await;
    for company in ["Retried", "Dismissed"] {
        provisioned(&world, company, &format!("admin@{company}.example")).await;
    }
    world.keycloak.stop().await;
    world.outbox().await;
    world.clock.run_ahead(71 * 3600);
    let all = "of each a login and an organization";
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 4, "failed": 0}), "{all}");
    world.clock.run_ahead(72 * 3600);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 4}), "{all}");
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 4);

    world.keycloak.restart().await.expect("back");
    world.clock.pass(3600);
    assert_eq!(
        world.outbox().await,
        json!({"done": 0, "retried": 0, "failed": 0}),
        "a failed step waits for an operator"
    );
    let api = world.api().await;
    let act = async |tenant: &str, action: &str, body: Value| {
        let step = world
            .row(&format!(
                "SELECT step_id FROM outbox_steps WHERE tenant_id = '{tenant}'
             AND kind = 'keycloak_user'"
            ))
            .await;
        api.write(
            "POST",
            &format!("/api/v1/operator/provisioning/{}/{action}", step["step_id"]),
            body,
        )
        .await
    };
    act("retried", "retry", json!({"email": "new@retried.example"})).await.expect(200);
    act("dismissed", "dismiss", json!({"note": "came by telephone"})).await.expect(200);
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(
        world.keycloak.users().into_iter().map(|user| user.username).collect::<Vec<_>>(),
        ["new@retried.example"]
    );
    assert_eq!(
        world.count("outbox_steps WHERE tenant_id = 'dismissed' AND status = 'dismissed'").await,
        2,
        "and the mail that waited for it"
    );
    for tenant in ["retried", "dismissed"] {
        act(tenant, "retry", json!({})).await.problem(409, "step_final");
        act(tenant, "dismiss", json!({"note": "x"})).await.problem(409, "step_final");
    }
    let audit = world
        .rows(
            "SELECT event_type, tenant_id, previous_state->>'status' AS before
                    FROM subscription_audit WHERE event_type LIKE 'PROVISIONING%' ORDER BY id",
        )
        .await;
    let row = |event_type: &str, tenant: &str| {
        json!({
            "event_type": event_type, "tenant_id": tenant, "before": "failed",
        })
    };
    assert_eq!(
        audit,
        [row("PROVISIONING_RETRIED", "retried"), row("PROVISIONING_DISMISSED", "dismissed")]
    );
}
