//! The process dies between any two steps: whoever comes next finds nothing half done, and makes
//! the same of it each time.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use shared::base::fault::Point;
use shared::domain::mails::model::{MailKind, Notice};
use tests::{World, text};
use tokio::io::AsyncWriteExt;

/// Runs one call of a function in a process of its own.
async fn worker(world: &World, what: &str, point: Option<Point>, event: &str) -> Output {
    let point = point.map_or("none".to_owned(), |point| format!("{point:?}"));
    let mut worker = tokio::process::Command::new(env!("CARGO_BIN_EXE_worker"));
    worker
        .args([what, &point])
        .envs(&world.settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut worker = worker.spawn().expect("a worker");
    let mut input = worker.stdin.take().expect("its input");
    input.write_all(event.as_bytes()).await.expect("written");
    drop(input);
    worker.wait_with_output().await.expect("its end")
}

/// What a company ended with, without what differs between any two companies.
async fn end_state(world: &World, tenant: &str) -> Value {
    let of = async |sql: &str| world.rows(&sql.replace("TENANT", tenant)).await;
    let email = format!("{tenant}@kill.example");
    let users: Vec<_> = world
        .keycloak
        .users()
        .into_iter()
        .filter(|user| user.email.as_deref() == Some(&email))
        .collect();
    json!({
        "tenant": of("SELECT status, legal_name, billing_email IS NOT NULL AS billing FROM tenants
                      WHERE tenant_id = 'TENANT'").await,
        "subscriptions": of("SELECT subscription_type, status, plan_id, device_limit, stripe_sync
                             FROM subscriptions WHERE tenant_id = 'TENANT'").await,
        "slots": of("SELECT tier_id, slot_limit, slots_used FROM subscription_tier_allocations
                     WHERE tenant_id = 'TENANT' ORDER BY tier_id").await,
        "audit": of("SELECT event_type FROM subscription_audit WHERE tenant_id = 'TENANT'
                     ORDER BY id").await,
        "steps": of("SELECT kind, status FROM outbox_steps WHERE tenant_id = 'TENANT'
                     ORDER BY step_id").await,
        "event":
            of("SELECT status, lost_tries FROM stripe_events WHERE tenant_id = 'TENANT'").await,
        "flags": of("SELECT kind FROM flags WHERE tenant_id = 'TENANT'").await,
        "users": users.iter().map(|user| json!({"roles": user.roles,
            "tenant": user.attributes["tenant_id"]})).collect::<Vec<_>>(),
        // Sent twice only where the worker died between Keycloak's answer and our commit.
        "organizations": world.keycloak.organizations().iter()
            .filter(|organization| organization.alias == tenant)
            .map(|organization| json!({"name": organization.name,
                "members": users.iter().filter(|user| organization.members.contains(&user.id))
                    .count()}))
            .collect::<Vec<_>>(),
        "mailed": users.iter().all(|user| user.mails_sent >= 1),
    })
}

/// The points that a process comes to in this call.
fn points(from: Point, to: Point) -> Vec<Point> {
    let index = |wanted| Point::ALL.iter().position(|point| *point == wanted).expect("a point");
    Point::ALL[index(from)..=index(to)].to_vec()
}

/// Makes every step that is left due.
async fn time_passes(world: &World) {
    let sql = "UPDATE outbox_steps SET next_attempt_at = now(), claimed_until = now()
               WHERE status = 'pending'";
    world.db.execute(sql, &[]).await.expect("time passes");
}

/// Brings one company through the path, with the process killed at `killed` in the call that comes
/// to it.
async fn story(world: &World, tenant: &str, killed: Option<Point>) -> Value {
    let (session, event) = world.paid_checkout(tenant, &format!("{tenant}@kill.example"));
    let (event, news) = (event.to_string(), world.event("customer.subscription.created"));
    let subscription = text(&news["data"]["object"]["id"]);
    let mut died = 0;
    for (what, event, points) in [
        ("ingest", &event, points(Point::IngestVerified, Point::IngestQueued)),
        ("apply", &event, points(Point::ApplyBegun, Point::BatchWoken)),
        ("outbox", &event, points(Point::OutboxClaimed, Point::OutboxCommitted)),
        ("outbox", &event, points(Point::OutboxOrganizationMade, Point::OutboxMemberAdded)),
        ("apply", &news.to_string(), points(Point::SnapshotRead, Point::SyncCommitted)),
    ] {
        if points[0] == Point::SnapshotRead {
            world.stripe.edit_subscription(&subscription, |subscription| {
                subscription["status"] = json!("unpaid");
            });
        }
        if points[0] == Point::OutboxOrganizationMade {
            time_passes(world).await;
        }
        if let Some(point) = killed.filter(|point| points.contains(point)) {
            let dead = worker(world, what, Some(point), event).await;
            assert!(
                !dead.status.success() && dead.stderr.is_empty(),
                "{point:?} is on the way of {what}: {}",
                String::from_utf8_lossy(&dead.stderr)
            );
            died += 1;
            // What the dead one held is free when its time is over.
            time_passes(world).await;
        }
        let lived = worker(world, what, None, event).await;
        assert!(lived.status.success(), "{killed:?}: {}", String::from_utf8_lossy(&lived.stderr));
        let log = String::from_utf8_lossy(&lived.stdout);
        assert!(!log.is_empty() || killed.is_some(), "{what} says what it did");
        assert_log(&log);
    }
    assert_eq!(died, usize::from(killed.is_some()));
    assert_eq!(
        world.count(&format!("subscriptions WHERE stripe_checkout_session_id = '{session}'")).await,
        1
    );
    end_state(world, tenant).await
}

/// Each line is JSON, and none holds anything personal or secret.
fn assert_log(log: &str) {
    for line in log.lines() {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // Metrics are next to the log.
        assert!(
            entry["_aws"].is_object() || entry["level"].is_string() && entry["message"].is_string(),
            "{line}"
        );
        for private in [
            "@",
            "Jane",
            "Main St",
            &tests::stack("STRIPE_SECRET_KEY"),
            &tests::stack("STRIPE_WEBHOOK_SECRET"),
            &tests::stack("KEYCLOAK_CLIENT_SECRET"),
        ] {
            assert!(!line.contains(private), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_point_the_path_ends_in_the_same_state() {
    let world = World::new().await;
    let expected = story(&world, "never-killed", None).await;
    assert_eq!(
        expected["steps"],
        json!([{"kind": "keycloak_organization", "status": "done"},
            {"kind": "keycloak_user", "status": "done"},
            {"kind": "welcome_mail", "status": "done"}])
    );
    let organization = json!([{"name": "never-killed (never-killed)", "members": 1}]);
    assert_eq!(expected["organizations"], organization);
    let expected = expected.to_string().replace("never-killed", "TENANT");
    for (number, point) in Point::ALL.into_iter().enumerate() {
        let tenant = format!("killed-{number}");
        let state =
            story(&world, &tenant, Some(point)).await.to_string().replace(&tenant, "TENANT");
        assert_eq!(state, expected, "killed at {point:?}");
    }
    // The queue holds what every ingest put there, the killed ones' included; none has a second
    // effect.
    assert_eq!(world.drain().await, 0);
    assert_eq!(
        usize::try_from(world.count("subscriptions WHERE created_by = 'stripe'").await),
        Ok(1 + Point::ALL.len())
    );
    let mailed_twice = world.keycloak.users().iter().filter(|user| user.mails_sent == 2).count();
    let mailed_more = world.keycloak.users().iter().filter(|user| user.mails_sent > 2).count();
    // Killed after Keycloak's answer and before our commit: OutboxMailSent. The other points of the
    // outbox die at the user's step first.
    assert_eq!((mailed_twice, mailed_more), (1, 0), "the one documented window");
}

/// A notice is sent once, and twice, as one message by its id, only where the worker died between
/// the server's answer and our commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_whose_worker_dies_is_sent_by_the_next_and_twice_only_in_the_one_window() {
    let mut world = World::new().await;
    let smtp = world.mail().await;
    let at: jiff::Timestamp = "2099-01-01T00:00:00Z".parse().expect("an instant");
    let mut before = 0;
    let killed = [
        Point::OutboxClaimed,
        Point::OutboxMailSent,
        Point::OutboxPerformed,
        Point::OutboxRecorded,
        Point::OutboxCommitted,
    ];
    for (number, point) in killed.into_iter().enumerate() {
        let subscription_id =
            shared::base::ids::SubscriptionId::parse(&format!("SUB-2026-9{number}"))
                .expect("an id");
        let (key, payload) = Notice { mail: MailKind::Renewal7, subscription_id, at }.step();
        world
            .db
            .batch_execute(&format!(
                "INSERT INTO tenants (tenant_id, name, contact_email)
                 VALUES ('acme-{number}', 'Acme', 'jane@acme.example');
                 INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
                 device_limit, term_start, term_end, created_by)
                 VALUES ('SUB-2026-9{number}', 'acme-{number}', 'MAIN', 'ACTIVE', 100, '2026-01-01',
                 '{at}', 'x'); INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload,
                 next_attempt_at) VALUES ('mail', 'acme-{number}', '{key}', '{payload}', now())"
            ))
            .await
            .expect("a notice");
        let dead = worker(&world, "outbox", Some(point), "").await;
        assert!(
            !dead.status.success() && dead.stderr.is_empty(),
            "{point:?}: {}",
            String::from_utf8_lossy(&dead.stderr)
        );
        time_passes(&world).await;
        let lived = worker(&world, "outbox", None, "").await;
        assert!(lived.status.success(), "{point:?}: {}", String::from_utf8_lossy(&lived.stderr));
        assert_log(&String::from_utf8_lossy(&lived.stdout));
        let taken = smtp.taken().split_off(before);
        before += taken.len();
        assert!(taken.iter().all(|mail| mail.id() == taken[0].id()), "{point:?}");
        let window =
            matches!(point, Point::OutboxMailSent | Point::OutboxPerformed | Point::OutboxRecorded);
        assert_eq!(taken.len(), if window { 2 } else { 1 }, "{point:?}");
        let sent = format!(
            "subscription_audit WHERE event_type = 'MAIL_SENT' AND tenant_id = 'acme-{number}'"
        );
        assert_eq!(world.count(&sent).await, 1, "{point:?}");
    }
    assert_eq!(world.count("outbox_steps WHERE status = 'done'").await, 5);
}

/// Traps 10 and 47: an event that kills its consumer fails alone, after five tries that came to no
/// word; its group goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kills_its_consumer_is_recorded_as_failed_and_a_replay_applies_it_later() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("poison", "poison@kill.example");
    let (_, later) = world.paid_checkout("later", "later@kill.example");
    for receives in 1..=6 {
        let dead = worker(
            &world,
            &format!("apply:{receives}"),
            Some(Point::ApplyRead),
            &event.to_string(),
        )
        .await;
        assert!(!dead.status.success());
        let noted = world.rows("SELECT status, lost_tries FROM stripe_events").await;
        assert_eq!(
            noted,
            if receives == 1 {
                vec![]
            } else {
                vec![json!({"status": "waiting", "lost_tries": receives - 1})]
            }
        );
    }
    assert!(world.apply_received(&event, 7).await, "acknowledged, so that its group goes on");
    assert_eq!(world.recorded(&event).await.0, "failed");
    assert_eq!(world.row("SELECT kind FROM flags").await, json!({"kind": "consumer_dies"}));
    assert!(world.apply(&later).await);

    let id = shared::base::ids::StripeEventId::parse(&text(&event["id"])).expect("an id");
    let (applier, queue) = (&world.events.applier, &world.webhook.queue);
    for replay in 1..=2 {
        shared::domain::events::operator::replay(
            &applier.db,
            queue,
            &id,
            &tests::operator(),
            applier.clock.now(),
        )
        .await
        .expect("queued");
        assert_eq!(
            world.row("SELECT replays FROM stripe_events WHERE status = 'failed'").await,
            json!({"replays": replay})
        );
    }
    assert_eq!(world.queued().await, 2, "no replay is taken for a duplicate");
    assert_eq!(world.drain().await, 0);
    assert_eq!(world.recorded(&event).await.0, "applied");
    assert_eq!(world.count("subscriptions WHERE created_by = 'stripe'").await, 2);
    let again = shared::domain::events::operator::replay(
        &applier.db,
        queue,
        &id,
        &tests::operator(),
        applier.clock.now(),
    )
    .await
    .expect_err("applied by now");
    assert_eq!(again.code(), "event_final");
    assert_eq!(
        world
            .count(
                "subscription_audit WHERE event_type = 'STRIPE_EVENT_REPLAYED'
                            AND actor_type = 'admin' AND actor_id = 'operator-1'"
            )
            .await,
        2
    );
}
