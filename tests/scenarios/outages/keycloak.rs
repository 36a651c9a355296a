//! Keycloak and the mail server.

use serde_json::json;
use tests::proxy::Proxy;
use tests::{World, keycloak, stack, text};

use super::{cuts, users};

/// Every call to Keycloak is cut at some byte, the last one also between the mail and its 204.
#[tokio::test]
async fn a_keycloak_cut_at_any_call_leaves_a_pending_step_with_its_reason_and_then_one_user() {
    let mut world = World::new().await;
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
        // Those of the companies before it, whose minute is over now or soon.
        let dismiss = "UPDATE outbox_steps SET status = 'dismissed'
                       WHERE kind = 'keycloak_organization'";
        world.db.execute(dismiss, &[]).await.expect("dismissed");
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
        world.clock.pass(6);
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

/// The mail server that Keycloak sends by is stopped, hangs, or is cut in the middle of a mail.
#[tokio::test]
async fn a_mail_server_that_is_stopped_hung_or_cut_delays_the_mail_and_nothing_else() {
    let mut world = World::new().await;
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
        world.clock.pass(1000);
        assert_eq!(world.outbox().await["retried"], 0, "{fault}");
    }
    assert!(world.keycloak.users().iter().all(|user| user.mails_sent == 1));
    assert_eq!(world.keycloak.users().len(), 3);
}
