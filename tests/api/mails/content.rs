//! What a mail says, to whom, and when it is skipped.

use std::time::Duration;

use serde_json::{Value, json};
use tests::World;
use tests::api::Who;

use super::{END, STEPS, change, customers, mailing, summary};

async fn results(world: &World) -> Vec<Value> {
    world
        .rows("SELECT result FROM outbox_steps WHERE kind = 'mail' ORDER BY step_id")
        .await
        .iter()
        .map(|row| row["result"].clone())
        .collect()
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
        // No one to send it to.
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

/// Trap 90: a trial's end is no news to who pays.
#[tokio::test]
async fn a_company_that_pays_for_a_main_gets_no_mail_about_its_trial() {
    let (world, smtp) = mailing(2).await;
    change(
        &world,
        "UPDATE subscriptions SET subscription_type = 'TRIAL' WHERE created_by = 'x';
         INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
         device_limit, term_start, term_end, created_by)
         VALUES ('SUB-2026-81', 'acme-1', 'MAIN', 'ACTIVE', 0, '2026-01-01', '2099-01-01', 'y'),
                ('SUB-2026-82', 'acme-2', 'MAIN', 'EXPIRED', 0, '2026-01-01', '2099-01-01', 'y')",
    )
    .await;
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    assert_eq!(results(&world).await[0], json!({"sent": false, "skipped": "overtaken"}));
    let to: Vec<_> = smtp.taken().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, ["c2@acme.example"]);
}

#[tokio::test]
async fn the_digest_counts_what_an_operator_should_see_and_is_no_tenants_step() {
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
        "no customer was sent anything"
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

    // No one reads it: it is no failure.
    let env = {
        let mut settings = world.settings.clone();
        settings.remove("OPERATOR_DIGEST_TO");
        shared::process::config::Env::of(settings)
    };
    leave("2026-10-24T06:00:00Z").await;
    let worker =
        provisioning::Provisioning::start(&env, world.clock.reader()).await.expect("provisioning");
    worker.handle().await.expect("a run");
    assert_eq!(
        results(&world).await.last().expect("one"),
        &json!({"sent": false, "skipped": "no_address"})
    );
}
