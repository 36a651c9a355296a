//! The steps at Keycloak: a user of the tenant and the welcome mail.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use simulators::keycloak::User;
use tests::{World, text};

use super::{provisioned, summary};

#[tokio::test]
async fn keycloak_away_leaves_the_tenant_and_a_pending_step_that_is_done_when_it_returns() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.keycloak.stop().await;
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 1, "failed": 0}));
    let step = world
        .row(
            "SELECT status, attempts, last_error,
              next_attempt_at > now() + interval '3 seconds' AS later FROM outbox_steps
              WHERE kind = 'keycloak_user'",
        )
        .await;
    assert_eq!(
        (&step["status"], &step["attempts"], &step["later"]),
        (&json!("pending"), &json!(1), &json!(true))
    );
    assert!(text(&step["last_error"]).starts_with("Keycloak"), "{step}");
    assert!(!text(&step["last_error"]).contains("jane"), "nothing personal in it");
    assert_eq!(
        world.outbox().await,
        json!({"done": 0, "retried": 0, "failed": 0}),
        "not before its time"
    );
    world.keycloak.restart().await.expect("back");
    world.clock.run_ahead(6);
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(world.keycloak.users().len(), 1);
}

/// Trap 39: a user that a try left half-made gets what it lacks, and never a twin.
#[tokio::test]
async fn a_lost_answer_at_any_call_makes_no_second_user() {
    let world = World::new().await;
    for (number, path) in ["/users", "/role-mappings/realm"].into_iter().enumerate() {
        let email = format!("admin{number}@acme.example");
        provisioned(&world, &format!("Acme {number}"), &email).await;
        // The search before it is a GET of the same path: it passes first.
        world.keycloak.lose_answer_on(path, 502);
        world.keycloak.lose_answer_on(path, 502);
        let mut tries = 0;
        while world
            .keycloak
            .users()
            .iter()
            .filter(|user| user.email.as_deref() == Some(&email) && user.mails_sent > 0)
            .count()
            == 0
        {
            tries += 1;
            assert!(tries < 20);
            world.outbox().await;
            world.clock.pass(1000);
        }
        assert!(tries > 1, "something was lost");
        let users: Vec<_> = world
            .keycloak
            .users()
            .into_iter()
            .filter(|user| user.email.as_deref() == Some(&email))
            .collect();
        assert_eq!(users.len(), 1, "{path}");
        assert!(
            users[0].roles.contains("customer") && users[0].attributes.contains_key("tenant_id"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_existing_user_gets_what_it_lacks_and_another_tenants_user_is_left_alone() {
    let world = World::new().await;
    let user = |email: &str, tenant: Option<&str>| User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        attributes: tenant
            .map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()]))
            .into_iter()
            .collect(),
        ..User::default()
    };
    let half_made = world.keycloak.add_user(user("half@acme.example", None));
    let theirs = world.keycloak.add_user(user("taken@acme.example", Some("demo-cold-chain")));
    provisioned(&world, "Half", "Half@acme.example").await;
    provisioned(&world, "Taken", "taken@acme.example").await;
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 1}));

    let users = world.keycloak.users();
    assert_eq!(users.len(), 2, "none was made");
    let find = |id: &str| users.iter().find(|user| user.id == id).expect("still there");
    assert_eq!(
        (
            find(&half_made).attributes["tenant_id"][0].as_str(),
            find(&half_made).roles.contains("customer"),
            find(&half_made).mails_sent
        ),
        ("half", true, 1)
    );
    assert_eq!(
        (
            find(&theirs).attributes["tenant_id"][0].as_str(),
            find(&theirs).roles.len(),
            find(&theirs).mails_sent
        ),
        ("demo-cold-chain", 0, 0)
    );
    assert_eq!(
        world
            .count("subscription_audit WHERE event_type = 'USER_UPDATED' AND tenant_id = 'half'")
            .await,
        1
    );
    assert_eq!(
        world.row("SELECT kind, tenant_id FROM flags").await,
        json!({"kind": "step_failed", "tenant_id": "taken"})
    );
    let steps = world
        .rows("SELECT kind, status FROM outbox_steps WHERE tenant_id = 'taken' ORDER BY step_id")
        .await;
    assert_eq!(
        steps,
        [
            json!({"kind": "keycloak_user", "status": "failed"}),
            json!({"kind": "welcome_mail", "status": "pending"})
        ],
        "no mail without its user"
    );
}

#[tokio::test]
async fn a_mail_address_that_keycloak_refuses_fails_for_an_operator_to_see() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.keycloak.fail_next_on("/users", 1, 400);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 1}));
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 1);
}

/// A user that belongs to no tenant yet, of whom two new companies say that it is their admin: it
/// becomes one's, and the other's step says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_companies_that_claim_one_user_at_once_one_gets_it() {
    let world = World::new().await;
    // Claims take their time, so that two begin before either has committed, and Keycloak takes
    // its, so that they would overlap.
    world
        .db
        .batch_execute(
            "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM
             pg_sleep(0.3); RETURN NEW; END $$;
             CREATE TRIGGER be_slow BEFORE UPDATE OF claim
             ON outbox_steps FOR EACH ROW EXECUTE FUNCTION be_slow()",
        )
        .await
        .expect("slow");
    world.keycloak.set_latency(Duration::from_millis(50));
    let email = "shared@acme.example";
    let id = world.keycloak.add_user(User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        ..User::default()
    });
    provisioned(&world, "One", email).await;
    provisioned(&world, "Other", "Shared@acme.example").await;
    let steps =
        "SELECT tenant_id, status FROM outbox_steps WHERE kind = 'keycloak_user' ORDER BY status";
    for _ in 0..5 {
        assert!(
            join_all((0..4).map(|_| world.provisioning.handle())).await.iter().all(Result::is_ok)
        );
        let done = world.rows(&format!("SELECT * FROM ({steps}) s WHERE status = 'done'")).await;
        assert!(done.len() <= 1, "{done:?}");
        world.clock.pass(20);
    }
    let steps = world.rows(steps).await;
    assert_eq!((&steps[0]["status"], &steps[1]["status"]), (&json!("done"), &json!("failed")));
    let user = world.keycloak.users().into_iter().find(|user| user.id == id).expect("still there");
    assert_eq!(
        (user.attributes["tenant_id"][0].as_str(), user.mails_sent),
        (text(&steps[0]["tenant_id"]).as_str(), 1)
    );
    assert_eq!(
        world.row("SELECT kind, tenant_id FROM flags").await,
        json!({"kind": "step_failed", "tenant_id": steps[1]["tenant_id"]})
    );
    assert_eq!(
        world.count("outbox_steps WHERE kind = 'keycloak_user' AND attempts = 1").await,
        2,
        "to give way is no try"
    );
}

/// A step of an address that a worker holds waits for it, and keeps no other from being served.
#[tokio::test]
async fn a_held_mail_address_holds_up_no_other() {
    let world = World::new().await;
    for (company, email) in [
        ("Held", "jane@acme.example"),
        ("Waits", "Jane@Acme.example"),
        ("Goes on", "joe@acme.example"),
    ] {
        provisioned(&world, company, email).await;
    }
    let until = "now() + interval '120 seconds'";
    let hold = format!(
        "UPDATE outbox_steps SET claim = 1, attempts = 1, claimed_until = {until},
         next_attempt_at = {until} WHERE tenant_id = 'held' AND kind = 'keycloak_user'"
    );
    world.db.execute(&hold, &[]).await.expect("held by a worker that died");
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    assert_eq!(
        world.count("outbox_steps WHERE status = 'done' AND tenant_id = 'goes-on'").await,
        2
    );
    world.clock.run_ahead(121);
    assert_eq!(world.outbox().await, summary(2, 0, 1), "in turn, and the second says whose it is");
}
