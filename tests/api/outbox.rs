//! The outbox: once its step is committed, it is done at least once, visibly, and by one worker at a time.

use futures::future::join_all;
use serde_json::json;
use simulators::keycloak::User;
use std::sync::atomic::Ordering;
use tests::{World, text};

async fn provisioned(world: &World, company: &str, email: &str) {
    let (_, event) = world.paid_checkout(company, email);
    world.receive(&[&event]).await;
}

#[tokio::test]
async fn keycloak_away_leaves_the_tenant_and_a_pending_step_that_is_done_when_it_returns() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.keycloak.stop().await;
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 1, "failed": 0}));
    let step = world
        .row("SELECT status, attempts, last_error, next_attempt_at > now() + interval '3 seconds' AS later FROM outbox_steps WHERE kind = 'keycloak_user'")
        .await;
    assert_eq!((&step["status"], &step["attempts"], &step["later"]), (&json!("pending"), &json!(1), &json!(true)));
    assert!(text(&step["last_error"]).starts_with("Keycloak"), "{step}");
    assert!(!text(&step["last_error"]).contains("jane"), "nothing personal in it");
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 0}), "not before its time");
    world.keycloak.restart().await.expect("back");
    ahead.store(6, Ordering::SeqCst);
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(world.keycloak.users().len(), 1);
}

/// Trap 39: a user that a try left half-made gets what it lacks, and never a twin.
#[tokio::test]
async fn a_lost_answer_at_any_call_makes_no_second_user() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    for (number, path) in ["/users", "/role-mappings/realm"].into_iter().enumerate() {
        let email = format!("admin{number}@acme.example");
        provisioned(&world, &format!("Acme {number}"), &email).await;
        // The search before it is a GET of the same path: it passes first.
        world.keycloak.lose_answer_on(path, 502);
        world.keycloak.lose_answer_on(path, 502);
        let mut tries = 0;
        while world.keycloak.users().iter().filter(|user| user.email.as_deref() == Some(&email) && user.mails_sent > 0).count() == 0 {
            tries += 1;
            assert!(tries < 20);
            world.outbox().await;
            ahead.fetch_add(1000, Ordering::SeqCst);
        }
        assert!(tries > 1, "something was lost");
        let users: Vec<_> = world.keycloak.users().into_iter().filter(|user| user.email.as_deref() == Some(&email)).collect();
        assert_eq!(users.len(), 1, "{path}");
        assert!(users[0].roles.contains("customer") && users[0].attributes.contains_key("tenant_id"), "{path}");
    }
}

#[tokio::test]
async fn an_existing_user_gets_what_it_lacks_and_another_tenants_user_is_left_alone() {
    let world = World::new().await;
    let user = |email: &str, tenant: Option<&str>| User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        attributes: tenant.map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()])).into_iter().collect(),
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
        (find(&half_made).attributes["tenant_id"][0].as_str(), find(&half_made).roles.contains("customer"), find(&half_made).mails_sent),
        ("half", true, 1)
    );
    assert_eq!((find(&theirs).attributes["tenant_id"][0].as_str(), find(&theirs).roles.len(), find(&theirs).mails_sent), ("demo-cold-chain", 0, 0));
    assert_eq!(world.count("subscription_audit WHERE event_type = 'USER_UPDATED' AND tenant_id = 'half'").await, 1);
    assert_eq!(world.row("SELECT kind, tenant_id FROM flags").await, json!({"kind": "step_failed", "tenant_id": "taken"}));
    let steps = world.rows("SELECT kind, status FROM outbox_steps WHERE tenant_id = 'taken' ORDER BY step_id").await;
    assert_eq!(steps, [json!({"kind": "keycloak_user", "status": "failed"}), json!({"kind": "welcome_mail", "status": "pending"})], "no mail without its user");
}

#[tokio::test]
async fn a_mail_address_that_keycloak_refuses_fails_for_a_person_to_see() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.keycloak.fail_next_on("/users", 1, 400);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 1}));
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_at_once_do_each_step_once() {
    let world = World::new().await;
    for number in 0..6 {
        provisioned(&world, &format!("Acme {number}"), &format!("admin{number}@acme.example")).await;
    }
    assert!(join_all((0..8).map(|_| world.provisioning.handle())).await.iter().all(Result::is_ok));
    world.outbox().await;
    let users = world.keycloak.users();
    assert_eq!(users.len(), 6);
    assert!(users.iter().all(|user| user.mails_sent == 1), "no mail twice");
    assert_eq!(world.count("outbox_steps WHERE status = 'done' AND attempts = 1").await, 12);
    assert_eq!(world.count("subscription_audit WHERE actor_id = 'outbox'").await, 12);
}

/// Trap 4: a worker that died gives its step back after the lease; one that only was slow has no say any more.
#[tokio::test]
async fn a_step_whose_worker_died_is_taken_over_and_the_slow_worker_is_not_heard() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    provisioned(&world, "Acme", "jane@acme.example").await;
    // A worker that claimed the step and died.
    world
        .db
        .execute("UPDATE outbox_steps SET claim = claim + 1, attempts = 1, claimed_until = now() + interval '120 seconds' WHERE kind = 'keycloak_user'", &[])
        .await
        .expect("claimed");
    assert_eq!(world.outbox().await["done"], 0, "its lease stands");
    ahead.store(121, Ordering::SeqCst);
    // Taken over by one that is itself overtaken while Keycloak answers.
    world.keycloak.set_latency(std::time::Duration::from_millis(150));
    let overtake = async {
        while world.count("outbox_steps WHERE kind = 'keycloak_user' AND attempts = 2").await == 0 {}
        world.db.execute("UPDATE outbox_steps SET claim = claim + 1 WHERE kind = 'keycloak_user'", &[]).await.expect("overtaken");
    };
    let (_, ()) = tokio::join!(world.provisioning.handle(), overtake);
    assert_eq!(world.count("subscription_audit WHERE event_type = 'USER_CREATED'").await, 0, "the overtaken worker wrote nothing");
    world.keycloak.set_latency(std::time::Duration::ZERO);
    ahead.store(500, Ordering::SeqCst);
    assert_eq!(world.outbox().await["done"], 2);
    assert_eq!(world.keycloak.users().len(), 1);
}

/// A step is tried for 72 hours, then it waits for a person, who may have it tried again or end it.
#[tokio::test]
async fn a_step_is_given_up_after_72_hours_and_a_person_retries_or_dismisses_it() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    for company in ["Retried", "Dismissed"] {
        provisioned(&world, company, &format!("admin@{company}.example")).await;
    }
    world.keycloak.stop().await;
    world.outbox().await;
    ahead.store(71 * 3600, Ordering::SeqCst);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 2, "failed": 0}));
    ahead.store(72 * 3600, Ordering::SeqCst);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 2}));
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 2);

    world.keycloak.restart().await.expect("back");
    ahead.fetch_add(3600, Ordering::SeqCst);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 0}), "a failed step waits for a person");
    let step = async |tenant: &str| {
        world.row(&format!("SELECT step_id FROM outbox_steps WHERE tenant_id = '{tenant}' AND kind = 'keycloak_user'")).await["step_id"]
            .as_i64()
            .expect("a number")
    };
    let outbox = &world.provisioning.outbox;
    shared::outbox::retry(&outbox.db, step("retried").await, Some("new@retried.example"), &tests::operator(), outbox.clock.now()).await.expect("retried");
    shared::outbox::dismiss(&outbox.db, step("dismissed").await, "came by telephone", &tests::operator(), outbox.clock.now()).await.expect("dismissed");
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(world.keycloak.users().into_iter().map(|user| user.username).collect::<Vec<_>>(), ["new@retried.example"]);
    assert_eq!(world.count("outbox_steps WHERE tenant_id = 'dismissed' AND status = 'dismissed'").await, 2, "and the mail that waited for it");
    for id in [step("retried").await, step("dismissed").await, 1_000_000] {
        assert_eq!(shared::outbox::retry(&outbox.db, id, None, &tests::operator(), outbox.clock.now()).await.expect_err("not open").code(), "no_open_step");
        assert_eq!(shared::outbox::dismiss(&outbox.db, id, "x", &tests::operator(), outbox.clock.now()).await.expect_err("not open").code(), "no_open_step");
    }
    let audit = world
        .rows("SELECT event_type, tenant_id, actor_id, previous_state->>'status' AS before FROM subscription_audit WHERE actor_type = 'admin' ORDER BY id")
        .await;
    let row = |event_type: &str, tenant: &str| json!({"event_type": event_type, "tenant_id": tenant, "actor_id": "operator-1", "before": "failed"});
    assert_eq!(audit, [row("PROVISIONING_RETRIED", "retried"), row("PROVISIONING_DISMISSED", "dismissed")]);
}
