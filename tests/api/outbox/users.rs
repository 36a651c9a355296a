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

/// Trap 70: platform staff, a stranger, another tenant's user, one that another system made with the
/// tenant's id: none becomes the buyer's.
#[tokio::test]
async fn an_account_that_was_there_before_is_never_taken_over() {
    let world = World::new().await;
    let before = [("staff", None), ("theirs", Some("demo-cold-chain")), ("same", Some("same"))];
    let ids = before.map(|(name, tenant)| {
        world.keycloak.add_user(User {
            username: format!("{name}@acme.example"),
            email: Some(format!("{name}@acme.example")),
            enabled: true,
            password: Some("old".to_owned()),
            attributes: tenant
                .map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()]))
                .into_iter()
                .collect(),
            ..User::default()
        })
    });
    let accounts = || format!("{:?}", world.keycloak.users());
    let untouched = accounts();
    for (name, _) in before {
        provisioned(&world, name, &format!("{}@Acme.example", name.to_uppercase())).await;
    }
    assert_eq!(world.outbox().await, summary(0, 0, 3));
    assert_eq!(accounts(), untouched);
    let api = world.api().await;
    let staff = format!("/api/v1/operator/users/{}", ids[0]);
    api.write("PATCH", &staff, json!({"enabled": false})).await.problem(404, "user_not_found");
    for (name, _) in before {
        let step = format!(
            "SELECT status, last_error FROM outbox_steps
             WHERE tenant_id = '{name}' AND kind = 'keycloak_user'"
        );
        let refused = json!({
            "status": "failed", "last_error": "A user with this email exists already",
        });
        assert_eq!(world.row(&step).await, refused, "{name}");
        let flags = format!("flags WHERE kind = 'step_failed' AND tenant_id = '{name}'");
        assert_eq!(world.count(&flags).await, 1, "{name}");
    }
    let undone = "outbox_steps WHERE kind = 'welcome_mail' AND status = 'pending'";
    assert_eq!(world.count(undone).await, 3, "no mail without its user");
    assert_eq!(world.count("subscription_audit WHERE event_type LIKE 'USER_%'").await, 0);
}

/// Trap 70: what the step itself began is completed, also where its worker died before it knew the
/// user's id; an account that appeared between its look and its call is not its own.
#[tokio::test]
async fn a_step_completes_what_it_began_and_nothing_else() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    provisioned(&world, "Late", "late@acme.example").await;
    let begin = "UPDATE outbox_steps SET began_email = payload->>'email'
                 WHERE kind = 'keycloak_user'";
    world.db.execute(begin, &[]).await.expect("two workers began and died");
    let account = |email: &str, tenant: Option<&str>| User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        attributes: tenant
            .map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()]))
            .into_iter()
            .collect(),
        ..User::default()
    };
    let id = world.keycloak.add_user(account("jane@acme.example", Some("acme")));
    let stranger = world.keycloak.add_user(account("late@acme.example", None));
    assert_eq!(world.outbox().await, summary(2, 0, 1));
    let users = world.keycloak.users();
    let find = |id: &str| users.iter().find(|user| user.id == id).expect("still there");
    assert!(find(&id).roles.contains("customer"));
    assert_eq!(find(&id).mails_sent, 1);
    assert!(find(&stranger).roles.is_empty() && find(&stranger).attributes.is_empty());
    let audit = world
        .rows(
            "SELECT details FROM subscription_audit
                            WHERE event_type = 'USER_CREATED'",
        )
        .await;
    assert_eq!(audit, [json!({"details": {"user_id": id}})]);
}

#[tokio::test]
async fn a_mail_address_that_keycloak_refuses_fails_for_an_operator_to_see() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.keycloak.fail_next_on("/users", 1, 400);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 1}));
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 1);
}

/// Trap 71: two new companies name one new address as their admin's. The database decides which
/// step makes the user; the other finds it taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_steps_for_one_new_address_at_once_one_makes_the_user() {
    let world = World::new().await;
    // Keycloak takes its time, so that both look before either has made the user.
    world.keycloak.set_latency(Duration::from_millis(100));
    provisioned(&world, "One", "shared@acme.example").await;
    provisioned(&world, "Other", "Shared@acme.example").await;
    assert!(join_all((0..4).map(|_| world.provisioning.handle())).await.iter().all(Result::is_ok));
    let made = |world: &World| {
        let posts = world.keycloak.requests();
        let is_create =
            |(method, path): &&(String, String)| method == "POST" && path.ends_with("/users");
        posts.iter().filter(is_create).count()
    };
    assert_eq!(made(&world), 1, "the other one's worker asked for no user");
    let waiting = "SELECT last_error FROM outbox_steps
                   WHERE kind = 'keycloak_user' AND status = 'pending'";
    assert_eq!(
        world.row(waiting).await["last_error"],
        "database: another step is making the user of this address"
    );
    world.clock.pass(20);
    assert_eq!(world.outbox().await, summary(0, 0, 1));
    assert_eq!(made(&world), 1);
    let steps = "SELECT tenant_id, status FROM outbox_steps WHERE kind = 'keycloak_user'
                 ORDER BY status";
    let steps = world.rows(steps).await;
    assert_eq!((&steps[0]["status"], &steps[1]["status"]), (&json!("done"), &json!("failed")));
    let users = world.keycloak.users();
    assert_eq!(users.len(), 1);
    assert_eq!(users[0].attributes["tenant_id"][0], text(&steps[0]["tenant_id"]));
    assert_eq!(users[0].mails_sent, 1);
    assert_eq!(
        world.row("SELECT kind, tenant_id FROM flags").await,
        json!({"kind": "step_failed", "tenant_id": steps[1]["tenant_id"]})
    );
}

/// Trap 71: a step that began to make a user keeps its address until it has ended, however long
/// that takes, and keeps no other step from being done. One that an operator retries after another
/// has begun takes its place behind it.
#[tokio::test]
async fn an_address_that_a_step_has_begun_waits_for_it_and_holds_up_no_other() {
    let world = World::new().await;
    for (company, email) in [
        ("Began", "jane@acme.example"),
        ("Waits", "Jane@Acme.example"),
        ("Goes on", "joe@acme.example"),
    ] {
        provisioned(&world, company, email).await;
    }
    let begin = "UPDATE outbox_steps SET began_email = 'jane@acme.example', attempts = 1,
                 next_attempt_at = now() + interval '10 minutes'
                 WHERE tenant_id = 'began' AND kind = 'keycloak_user'";
    world.db.execute(begin, &[]).await.expect("begun by a worker that died");
    assert_eq!(world.outbox().await, summary(2, 1, 0));
    let done = "outbox_steps WHERE status = 'done' AND tenant_id = 'goes-on'";
    assert_eq!(world.count(done).await, 2);
    world.clock.run_ahead(300);
    assert_eq!(world.outbox().await, summary(3, 1, 0), "it waits, and no organization does");
    let fail = "UPDATE outbox_steps SET status = 'failed' WHERE tenant_id = 'began'
                AND kind = 'keycloak_user'";
    world.db.execute(fail, &[]).await.expect("given up");
    world.clock.run_ahead(600);
    world.keycloak.fail_next_on("/users", 1, 503);
    world.keycloak.fail_next_on("/role-mappings", 1, 503);
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    world.clock.run_ahead(1800);
    assert_eq!(world.outbox().await, summary(0, 1, 0), "its turn: made, and not completed yet");
    let api = world.api().await;
    let step = world
        .row("SELECT step_id FROM outbox_steps WHERE tenant_id = 'began' AND status = 'failed'")
        .await;
    let retry = format!("/api/v1/operator/provisioning/{}/retry", step["step_id"]);
    api.write("POST", &retry, json!({})).await.expect(200);
    world.clock.run_ahead(3600);
    assert_eq!(world.outbox().await, summary(2, 0, 1));
    let users = world.keycloak.users();
    let jane = users.iter().find(|user| user.username.starts_with("jane")).expect("made");
    assert_eq!(jane.attributes["tenant_id"][0], "waits");
}

/// Trap 72: what a payer typed as a name costs the name at most; a mail address that is no user name
/// gets another one.
#[tokio::test]
async fn a_name_or_address_that_keycloak_refuses_costs_no_login() {
    let world = World::new().await;
    let company = async |company: &str, email: &str, first: &str, last: &str| {
        let metadata = [
            ("plan_id", "pro"),
            ("company_name", company),
            ("admin_email", email),
            ("admin_first_name", first),
            ("admin_last_name", last),
        ];
        let session = world.checkout("price_pro_month", &metadata);
        world.stripe.pay(&session, tests::payer(email)).expect("paid");
        world.receive(&[&world.event("checkout.session.completed")]).await;
    };
    let long = "x".repeat(300);
    for (name, email, first, last) in [
        ("Amp", "amp@acme.example", "R&D", "<>"),
        ("Role", "role@acme.example", "Jane (CTO)", "Meier/Huber"),
        ("Long", "long@acme.example", &long, "Doe"),
        ("Quote", "o'brien@acme.example", "Pat", "O'Brien"),
        ("Amp 2", "r&d@acme.example", "R&D", "R&D"),
    ] {
        company(name, email, first, last).await;
    }
    assert_eq!(world.outbox().await, summary(10, 0, 0));
    let users = world.keycloak.users();
    let names = |email: &str| {
        let user = users.iter().find(|user| user.email.as_deref() == Some(email));
        let user = user.expect("made");
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        [user.username.clone(), name(&user.first_name), name(&user.last_name)]
    };
    assert_eq!(names("amp@acme.example"), ["amp@acme.example", "R D", ""]);
    assert_eq!(names("role@acme.example"), ["role@acme.example", "Jane CTO", "Meier Huber"]);
    assert_eq!(names("long@acme.example"), ["long@acme.example", &long[..255], "Doe"]);
    let [quote, first, last] = names("o'brien@acme.example");
    assert!(quote.starts_with("user-"), "{quote}");
    assert_eq!([first, last], ["Pat", "O'Brien"]);
    assert_ne!(names("r&d@acme.example")[0], quote);
    // A realm may refuse more than Keycloak does by default.
    world.keycloak.refuse_names();
    company("Own profile", "jane@acme.example", "Jane", "Doe").await;
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    let users = world.keycloak.users();
    assert_eq!((&users[5].first_name, &users[5].last_name), (&None, &None));
    assert!(users.iter().all(|user| user.mails_sent == 1));
    assert_eq!(world.count("flags").await, 0);
}
