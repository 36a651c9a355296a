//! Mail servers that refuse, fail or hang, and many workers at once.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use shared::outside::secrets::{Role, Secrets};
use tests::api::Who;
use tests::smtp::{At, Fault, Smtp, Tls};
use tests::text;

use super::{END, STEPS, change, mailing, notices, summary};

/// The run gives way at the server's first failure: one mail's try, not everybody's, and no login
/// waits for it.
#[tokio::test]
async fn a_server_that_is_away_or_hangs_costs_one_mail_a_try_and_no_one_is_forgotten() {
    let (mut world, smtp) = mailing(5).await;
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
        (&json!(1), "mail server: no answer within 0 s")
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
        assert_eq!(world.outbox().await["retried"], 1, "{fault:?}");
        assert_eq!(
            world.row("SELECT sum(attempts) AS n FROM outbox_steps WHERE kind = 'mail'").await["n"],
            tries + 2
        );
        world.clock.pass(1000);
    }
    assert_eq!(smtp.taken().len(), 0);
    // And one on which nothing listens.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("its address")
        .port();
    let there = world.settings["SMTP_PORT"].clone();
    world.settings.insert("SMTP_PORT".to_owned(), gone.to_string());
    world.restart().await;
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    world.clock.pass(1000);
    world.settings.insert("SMTP_PORT".to_owned(), there);
    world.restart().await;
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
    world.provisioning.outbox.mailer.timeout = Duration::from_millis(300);
    for fault in [Fault::Drops(At::Dot), Fault::Stalls(At::Dot)] {
        smtp.fault(fault);
        assert_eq!(world.outbox().await, summary(0, 1, 0), "{fault:?}");
    }
    smtp.fault(Fault::None);
    world.clock.run_ahead(1000);
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
    let (world, smtp) = mailing(6).await;
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
    world.clock.run_ahead(6);
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
        world.clock.pass(1000);
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
    assert_eq!((ran.retried, ran.failed), (0, 0));
    assert_eq!((smtp.connections(), smtp.taken().len()), (1, 1000));
    let order = world
        .row(
            "SELECT max(updated_at) FILTER (WHERE kind IN ('keycloak_user', 'welcome_mail'))
                    < min(updated_at) FILTER (WHERE kind = 'mail') AS first FROM outbox_steps
             WHERE status = 'done'",
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
            provisioning::Provisioning::start(&env, world.clock.reader())
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
