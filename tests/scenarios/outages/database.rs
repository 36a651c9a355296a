//! The database.

use std::time::{Duration, Instant};

use lambda_http::http::StatusCode;
use serde_json::json;
use tests::World;

use super::{cuts, made, nothing, once, tries, users};

#[tokio::test]
async fn an_event_that_was_answered_200_survives_a_stopped_database_on_its_queue() {
    let mut world = World::new().await;
    let database = world.behind("DATABASE_PORT").await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    assert_eq!(world.post(&event).await.status(), StatusCode::OK);
    database.refuse();
    for _ in 0..3 {
        assert_eq!(world.round().await, 1);
    }
    assert_eq!(
        (world.queued().await, world.count("stripe_events").await, made(&world, "Acme").await),
        (1, 0, nothing())
    );
    database.pass();
    assert_eq!(world.round().await, 0);
    assert_eq!(
        (world.queued().await, world.recorded(&event).await.0, made(&world, "Acme").await),
        (0, "applied".to_owned(), once())
    );
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(world.keycloak.users().iter().map(|user| user.mails_sent).collect::<Vec<_>>(), [1]);
}

/// The connection breaks at every part of the conversation, also between a commit and its answer.
#[tokio::test]
async fn a_database_connection_cut_anywhere_in_an_apply_leaves_nothing_half_and_nothing_twice() {
    let mut world = World::new().await;
    let database = world.behind("DATABASE_PORT").await;
    let (_, measured) = world.paid_checkout("Cut whole 0", "jane@cut.example");
    assert!(world.apply(&measured).await);
    let whole = database.sent();
    let mut lost = 0;
    for cut in cuts(whole, 40) {
        let company = format!("Cut {cut:07}");
        let (_, event) = world.paid_checkout(&company, "jane@cut.example");
        world.restart().await;
        database.cut_after(cut);
        // After the commit nothing of the checkout is left to lose: what follows is what waited for
        // it.
        let applied = world.apply(&event).await;
        assert_eq!(
            made(&world, &company).await,
            if applied { once() } else { nothing() },
            "{cut} of {whole}"
        );
        lost += u32::from(!applied);
        database.pass();
        assert!(world.apply_received(&event, 2).await, "{cut} of {whole}");
        assert_eq!(made(&world, &company).await, once(), "{cut} of {whole}");
        assert_eq!(tries(&world, &event).await["status"], "applied", "{cut} of {whole}");
    }
    assert!(lost > 30, "most of the conversation is before the commit");

    let (_, event) = world.paid_checkout("Committed", "jane@cut.example");
    world.restart().await;
    database.cut_behind("COMMIT");
    assert!(!world.apply(&event).await, "no one heard of the commit");
    // The service may still be at it when the connection is gone.
    let began = Instant::now();
    while made(&world, "Committed").await != once() {
        assert!(began.elapsed() < Duration::from_secs(10), "the commit was heard");
    }
    database.pass();
    let reads = world.stripe.requests().len();
    assert!(world.apply_received(&event, 2).await);
    assert_eq!(
        (made(&world, "Committed").await, world.stripe.requests().len()),
        (once(), reads),
        "it was done, and is not done again"
    );
    assert_eq!(world.count("flags").await, 0);
}

#[tokio::test]
async fn a_connection_cut_anywhere_in_an_outbox_run_makes_one_user_and_at_most_a_second_mail() {
    let mut world = World::new().await;
    let database = world.behind("DATABASE_PORT").await;
    let provisioned = async |world: &World, name: u64| {
        let (_, event) =
            world.paid_checkout(&format!("Run {name:07}"), &format!("{name:07}@run.example"));
        assert!(world.apply(&event).await);
    };
    provisioned(&world, 9_999_999).await;
    let before = database.sent();
    assert_eq!(world.outbox().await["done"], 2);
    let whole = database.sent() - before;
    let mut failed = 0;
    for cut in cuts(whole, 14) {
        // Keycloak runs by the real time: a user older than its step would be one that was there.
        world.clock.run_ahead(0);
        provisioned(&world, cut).await;
        world.restart().await;
        database.cut_after(cut);
        // At the end of the conversation waiting events are looked for, which says nothing of the
        // steps.
        failed += u32::from(world.provisioning.handle().await.is_err());
        database.pass();
        // Over the lease of whoever was cut.
        world.clock.pass(121);
        world.outbox().await;
        let tenant = format!("run-{cut:07}");
        let steps = world
            .rows(&format!(
                "SELECT kind, status FROM outbox_steps WHERE tenant_id = '{tenant}'
                 AND kind <> 'keycloak_organization' ORDER BY step_id"
            ))
            .await;
        assert_eq!(
            steps,
            [
                json!({"kind": "keycloak_user", "status": "done"}),
                json!({"kind": "welcome_mail", "status": "done"})
            ],
            "{cut} of {whole}"
        );
        let audit = world
            .rows(&format!(
                "SELECT event_type FROM subscription_audit WHERE tenant_id = '{tenant}'
             AND actor_id = 'outbox' AND event_type <> 'KEYCLOAK_ORGANIZATION_SET' ORDER BY id"
            ))
            .await;
        assert_eq!(
            audit,
            [json!({"event_type": "USER_CREATED"}), json!({"event_type": "WELCOME_EMAIL_SENT"})],
            "{cut} of {whole}"
        );
        let users = users(&world, &format!("{cut:07}@run.example"));
        assert_eq!(users.len(), 1, "{cut} of {whole}");
        assert!((1..=2).contains(&users[0].mails_sent), "{cut} of {whole}");
    }
    assert!(failed > 10, "most of the conversation is of the steps");

    // The one case of docs/events.md: the mail is sent, and that it was is lost.
    world.clock.run_ahead(0);
    provisioned(&world, 7_777_777).await;
    world.restart().await;
    database.cut_behind("WELCOME_EMAIL_SENT");
    assert!(world.provisioning.handle().await.is_err());
    database.pass();
    world.clock.pass(121);
    world.outbox().await;
    let mails_of = |world: &World, name: &str| {
        let users = users(world, &format!("{name}@run.example"));
        users.iter().map(|user| user.mails_sent).collect::<Vec<_>>()
    };
    assert_eq!(mails_of(&world, "7777777"), [2]);

    // Both commits heard, both answers lost: nothing is done twice.
    provisioned(&world, 8_888_888).await;
    world.restart().await;
    // The first is the claim's.
    database.cut_behind_nth("COMMIT", 2);
    for _ in 0..2 {
        assert!(world.provisioning.handle().await.is_err());
        world.clock.pass(121);
    }
    database.pass();
    world.outbox().await;
    assert_eq!(
        world
            .count(
                "outbox_steps WHERE tenant_id = 'run-8888888' AND status = 'done' AND attempts = 1"
            )
            .await,
        3
    );
    assert_eq!(mails_of(&world, "8888888"), [1]);
}

/// A day of redeliveries is 100 receives, the rest between them left out (docs/events.md,
/// "Redelivery").
#[tokio::test]
async fn a_day_without_the_database_records_nothing_and_ends_applied_once() {
    let mut world = World::new().await;
    let database = world.behind("DATABASE_PORT").await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    database.refuse();
    // Past the receives that give up: what cannot even be recorded stays for the queue's own end.
    for receives in (1..=100).chain(120..=125) {
        assert!(!world.apply_received(&event, receives).await, "{receives}");
    }
    assert_eq!(world.count("stripe_events").await, 0);
    database.pass();
    assert!(world.apply_received(&event, 101).await);
    assert_eq!(
        (world.recorded(&event).await.0, made(&world, "Acme").await, world.count("flags").await),
        ("applied".to_owned(), once(), 0)
    );
}
