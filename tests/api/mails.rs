//! Mails: each says what is so when it is sent; none is forgotten, and none sent twice but in the
//! one window of docs/mail.md.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use shared::outside::secrets::{Role, Secrets};
use tests::api::Who;
use tests::smtp::{At, Fault, Smtp, Tls};
use tests::{World, text};

const STEPS: &str = "/api/v1/operator/provisioning";
const END: &str = "2099-01-01T00:00:00Z";

/// Tenants `first` and on, each with a MAIN that ends far ahead.
async fn customers(world: &World, first: usize, count: usize) {
    let last = first + count - 1;
    world
        .db
        .batch_execute(&format!(
            "INSERT INTO tenants (tenant_id, name, contact_email)
             SELECT 'acme-' || n, 'Acme ' || n, 'c' || n || '@acme.example'
             FROM generate_series({first}, {last}) n;
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
             plan_id, device_limit, term_start, term_end, created_by)
             SELECT 'SUB-2026-9' || n, 'acme-' || n, 'MAIN', 'ACTIVE', 'pro', 100, '2026-01-01',
             '{END}', 'x' FROM generate_series({first}, {last}) n"
        ))
        .await
        .expect("customers");
}

/// Leaves a notice of this kind for each of them, as the hourly run does.
async fn notices(world: &World, kind: &str, at: &str) {
    world
        .db
        .execute(
            "INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, next_attempt_at,
             created_at, updated_at)
             SELECT 'mail', tenant_id, 'mail:' || $1::text || ':' || subscription_id || ':' ||
             $2::text, jsonb_build_object('mail', $1::text, 'subscription_id', subscription_id,
             'at', $2::text), now() - interval '10 minutes', now(), now()
             FROM subscriptions WHERE created_by = 'x' AND parent_subscription_id IS NULL
             ORDER BY subscription_id",
            &[&kind, &at],
        )
        .await
        .expect("notices");
}

async fn change(world: &World, sql: &str) {
    world.db.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn results(world: &World) -> Vec<Value> {
    world
        .rows("SELECT result FROM outbox_steps WHERE kind = 'mail' ORDER BY step_id")
        .await
        .iter()
        .map(|row| row["result"].clone())
        .collect()
}

fn summary(done: u32, retried: u32, failed: u32) -> Value {
    json!({"done": done, "retried": retried, "failed": failed})
}

/// A world with a mail server of its own, and so many customers with a notice each.
async fn mailing(count: usize) -> (World, Smtp) {
    let mut world = World::new().await;
    let smtp = world.mail().await;
    customers(&world, 1, count).await;
    notices(&world, "RENEWAL_30", END).await;
    (world, smtp)
}

#[tokio::test]
async fn a_notice_goes_to_the_billing_address_as_text_and_html_and_is_audited_without_it() {
    let (world, smtp) = mailing(1).await;
    change(
        &world,
        "UPDATE tenants SET name = E'Acme <b>\\r\\nBcc: all@acme.example',
         billing_email = 'billing@acme.example'
         WHERE tenant_id = 'acme-1'; INSERT INTO subscriptions (subscription_id, tenant_id,
         subscription_type, parent_subscription_id, status, device_limit, term_start, term_end,
         created_by)
         VALUES ('SUB-2026-81', 'acme-1', 'ADDON', 'SUB-2026-91', 'ACTIVE', 0, '2026-01-01',
         '2099-01-01', 'x'),
                ('SUB-2026-82', 'acme-1', 'ADDON', 'SUB-2026-91', 'EXPIRED', 0, '2026-01-01',
                '2099-01-01', 'x'); INSERT INTO subscription_tier_allocations (tenant_id,
                subscription_id, tier_id, slot_limit)
                VALUES ('acme-1', 'SUB-2026-81', 3, 7), ('acme-1', 'SUB-2026-82', 3, 8)",
    )
    .await;
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    let taken = smtp.taken();
    assert_eq!(
        (taken.len(), taken[0].to.as_str(), taken[0].header("To").as_str()),
        (1, "billing@acme.example", "billing@acme.example")
    );
    let mail = &taken[0];
    assert_eq!(mail.header("From"), "\"Pulse Billing\" <billing@pulse.example>");
    assert_eq!(
        mail.header("Subject"),
        "Acme <b> Bcc: all@acme.example: your Pro subscription ends on 1 January 2099"
    );
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.id(), "<mail.RENEWAL_30.SUB-2026-91.2099-01-01T00.00.00Z@pulse.example>");
    let head = mail.message.split("\n\n").next().expect("a head");
    assert!(!head.contains("\nBcc"), "{head}");
    let body = mail.message.replace("=\n", "");
    assert!(
        body.contains("Content-Type: text/plain")
            && body.contains("Hello Acme <b> Bcc: all@acme.example,"),
        "{body}"
    );
    assert!(
        body.contains("Content-Type: text/html")
            && body.contains("Hello Acme &#60;b&#62; Bcc: all@acme.example,"),
        "{body}"
    );
    assert!(
        body.contains("SUB-2026-81: Premium 7 slots, until 1 January 2099, 00:00 UTC")
            && !body.contains("SUB-2026-82"),
        "{body}"
    );
    let result = json!({"sent": true, "mail": "RENEWAL_30", "message_id": mail.id(),
        "to": "billing@acme.example"});
    assert_eq!(results(&world).await, [result]);
    let audit = world
        .row(
            "SELECT tenant_id, subscription_id, actor_id, details
                           FROM subscription_audit WHERE event_type = 'MAIL_SENT'",
        )
        .await;
    let details = json!({"sent": true, "mail": "RENEWAL_30", "message_id": mail.id()});
    assert_eq!(
        audit,
        json!({"tenant_id": "acme-1", "subscription_id": "SUB-2026-91", "actor_id": "outbox",
        "details": details})
    );

    assert_eq!(world.outbox().await, summary(0, 0, 0), "a sent one is never repeated");
    let api = world.api().await;
    let step =
        api.get(Who::Operator, &format!("{STEPS}?kind=mail")).await.expect(200)["steps"][0].clone();
    api.write("POST", &format!("{STEPS}/{}/retry", step["step_id"]), json!({}))
        .await
        .problem(409, "step_final");
    assert_eq!(smtp.taken().len(), 1);
}

#[tokio::test]
async fn a_mail_that_no_longer_holds_or_has_no_address_is_skipped_and_says_so() {
    let (world, smtp) = mailing(12).await;
    let set = |number: usize, columns: &str| {
        format!("UPDATE subscriptions SET {columns} WHERE subscription_id = 'SUB-2026-9{number}';")
    };
    let payload = |number: usize, mail: &str, at: &str| {
        format!(
            "UPDATE outbox_steps SET payload = payload ||
             '{{\"mail\": \"{mail}\", \"at\": \"{at}\"}}' WHERE tenant_id = 'acme-{number}';"
        )
    };
    let grace = "2098-06-01T00:00:00Z";
    let in_grace = format!("status = 'GRACE', grace_end = '{grace}'");
    let sql = [
        // What no longer holds: another term, another status, a tenant that is gone, what has
        // passed.
        set(1, "term_end = '2099-02-01'"),
        set(2, "status = 'SUSPENDED'"),
        "UPDATE tenants SET status = 'DELETED' WHERE tenant_id = 'acme-3';".to_owned(),
        set(4, "term_end = '2026-02-01'") + &payload(4, "RENEWAL_1", "2026-02-01T00:00:00Z"),
        set(5, &in_grace) + &payload(5, "GRACE", END),
        payload(6, "SUSPENDED", grace),
        set(7, "status = 'EXPIRED', term_end = '2099-02-01'") + &payload(7, "EXPIRED", END),
        // Nobody to send it to.
        "UPDATE tenants SET contact_email = NULL WHERE tenant_id = 'acme-8';".to_owned(),
        // What holds, each of its kind.
        set(9, "status = 'TRIAL'"),
        set(10, &in_grace) + &payload(10, "GRACE", grace),
        set(11, "status = 'SUSPENDED'") + &payload(11, "SUSPENDED", grace),
        set(12, "status = 'EXPIRED'") + &payload(12, "EXPIRED", END),
    ];
    change(&world, &sql.concat()).await;
    assert_eq!(world.outbox().await, summary(12, 0, 0));
    let results = world
        .rows(
            "SELECT substr(tenant_id, 6)::int AS n, result FROM outbox_steps
                              WHERE kind = 'mail' ORDER BY 1",
        )
        .await;
    let skipped: Vec<Value> = results.iter().map(|row| row["result"]["skipped"].clone()).collect();
    let overtaken = json!("overtaken");
    assert_eq!(skipped[..7], vec![overtaken; 7]);
    assert_eq!(skipped[7], "no_address");
    assert_eq!(skipped[8..], vec![Value::Null; 4]);
    let mut to: Vec<_> = smtp.taken().into_iter().map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(to, ["c10@acme.example", "c11@acme.example", "c12@acme.example", "c9@acme.example"]);
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'MAIL_SENT'").await,
        4,
        "and none for what was not sent"
    );
}

/// The run gives way at the server's first failure: one mail's try, not everybody's, and no login
/// waits for it.
#[tokio::test]
async fn a_server_that_is_away_or_hangs_costs_one_mail_a_try_and_nobody_is_forgotten() {
    let (mut world, smtp) = mailing(5).await;
    let ahead = world.move_outbox_clock();
    world.provisioning.outbox.mailer.timeout = Duration::from_millis(300);
    let (_, event) = world.paid_checkout("Beta", "joe@beta.example");
    world.receive(&[&event]).await;
    smtp.fault(Fault::Stalls(At::Greeting));
    assert_eq!(
        world.outbox().await,
        summary(2, 1, 0),
        "the login is made, behind five mails that were due before it"
    );
    let steps = world
        .row(
            "SELECT count(*) AS n, max(last_error) AS error FROM outbox_steps
                           WHERE kind = 'mail' AND attempts = 1 AND status = 'pending'",
        )
        .await;
    assert_eq!(
        (&steps["n"], text(&steps["error"]).as_str()),
        (&json!(1), "mail server: no word within 0 s")
    );
    for (tries, fault) in [
        Fault::Greets("421 4.3.2 busy"),
        Fault::Greets("554 5.3.2 not for you"),
        Fault::Stalls(At::Recipient),
        Fault::Drops(At::Recipient),
        Fault::Stalls(At::Data),
        Fault::Drops(At::Data),
    ]
    .into_iter()
    .enumerate()
    {
        smtp.fault(fault);
        assert_eq!(world.outbox().await, summary(0, 1, 0), "{fault:?}");
        assert_eq!(
            world.row("SELECT sum(attempts) AS n FROM outbox_steps WHERE kind = 'mail'").await["n"],
            tries + 2
        );
        ahead.fetch_add(1000, Ordering::SeqCst);
    }
    assert_eq!(smtp.taken().len(), 0);
    // And one that nobody listens for.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("its address")
        .port();
    let (there, clock) =
        (world.settings["SMTP_PORT"].clone(), world.provisioning.outbox.applier.clock.clone());
    world.settings.insert("SMTP_PORT".to_owned(), gone.to_string());
    world.restart().await;
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    ahead.fetch_add(1000, Ordering::SeqCst);
    world.settings.insert("SMTP_PORT".to_owned(), there);
    world.restart().await;
    world.provisioning.outbox.applier.clock = clock;
    smtp.fault(Fault::None);
    assert_eq!(world.outbox().await, summary(5, 0, 0));
    let mut to: Vec<_> = smtp.taken().into_iter().map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(
        to,
        (1..=5).map(|number| format!("c{number}@acme.example")).collect::<Vec<_>>(),
        "each once"
    );
}

/// The one window: the server has the message, and its word, or ours of it, is lost.
#[tokio::test]
async fn a_mail_whose_acceptance_is_lost_comes_twice_with_one_message_id() {
    let (mut world, smtp) = mailing(2).await;
    let ahead = world.move_outbox_clock();
    world.provisioning.outbox.mailer.timeout = Duration::from_millis(300);
    for fault in [Fault::Drops(At::Dot), Fault::Stalls(At::Dot)] {
        smtp.fault(fault);
        assert_eq!(world.outbox().await, summary(0, 1, 0), "{fault:?}");
    }
    smtp.fault(Fault::None);
    ahead.store(1000, Ordering::SeqCst);
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    let taken = smtp.taken();
    let twice = |number: usize| {
        taken
            .iter()
            .filter(|mail| mail.to == format!("c{number}@acme.example"))
            .map(tests::smtp::Taken::id)
            .collect::<Vec<_>>()
    };
    for number in [1, 2] {
        let ids = twice(number);
        assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    }
    assert_ne!(twice(1)[0], twice(2)[0]);
    assert_eq!(world.count("subscription_audit WHERE event_type = 'MAIL_SENT'").await, 2);
}

#[tokio::test]
async fn one_recipient_that_is_refused_holds_up_no_other_and_is_given_up_visibly() {
    let (mut world, smtp) = mailing(6).await;
    let ahead = world.move_outbox_clock();
    smtp.state()
        .refused
        .insert("c2@acme.example".to_owned(), "550 5.1.1 <c2@acme.example>: no such user");
    smtp.state().refused.insert("c3@acme.example".to_owned(), "451 4.7.1 come back later");
    change(
        &world,
        "UPDATE tenants SET billing_email = 'no address' WHERE tenant_id = 'acme-4'; UPDATE tenants
         SET billing_email = 'jörg@acme.example' WHERE tenant_id = 'acme-5'",
    )
    .await;
    assert_eq!(world.outbox().await, summary(2, 1, 3));
    assert_eq!(smtp.connections(), 1, "a refusal ends no connection");
    let mut to: Vec<_> = smtp.taken().into_iter().map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(to, ["c1@acme.example", "c6@acme.example"]);
    let failed = world
        .rows(
            "SELECT tenant_id, last_error FROM outbox_steps WHERE status = 'failed'
                             ORDER BY tenant_id",
        )
        .await;
    let errors: Vec<_> =
        failed.iter().map(|row| (text(&row["tenant_id"]), text(&row["last_error"]))).collect();
    assert_eq!(
        errors[0],
        (
            "acme-2".to_owned(),
            "mail server: permanent error (550): 5.1.1 … no such user".to_owned()
        )
    );
    assert_eq!(
        errors[1].1,
        "mail server: the recipient's address is none that mail can be sent to"
    );
    assert_eq!(errors[2].1, "mail server: it takes no address with other than ASCII characters");
    let flags = world.rows("SELECT kind, tenant_id, detail FROM flags ORDER BY tenant_id").await;
    assert_eq!(flags.len(), 3);
    assert!(
        flags
            .iter()
            .all(|flag| flag["kind"] == "step_failed" && !text(&flag["detail"]).contains('@')),
        "{flags:?}"
    );

    smtp.state().refused.clear();
    ahead.store(6, Ordering::SeqCst);
    assert_eq!(world.outbox().await, summary(1, 0, 0), "the transient one by itself");
    let api = world.api().await;
    let act = async |tenant: &str, action: &str, body: Value| {
        let step = api
            .get(Who::Operator, &format!("{STEPS}?kind=mail&tenant_id={tenant}"))
            .await
            .expect(200)["steps"][0]
            .clone();
        api.write("POST", &format!("{STEPS}/{}/{action}", step["step_id"]), body).await
    };
    assert_eq!(
        act("acme-2", "retry", json!({"email": "x@acme.example"})).await.faults(),
        ["email makes no sense for a step of kind mail"]
    );
    // Mended where the address is kept, and tried again.
    change(
        &world,
        "UPDATE tenants SET billing_email = 'new@acme.example' WHERE tenant_id = 'acme-2'",
    )
    .await;
    assert_eq!(act("acme-2", "retry", json!({})).await.expect(200)["status"], "pending");
    assert_eq!(
        act("acme-4", "dismiss", json!({"note": "no address known"})).await.expect(200)["status"],
        "dismissed"
    );
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    assert_eq!(smtp.taken().last().expect("one").to, "new@acme.example");
}

#[tokio::test]
async fn a_wrong_password_keeps_the_mails_and_a_rotated_one_is_read_again() {
    let (mut world, smtp) = mailing(3).await;
    smtp.state().login = Some(("pulse", "second"));
    let aws = tests::aws();
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    let prefix = format!("{}/", world.settings["DATABASE_NAME"]);
    let name = format!("{prefix}system");
    let kept = manager
        .get_secret_value()
        .secret_id(format!("{}system", tests::stack("SECRETS_PREFIX")))
        .send()
        .await
        .expect("the stack's");
    let mut secret: Value =
        serde_json::from_str(kept.secret_string().expect("text")).expect("JSON");
    secret["SMTP_PASSWORD"] = json!("first");
    manager
        .create_secret()
        .name(&name)
        .secret_string(secret.to_string())
        .send()
        .await
        .expect("a secret");
    let env = world.env(&[("SECRETS_PREFIX", &prefix), ("SMTP_USER", "pulse")]);
    let secrets =
        Secrets::read_with(&aws, &env, Role::System, Duration::ZERO).await.expect("the secret");
    let settings = shared::process::config::SmtpSettings::from_env(&env).expect("settings");
    world.provisioning.outbox.mailer =
        shared::outside::smtp::Mailer::new(settings, secrets).expect("a mailer");
    assert_eq!(
        world.outbox().await,
        summary(0, 1, 0),
        "one that waits is not given up for it, and the others are not tried"
    );
    let error = text(
        &world.row("SELECT last_error FROM outbox_steps WHERE attempts = 1").await["last_error"],
    );
    assert!(
        error.starts_with("mail server: permanent error (535)") && !error.contains("first"),
        "{error}"
    );
    secret["SMTP_PASSWORD"] = json!("second");
    manager
        .put_secret_value()
        .secret_id(&name)
        .secret_string(secret.to_string())
        .send()
        .await
        .expect("rotated");
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    assert_eq!(
        smtp.state().passwords,
        ["first", "first", "first", "second"],
        "read again after each refusal"
    );
    assert!(smtp.taken().iter().all(|mail| mail.by.as_deref() == Some("pulse")));
}

/// Neither a mail nor the password goes out in the clear, or to another server than the one named.
#[tokio::test]
async fn tls_is_used_unless_switched_off_and_the_certificate_is_checked() {
    let (mut world, plain) = mailing(4).await;
    let ahead = world.move_outbox_clock();
    let (start, wrapped) = (Smtp::start(Tls::Start).await, Smtp::start(Tls::Wrapped).await);
    let mut run = async |smtp: &Smtp, tls: &str, host: &str, trusted: bool| {
        let file =
            std::env::temp_dir().join(format!("{}.smtp.pem", world.settings["DATABASE_NAME"]));
        std::fs::write(&file, &smtp.certificate).expect("written");
        let (port, path) = (smtp.port.to_string(), file.to_str().expect("a path"));
        let mut settings = vec![("SMTP_TLS", tls), ("SMTP_HOST", host), ("SMTP_PORT", &port)];
        if trusted {
            settings.push(("SMTP_CA_FILE", path));
        }
        let env = world.env(&settings);
        let secrets = Secrets::read(&tests::aws(), &env, Role::System).await.expect("the secret");
        let settings = shared::process::config::SmtpSettings::from_env(&env).expect("settings");
        world.provisioning.outbox.mailer =
            shared::outside::smtp::Mailer::new(settings, secrets).expect("a mailer");
        std::fs::remove_file(file).expect("removed");
        let before = smtp.taken().len();
        let ran = world.provisioning.outbox.run(Duration::from_millis(1)).await.expect("a run");
        ahead.fetch_add(1000, Ordering::SeqCst);
        (ran.done, smtp.taken().len() - before)
    };
    assert_eq!(
        run(&plain, "starttls", "127.0.0.1", false).await,
        (0, 0),
        "a server that does not offer it"
    );
    for (smtp, tls) in [(&start, "starttls"), (&wrapped, "tls")] {
        assert_eq!(run(smtp, tls, "localhost", false).await, (0, 0), "{tls}: an unknown issuer");
        assert_eq!(run(smtp, tls, "127.0.0.1", true).await, (0, 0), "{tls}: another name");
        assert_eq!(run(smtp, tls, "localhost", true).await, (1, 1), "{tls}");
    }
}

#[tokio::test]
async fn a_thousand_mails_go_over_one_connection_after_the_login_that_came_last() {
    let (world, smtp) = mailing(1000).await;
    let (_, event) = world.paid_checkout("Beta", "joe@beta.example");
    world.receive(&[&event]).await;
    let ran = world.provisioning.outbox.run(Duration::from_mins(5)).await.expect("a run");
    assert_eq!((ran.done, ran.retried, ran.failed), (1002, 0, 0));
    assert_eq!((smtp.connections(), smtp.taken().len()), (1, 1000));
    let order = world
        .row(
            "SELECT max(updated_at) FILTER (WHERE kind <> 'mail') < min(updated_at) FILTER
                   (WHERE kind = 'mail') AS first FROM outbox_steps",
        )
        .await;
    assert_eq!(order["first"], true, "a login waits for no mail");
    // A connection that the server closes between two runs is no failure.
    notices(&world, "RENEWAL_7", END).await;
    change(
        &world,
        "UPDATE outbox_steps SET status = 'dismissed' WHERE status = 'pending'
                    AND tenant_id NOT IN ('acme-1', 'acme-2')",
    )
    .await;
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    assert_eq!((smtp.connections(), smtp.taken().len()), (2, 1002), "a run at rest holds none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_at_once_send_each_mail_once() {
    let (world, smtp) = mailing(60).await;
    let env = world.env(&[]);
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(
            provisioning::Provisioning::start(&env, shared::base::clock::Clock::system())
                .await
                .expect("provisioning"),
        );
    }
    let ran =
        join_all(workers.iter().chain(&workers).map(provisioning::Provisioning::handle)).await;
    assert_eq!(ran.into_iter().map(|ran| ran.expect("a run").done).sum::<u32>(), 60);
    let mut to: Vec<_> = smtp.taken().into_iter().map(|mail| mail.to).collect();
    to.sort();
    to.dedup();
    assert_eq!((to.len(), smtp.taken().len()), (60, 60));
}

#[tokio::test]
async fn the_digest_counts_what_a_person_should_see_and_is_nobodys_step() {
    let mut world = World::new().await;
    let smtp = world.mail().await;
    let leave = async |to: &str| {
        let sql = format!(
            "INSERT INTO outbox_steps (kind, dedup_key, payload, next_attempt_at, created_at,
             updated_at)
             VALUES ('mail', 'mail:DIGEST:{to}',
             '{{\"mail\": \"DIGEST\", \"from\": \"2026-10-20T06:00:00Z\", \"to\": \"{to}\"}}',
             now(), now(), now())"
        );
        change(&world, &sql).await;
    };
    leave("2026-10-21T06:00:00Z").await;
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    assert_eq!(smtp.taken()[0].to, "operators@pulse.example");
    assert_eq!(
        smtp.taken()[0].header("Subject"),
        "Pulse Billing digest, 21 October 2026: nothing to do"
    );

    customers(&world, 1, 1).await;
    change(
        &world,
        "INSERT INTO flags (kind, tenant_id, detail, created_at)
         SELECT 'plan_unresolved', 'acme-1', 'flag ' || n, now() FROM generate_series(1, 22) n;
         UPDATE flags SET resolved_at = now() WHERE detail = 'flag 22';
         INSERT INTO stripe_events (event_id, event_type, livemode, created_at, status,
         status_reason) VALUES ('evt_bad', 'invoice.paid', false, now(), 'failed',
         'two plans'); INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, status,
         next_attempt_at, last_error, created_at) VALUES
             ('stripe_sync', 'acme-1', 'a', '{}', 'failed', now(), 'Stripe: 404',
             '2026-10-22T05:59:00Z'),
             ('stripe_sync', 'acme-1', 'b', '{}', 'pending', now() + interval '1 day', NULL,
             '2026-10-22T04:59:00Z'),
             ('stripe_sync', 'acme-1', 'c', '{}', 'pending', now() + interval '1 day', NULL,
             '2026-10-22T05:01:00Z'); INSERT INTO subscription_audit (event_timestamp, event_type,
             tenant_id, subscription_id, actor_type, actor_id, previous_state, new_state) VALUES
             ('2026-10-20T06:00:00Z', 'STATUS_GRACE', 'acme-1', 'SUB-2026-91', 'system', 'renewal',
             '{\"status\": \"ACTIVE\"}', '{\"status\": \"GRACE\"}'),
             ('2026-10-20T05:59:59Z', 'STATUS_GRACE', 'acme-1', 'SUB-2026-91', 'system', 'renewal',
             '{\"status\": \"ACTIVE\"}', '{\"status\": \"GRACE\"}'),
             ('2026-10-22T06:00:00Z', 'STATUS_GRACE', 'acme-1', 'SUB-2026-91', 'system', 'renewal',
             '{\"status\": \"ACTIVE\"}', '{\"status\": \"GRACE\"}'),
             ('2026-10-21T06:00:00Z', 'UPDATED', 'acme-1', 'SUB-2026-91', 'admin', 'op',
             '{\"status\": \"GRACE\"}', '{\"status\": \"GRACE\"}'),
             ('2026-10-21T06:00:00Z', 'STATUS_SUSPENDED', 'acme-1', 'SUB-2026-91', 'system',
             'stripe', '{\"status\": \"GRACE\"}', '{\"status\": \"SUSPENDED\"}'),
             ('2026-10-21T06:00:00Z', 'TIER_SLOTS_RECONCILED', 'acme-1', 'SUB-2026-91', 'system',
             'renewal', NULL, NULL)",
    )
    .await;
    leave("2026-10-22T06:00:00Z").await;
    world.provisioning.outbox.run(Duration::from_secs(20)).await.expect("a run");
    let taken = smtp.taken();
    let mail = taken.last().expect("a digest");
    assert_eq!(mail.header("Subject"), "Pulse Billing digest, 22 October 2026: 24 to look at");
    let body = mail.message.replace("=\n", "");
    for line in [
        "Open flags: 21\n",
        "plan_unresolved acme-1: flag 21\n",
        "and 1 more\n",
        "Failed events: 1\n",
        "evt_bad invoice.paid: two plans\n",
        "Stuck steps: 2\n",
        "stripe_sync acme-1: failed, tries: 0, Stripe: 404\n",
        "New graces: 1\n- acme-1 SUB-2026-91 by renewal\n",
        "New suspensions: 1\n- acme-1 SUB-2026-91 by stripe\n",
        "Corrections: 1\n- TIER_SLOTS_RECONCILED acme-1 SUB-2026-91\n",
    ] {
        assert!(body.contains(line), "{line} in {body}");
    }
    assert!(
        !body.contains("flag 22") && !body.contains("flag 1\n"),
        "twenty lines of the open ones: {body}"
    );
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'MAIL_SENT'").await,
        0,
        "no customer was told anything"
    );

    // The operators' own address is refused: a step and a flag of no tenant, which they can end.
    smtp.state().refused.insert("operators@pulse.example".to_owned(), "550 5.1.1 gone");
    leave("2026-10-23T06:00:00Z").await;
    assert_eq!(world.outbox().await["failed"], 1);
    let api = world.api().await;
    let steps = api
        .get(Who::Operator, &format!("{STEPS}?kind=mail&status=failed"))
        .await
        .expect(200)["steps"]
        .clone();
    assert_eq!((steps.as_array().map(Vec::len), &steps[0]["tenant_id"]), (Some(1), &Value::Null));
    let flag = api.get(Who::Operator, "/api/v1/operator/flags?kind=step_failed").await.expect(200)
        ["flags"][0]
        .clone();
    assert_eq!(flag["tenant_id"], Value::Null);
    let act = async |action: &str, body: Value| {
        api.write("POST", &format!("{STEPS}/{}/{action}", steps[0]["step_id"]), body)
            .await
            .expect(200)
    };
    assert_eq!(act("retry", json!({})).await["tenant_id"], Value::Null);
    act("dismiss", json!({"note": "address changed"})).await;
    assert_eq!(
        world
            .count(
                "subscription_audit WHERE tenant_id IS NULL
                            AND event_type LIKE 'PROVISIONING_%' AND actor_type = 'admin'"
            )
            .await,
        2
    );

    // Nobody reads it: it is no failure.
    let env = {
        let mut settings = world.settings.clone();
        settings.remove("OPERATOR_DIGEST_TO");
        shared::process::config::Env::of(settings)
    };
    leave("2026-10-24T06:00:00Z").await;
    let worker = provisioning::Provisioning::start(&env, shared::base::clock::Clock::system())
        .await
        .expect("provisioning");
    worker.handle().await.expect("a run");
    assert_eq!(
        results(&world).await.last().expect("one"),
        &json!({"sent": false, "skipped": "no_address"})
    );
}
