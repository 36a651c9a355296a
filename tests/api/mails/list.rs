//! The mails about a subscription, as operators read them.

use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::text;

use super::{END, change, mailing, notices};

fn path(subscription: &str) -> String {
    format!("/api/v1/operator/subscriptions/{subscription}/mails")
}

async fn list(api: &Api, subscription: &str) -> Vec<Value> {
    let page = api.get(Who::Operator, &path(subscription)).await.expect(200);
    assert_eq!(page["next_cursor"], Value::Null);
    page["mails"].as_array().expect("a list").clone()
}

/// Trap 121.
#[tokio::test]
async fn an_operator_sees_every_mail_about_a_subscription_and_what_became_of_it() {
    let (world, smtp) = mailing(2).await;
    let api = world.api().await;
    assert_eq!(list(&api, "SUB-2026-91").await[0]["status"], "pending");
    world.outbox().await;
    // It was true when it was left, and is no longer.
    notices(&world, "GRACE", END).await;
    world.outbox().await;
    notices(&world, "RENEWAL_14", END).await;
    let unknown = "550 5.1.1 no c1@acme.example here";
    smtp.state().refused.insert("c1@acme.example".to_owned(), unknown);
    world.outbox().await;

    let mails = list(&api, "SUB-2026-91").await;
    let said = |key: &str| mails.iter().map(|mail| mail[key].clone()).collect::<Vec<_>>();
    assert_eq!(said("mail"), ["RENEWAL_14", "GRACE", "RENEWAL_30"], "the newest first");
    assert_eq!(said("status"), ["failed", "done", "done"]);
    assert_eq!(said("skipped"), [Value::Null, json!("overtaken"), Value::Null]);
    assert_eq!(said("to"), [Value::Null, Value::Null, json!("c1@acme.example")]);
    assert_eq!(said("next_attempt_at"), [Value::Null, Value::Null, Value::Null]);
    assert!(mails[0]["sent_at"].is_null() && mails[1]["sent_at"].is_null(), "{mails:?}");
    assert!(mails[2]["sent_at"].is_string(), "{mails:?}");
    assert!(text(&mails[2]["message_id"]).starts_with("<mail.RENEWAL_30.SUB-2026-91."));
    let error = text(&mails[0]["last_error"]);
    assert!(error.contains("550") && !error.contains('@'), "{error}");
    assert!(mails.iter().all(|mail| mail["at"] == END && mail["subscription_id"] == "SUB-2026-91"));

    // An ADDON has no mail of its own: it is a line of its root's.
    change(
        &world,
        &format!(
            "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
             parent_subscription_id, device_limit, term_start, term_end, created_by)
             VALUES ('SUB-2026-77', 'acme-1', 'ADDON', 'ACTIVE', 'SUB-2026-91', 5, '2026-01-01',
             '{END}', 'y')"
        ),
    )
    .await;
    assert_eq!(list(&api, "SUB-2026-77").await, mails);
}

#[tokio::test]
async fn the_mails_of_a_subscription_are_paged_and_nobody_elses() {
    let (world, _smtp) = mailing(2).await;
    for kind in ["RENEWAL_14", "RENEWAL_7"] {
        notices(&world, kind, END).await;
    }
    let api = world.api().await;
    let mails = api.pages(Who::Operator, &(path("SUB-2026-92") + "?limit=2"), "mails").await;
    let kinds: Vec<_> = mails.iter().map(|mail| text(&mail["mail"])).collect();
    assert_eq!(kinds, ["RENEWAL_7", "RENEWAL_14", "RENEWAL_30"]);
    api.get(Who::Operator, &path("SUB-2026-9999")).await.problem(404, "subscription_not_found");
    api.get(Who::Operator, &(path("SUB-2026-92") + "?limit=0")).await.problem(422, "invalid");
    api.get(Who::Customer("acme-2"), &path("SUB-2026-92")).await.problem(403, "operator_required");
}
