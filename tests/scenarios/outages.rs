//! A service is stopped, hangs, or is cut in the middle of a word: whatever came through is applied
//! afterwards, whole and once.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::future::join_all;
use lambda_http::http::StatusCode;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use stripe_events::StripeEvents;
use tests::proxy::Proxy;
use tests::{World, apply_by, keycloak, stack, text};

/// What the path has made for the companies of this name, in one snapshot: half of it is neither of
/// the two below.
async fn made(world: &World, company: &str) -> Value {
    let of = format!("JOIN tenants USING (tenant_id) WHERE name LIKE '{company}'");
    let sql = format!(
        "SELECT (SELECT count(*) FROM tenants
         WHERE name LIKE '{company}') AS tenants, (SELECT count(*)
         FROM subscriptions {of}) AS subscriptions,
                (SELECT coalesce(sum(slot_limit), 0)
                FROM subscription_tier_allocations {of}) AS slots,
                (SELECT count(*) FROM subscription_audit {of}
                AND actor_id = 'stripe') AS audit, (SELECT count(*)
                FROM outbox_steps {of}) AS steps"
    );
    world.row(&sql).await
}

fn nothing() -> Value {
    times(0)
}

fn once() -> Value {
    times(1)
}

fn times(n: i64) -> Value {
    json!({"tenants": n, "subscriptions": n, "slots": 260 * n, "audit": 3 * n, "steps": 2 * n})
}

/// What a redelivery finds of the tries before it.
async fn tries(world: &World, event: &Value) -> Value {
    world
        .row(&format!(
            "SELECT status, lost_tries, transient_errors, last_error FROM stripe_events
                        WHERE event_id = '{}'",
            text(&event["id"])
        ))
        .await
}

/// Cuts in even steps over a conversation of `whole` bytes.
fn cuts(whole: u64, steps: u64) -> impl Iterator<Item = u64> {
    (0..steps).map(move |step| whole * step / steps)
}

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
    assert!(!world.apply(&event).await, "nobody heard of the commit");
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
    let ahead = world.move_outbox_clock();
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
    let (mut mailed_twice, mut failed) = (0, 0);
    for cut in cuts(whole, 14) {
        provisioned(&world, cut).await;
        world.restart().await;
        database.cut_after(cut);
        // At the end of the conversation waiting events are looked for, which says nothing of the
        // steps.
        failed += u32::from(world.provisioning.handle().await.is_err());
        database.pass();
        // Over the lease of whoever was cut.
        ahead.fetch_add(121, Ordering::SeqCst);
        world.outbox().await;
        let tenant = format!("run-{cut:07}");
        let steps = world
            .rows(&format!(
                "SELECT kind, status FROM outbox_steps WHERE tenant_id = '{tenant}'
                 ORDER BY step_id"
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
             AND actor_id = 'outbox' ORDER BY id"
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
        mailed_twice += u32::from(users[0].mails_sent == 2);
    }
    assert!(failed > 10, "most of the conversation is of the steps");
    assert!(mailed_twice > 0, "the sweep met the one case of docs/events.md");

    // Both commits heard, both answers lost: nothing is done twice.
    provisioned(&world, 8_888_888).await;
    world.restart().await;
    database.cut_behind("COMMIT");
    for _ in 0..2 {
        assert!(world.provisioning.handle().await.is_err());
        ahead.fetch_add(121, Ordering::SeqCst);
    }
    database.pass();
    assert_eq!(world.outbox().await["done"], 0);
    assert_eq!(
        world
            .count(
                "outbox_steps WHERE tenant_id = 'run-8888888' AND status = 'done' AND attempts = 1"
            )
            .await,
        2
    );
    assert_eq!(
        users(&world, "8888888@run.example").iter().map(|user| user.mails_sent).collect::<Vec<_>>(),
        [1]
    );
}

fn users(world: &World, email: &str) -> Vec<simulators::keycloak::User> {
    world.keycloak.users().into_iter().filter(|user| user.email.as_deref() == Some(email)).collect()
}

/// A function's instance with a Stripe of its own faults.
async fn behind_stripe(world: &World) -> (Proxy, StripeEvents) {
    let proxy = Proxy::start(
        world.settings["STRIPE_API_BASE"]
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned(),
    );
    let env = world.env(&[("STRIPE_API_BASE", &format!("http://127.0.0.1:{}", proxy.port()))]);
    (proxy, StripeEvents::start(&env, Clock::system()).await.expect("stripe-events"))
}

#[tokio::test]
async fn a_stripe_that_is_stopped_or_cut_leaves_the_message_and_its_reason_until_it_returns() {
    let world = World::new().await;
    let (proxy, events) = behind_stripe(&world).await;
    let (_, event) = world.paid_checkout("Measured", "jane@cut.example");
    assert!(apply_by(&events, &event, 1).await);
    let whole = proxy.sent();
    // Both reads on one connection; the session's is the longer one. Up to its end no try comes
    // through; after it only the second read is cut, and its own next try succeeds.
    let cuts: Vec<_> = (0..=5)
        .map(|step| (Some(whole * step / 10), false))
        .chain([7, 8, 9].map(|step| (Some(whole * step / 10), true)))
        .collect();
    join_all([vec![(None, false)], cuts].concat().into_iter().map(async |(cut, comes_through)| {
        let company = format!("Stripe cut at {cut:?}");
        let (proxy, events) = behind_stripe(&world).await;
        let (_, event) = world.paid_checkout(&company, "jane@cut.example");
        cut.map_or_else(|| proxy.refuse(), |cut| proxy.cut_after(cut));
        assert_eq!(apply_by(&events, &event, 1).await, comes_through, "{company}");
        if !comes_through {
            assert_eq!(made(&world, &company).await, nothing(), "{company}");
            let tries = tries(&world, &event).await;
            assert_eq!(
                (&tries["status"], &tries["lost_tries"], &tries["transient_errors"]),
                (&json!("waiting"), &json!(0), &json!(1)),
                "{company}"
            );
            assert!(text(&tries["last_error"]).starts_with("Stripe: "), "{tries}");
            proxy.pass();
            assert!(apply_by(&events, &event, 2).await, "{company}");
        }
        assert_eq!(made(&world, &company).await, once(), "{company}");
        assert_eq!(tries(&world, &event).await["status"], "applied", "{company}");
    }))
    .await;
}

/// The only test here that waits for time-outs, its cases at once: the 11 s of a read of Stripe; a
/// connection's 5 s, twice; 25 s on a connection that was held, then 5 s for the note; and the
/// outbox's 10 s on one.
#[tokio::test]
async fn a_service_that_hangs_gives_the_batch_back_in_time_and_is_made_good_when_it_answers() {
    let hung = async |setting: &str, warm: bool, limit: u64| {
        let mut world = World::new().await;
        let proxy = world.behind(setting).await;
        if warm {
            let (_, event) = world.paid_checkout("Before", "jane@hung.example");
            assert!(world.apply(&event).await);
        }
        let (_, event) = world.paid_checkout("Hung", "jane@hung.example");
        proxy.stall();
        let began = Instant::now();
        assert!(!world.apply(&event).await, "{setting}");
        let took = began.elapsed();
        assert_eq!(made(&world, "Hung").await, nothing(), "{setting}");
        if setting == "STRIPE_API_BASE" {
            assert!(
                text(&tries(&world, &event).await["last_error"]).starts_with("Stripe: "),
                "the service that hung is named"
            );
        }
        proxy.pass();
        assert!(world.apply_received(&event, 2).await, "{setting}");
        assert_eq!(made(&world, "Hung").await, once(), "{setting}");
        assert!(took < Duration::from_secs(limit), "{setting}, warm: {warm}: {took:?}");
    };
    let outbox = async {
        let mut world = World::new().await;
        let proxy = world.behind("DATABASE_PORT").await;
        let (_, event) = world.paid_checkout("Hung", "jane@hung.example");
        // The connection that will hang, before there is anything to do on it.
        assert_eq!(world.outbox().await["done"], 0);
        assert!(world.apply(&event).await);
        proxy.stall();
        let began = Instant::now();
        assert!(world.provisioning.handle().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        proxy.pass();
        assert_eq!(world.outbox().await["done"], 2);
    };
    tokio::join!(
        hung("STRIPE_API_BASE", true, 16),
        hung("DATABASE_PORT", false, 20),
        hung("DATABASE_PORT", true, 35),
        outbox
    );
}

/// Every call to Keycloak is cut at some byte, the last one also between the mail and its 204.
#[tokio::test]
async fn a_keycloak_cut_at_any_call_leaves_a_pending_step_with_its_reason_and_then_one_user() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    let keycloak = world.behind("KEYCLOAK_URL").await;
    let provisioned = async |world: &World, name: &str| {
        let (_, event) = world.paid_checkout(name, &format!("{name}@call.example"));
        assert!(world.apply(&event).await);
    };
    provisioned(&world, "call-whole0").await;
    assert_eq!(world.outbox().await["done"], 2);
    let whole = keycloak.sent();
    // At the end the last byte of the mail's call is missing, then only its answer.
    let cuts =
        cuts(whole, 12).chain([whole - 1, whole]).map(|cut| (format!("call-{cut:06}"), Some(cut)));
    let faults = cuts.chain([("refused".to_owned(), None), ("no-mail".to_owned(), None)]);
    let mut at = [0, 0];
    for (name, cut) in faults {
        provisioned(&world, &name).await;
        world.restart().await;
        match cut {
            Some(cut) => keycloak.cut_after(cut),
            None if name == "refused" => keycloak.refuse(),
            // Keycloak's answer when its mail server is away.
            None => world.keycloak.fail_next_on("/execute-actions-email", 1, 500),
        }
        assert_eq!(world.outbox().await["retried"], 1, "{name} of {whole}");
        let step = world
            .row(&format!(
                "SELECT kind, attempts, last_error FROM outbox_steps WHERE tenant_id = '{name}'
             AND last_error IS NOT NULL"
            ))
            .await;
        assert!(
            step["attempts"] == 1 && text(&step["last_error"]).starts_with("Keycloak: "),
            "{name}: {step}"
        );
        at[usize::from(step["kind"] == "welcome_mail")] += 1;
        keycloak.pass();
        ahead.fetch_add(6, Ordering::SeqCst);
        let summary = world.outbox().await;
        assert_eq!((&summary["retried"], &summary["failed"]), (&json!(0), &json!(0)), "{name}");
        let done = format!(
            "outbox_steps WHERE tenant_id = '{name}' AND status = 'done' AND last_error IS NULL"
        );
        assert_eq!(world.count(&done).await, 2, "{name}");
        let users = users(&world, &format!("{name}@call.example"));
        assert_eq!(users.len(), 1, "{name}");
        assert!(
            users[0].mails_sent == 1 || cut == Some(whole) && users[0].mails_sent == 2,
            "{name}: {}",
            users[0].mails_sent
        );
        assert!(
            users[0].roles.contains("customer")
                && users[0].attributes["tenant_id"] == [name.clone()],
            "{name}"
        );
    }
    assert!(at[0] >= 10 && at[1] >= 3, "both steps were cut: {at:?}");
    assert_eq!(world.count("flags").await, 0);
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

/// A refused key counts as away, and is not waited for: each receive costs no second.
#[tokio::test]
async fn a_day_without_stripe_is_noted_and_ends_applied_once() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    for receives in 1..=100 {
        match receives {
            // Three tries each.
            1..=2 => world.stripe.fail_next(3, 503),
            _ => world.stripe.fail_next(1, 401),
        }
        assert!(!world.apply_received(&event, receives).await, "{receives}");
        let tries = tries(&world, &event).await;
        assert_eq!(
            (&tries["status"], &tries["lost_tries"], &tries["transient_errors"]),
            (&json!("waiting"), &json!(0), &json!(receives))
        );
        assert!(text(&tries["last_error"]).starts_with("Stripe: "), "{tries}");
    }
    assert_eq!(made(&world, "Acme").await, nothing());
    assert!(world.apply_received(&event, 101).await);
    assert_eq!(
        (world.recorded(&event).await.0, made(&world, "Acme").await, world.count("flags").await),
        ("applied".to_owned(), once(), 0)
    );
}

/// The dead-letter queue is for what could not even be recorded.
#[tokio::test]
async fn more_than_a_day_without_stripe_is_recorded_as_failed_and_applies_when_it_is_replayed() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.stripe.fail_next(3, 401);
    assert!(!world.apply_received(&event, 119).await);
    for receives in [120, 121] {
        assert!(
            world.apply_received(&event, receives).await,
            "{receives}: recorded, so its message may go"
        );
        let (status, reason) = world.recorded(&event).await;
        assert!(status == "failed" && reason.starts_with("Stripe: "), "{status}: {reason}");
    }
    assert_eq!(
        world.row("SELECT kind, stripe_event_id FROM flags").await,
        json!({"kind": "upstream", "stripe_event_id": event["id"]})
    );
    assert_eq!(made(&world, "Acme").await, nothing());
    assert!(world.apply(&event).await);
    assert_eq!(
        (world.recorded(&event).await.0, made(&world, "Acme").await),
        ("applied".to_owned(), once())
    );
}

/// Many customers at once, each with one checkout told several times and news of other types, while
/// the database is away, then comes and goes.
#[tokio::test]
async fn two_hundred_events_on_the_real_elasticmq_outlast_a_database_that_comes_and_goes() {
    let mut world = World::new().await;
    let database = world.behind("DATABASE_PORT").await;
    let customers: Vec<Vec<Value>> = (0..20)
        .map(|n| {
            let (_, completed) =
                world.paid_checkout(&format!("Many {n:02}"), &format!("admin{n:02}@many.example"));
            let customer = &completed["data"]["object"]["customer"];
            let of = |event_type: &str| {
                let event = world.event(event_type);
                assert_eq!(&event["data"]["object"]["customer"], customer);
                event
            };
            let (created, paid) = (of("customer.subscription.created"), of("invoice.paid"));
            // Who comes first differs from customer to customer.
            let kinds = [
                &completed, &created, &paid, &completed, &completed, &paid, &created, &completed,
                &completed, &paid,
            ];
            let mixed = kinds.iter().cycle().skip(n % 10).take(10).enumerate();
            mixed
                .map(|(place, event)| {
                    let mut event = (*event).clone();
                    event["id"] = json!(format!("evt_{n:02}x{place}"));
                    event
                })
                .collect()
        })
        .collect();
    for place in 0..10 {
        for events in &customers {
            assert_eq!(world.post(&events[place]).await.status(), StatusCode::OK);
        }
    }
    database.refuse();
    for _ in 0..2 {
        assert_eq!(world.round().await, 200);
    }
    assert_eq!((world.queued().await, world.count("stripe_events").await), (200, 0));

    let mut left = vec![200];
    // First each connection lasts for a few events, then it is refused nine times of ten.
    for cut in [Some(40_000), Some(40_000), None] {
        cut.map_or_else(|| database.fail_percent(90), |bytes| database.cut_after(bytes));
        world.round().await;
        left.push(world.queued().await);
        database.refuse();
    }
    assert!(
        left.is_sorted_by(|before, after| before > after) && left[3] > 0,
        "each time some came through, never all: {left:?}"
    );
    database.pass();
    // A group of which a part is handed out lets the other part wait for the next round.
    for _ in 0..3 {
        assert_eq!(world.round().await, 0);
    }
    assert_eq!(world.queued().await, 0);
    assert_eq!(made(&world, "Many %").await, times(20));
    assert_eq!(
        world.count("tenants WHERE name LIKE 'Many %' AND stripe_customer_id IS NOT NULL").await,
        20
    );
    let statuses = "SELECT event_type LIKE 'checkout%' AS checkout, status, count(*)
                    FROM stripe_events GROUP BY 1, 2 ORDER BY 1";
    assert_eq!(
        world.rows(statuses).await,
        [
            json!({"checkout": false, "status": "applied", "count": 100}),
            json!({"checkout": true, "status": "applied", "count": 100})
        ]
    );
    for events in customers {
        let posted: Vec<_> = events.iter().map(|event| json!({"event_id": event["id"]})).collect();
        let recorded = format!(
            "SELECT event_id FROM stripe_events WHERE customer_id = '{}' ORDER BY recorded_at",
            text(&events[0]["data"]["object"]["customer"])
        );
        assert_eq!(world.rows(&recorded).await, posted);
    }
    assert_eq!(world.count("flags").await, 0);
}

/// A send whose answer is lost is repeated by Stripe; the queue knows the event's id.
#[tokio::test]
async fn a_queue_that_is_stopped_or_cut_is_503_and_ends_with_one_message_an_event() {
    let mut world = World::new().await;
    let queues = world.queues_behind();
    let (_, measured) = world.paid_checkout("Acme 0", "jane@acme.example");
    assert_eq!(world.post(&measured).await.status(), StatusCode::OK);
    let whole = queues.sent();
    let mut events = vec![measured];
    // In the middle, and between the queue's having it and its answer.
    for (n, cut) in [None, Some(whole / 2), Some(whole)].into_iter().enumerate() {
        let (_, event) = world.paid_checkout(&format!("Acme {n}"), "jane@acme.example");
        queues.refuse();
        cut.map_or_else(|| queues.refuse(), |cut| queues.cut_after(cut));
        assert_eq!(world.post(&event).await.status(), StatusCode::SERVICE_UNAVAILABLE, "{cut:?}");
        queues.pass();
        assert_eq!(world.post(&event).await.status(), StatusCode::OK, "{cut:?}");
        events.push(event);
        assert_eq!(world.queued().await as usize, events.len(), "{cut:?}");
    }
    assert_eq!(world.round().await, 0);
    assert_eq!(world.count("stripe_events WHERE status = 'applied'").await, 4);
}

/// The minute tick finds the steps; the wake and the rest are only haste and manners.
#[tokio::test]
async fn a_queue_that_is_away_after_the_commit_costs_no_event() {
    let mut world = World::new().await;
    let queues = world.queues_behind();
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    queues.refuse();
    assert!(world.apply(&event).await);
    assert_eq!(made(&world, "Acme").await, once());
    assert_eq!(world.outbox().await["done"], 2);
}

/// The mail server that Keycloak sends by is stopped, hangs, or is cut in the middle of a mail.
#[tokio::test]
async fn a_mail_server_that_is_stopped_hung_or_cut_delays_the_mail_and_nothing_else() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    let mail = Proxy::start(format!("{}:{}", stack("SMTP_HOST"), stack("SMTP_PORT")));
    world.keycloak = keycloak(Some(([127, 0, 0, 1], mail.port()).into())).await;
    world.settings.insert("KEYCLOAK_URL".to_owned(), world.keycloak.base_url());
    world.restart().await;
    for fault in ["stopped", "hung", "cut"] {
        let (_, event) = world.paid_checkout(fault, &format!("{fault}@mail.example"));
        assert!(world.apply(&event).await);
        match fault {
            "stopped" => mail.refuse(),
            "hung" => mail.stall(),
            _ => mail.cut_after(60),
        }
        assert_eq!(world.outbox().await, json!({"done": 1, "retried": 1, "failed": 0}), "{fault}");
        let step = world
            .row(&format!(
                "SELECT status, last_error FROM outbox_steps WHERE tenant_id = '{fault}'
             AND kind = 'welcome_mail'"
            ))
            .await;
        assert_eq!(step["status"], "pending", "{fault}");
        assert!(text(&step["last_error"]).starts_with("Keycloak: "), "{step}");
        mail.pass();
        ahead.fetch_add(1000, Ordering::SeqCst);
        assert_eq!(world.outbox().await, json!({"done": 1, "retried": 0, "failed": 0}), "{fault}");
    }
    assert!(world.keycloak.users().iter().all(|user| user.mails_sent == 1));
    assert_eq!(world.keycloak.users().len(), 3);
}
