//! `operations`: the outbox's steps, as operators read and mend them.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Reply, SOURCE_IP, Who};
use tests::{World, text};

const STEPS: &str = "/api/v1/operator/provisioning";

async fn provisioned(world: &World, company: &str, email: &str) {
    let (_, event) = world.paid_checkout(company, email);
    world.receive(&[&event]).await;
}

async fn steps(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.get(Who::Operator, &format!("{STEPS}{query}")).await.expect(200);
    let steps = answer["steps"].as_array().expect("a list").clone();
    assert_eq!(answer["count"], steps.len());
    steps
}

/// The only step of a tenant and kind.
async fn step(api: &Api, tenant: &str, kind: &str) -> Value {
    let steps = steps(api, &format!("?tenant_id={tenant}&kind={kind}")).await;
    assert_eq!(steps.len(), 1, "{steps:?}");
    steps[0].clone()
}

#[tokio::test]
async fn one_step_is_read_by_its_number() {
    let world = World::new().await;
    let api = world.api().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    let listed = step(&api, "acme", "keycloak_user").await;
    let path = format!("{STEPS}/{}", listed["step_id"]);
    assert_eq!(api.get(Who::Operator, &path).await.expect(200), listed);
    let unknown = api.get(Who::Operator, &format!("{STEPS}/999999")).await;
    assert_eq!(unknown.problem(404, "step_not_found"), "Outbox step not found");
}

async fn act(api: &Api, step: &Value, action: &str, body: Value) -> Reply {
    api.write("POST", &format!("{STEPS}/{}/{action}", step["step_id"]), body).await
}

async fn audit(api: &Api) -> Vec<Value> {
    let answer = api.get(Who::Operator, "/api/v1/operator/audit").await.expect(200);
    let rows = answer["audit"].as_array().expect("a list");
    rows.iter().filter(|row| row["actor_type"] == "admin").cloned().collect()
}

#[tokio::test]
async fn steps_are_listed_newest_first_by_any_filter_and_page() {
    let world = World::new().await;
    let api = world.api().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    provisioned(&world, "Beta", "joe@beta.example").await;
    assert_eq!(world.outbox().await["done"], 4);
    provisioned(&world, "Gamma", "ann@gamma.example").await;
    world.keycloak.fail_next_on("/users", 1, 400);
    world.outbox().await;

    let places = async |query: &str| {
        let steps = steps(&api, query).await;
        steps
            .iter()
            .map(|step| format!("{} {}", text(&step["tenant_id"]), text(&step["kind"])))
            .collect::<Vec<_>>()
    };
    let all = [
        "gamma welcome_mail",
        "gamma keycloak_user",
        "gamma keycloak_organization",
        "beta welcome_mail",
        "beta keycloak_user",
        "beta keycloak_organization",
        "acme welcome_mail",
        "acme keycloak_user",
        "acme keycloak_organization",
    ];
    assert_eq!(places("").await, all);
    assert_eq!(places("?tenant_id=beta").await, all[3..6]);
    assert_eq!(places("?kind=keycloak_user").await, [all[1], all[4], all[7]]);
    assert_eq!(places("?status=done").await, [all[3], all[4], all[6], all[7]]);
    assert_eq!(places("?status=failed").await, all[1..2]);
    assert_eq!(places("?status=pending&tenant_id=gamma&kind=welcome_mail").await, all[..1]);
    assert_eq!(places("?status=dismissed").await, [""; 0]);
    assert_eq!(places("?kind=stripe_cancel").await, [""; 0]);
    assert_eq!(places("?limit=2&offset=3").await, all[3..5]);
    let seen = api.pages(Who::Operator, &format!("{STEPS}?limit=2"), "steps").await;
    assert_eq!(seen, steps(&api, "").await);

    let done = step(&api, "acme", "keycloak_user").await;
    let user = world
        .keycloak
        .users()
        .into_iter()
        .find(|user| user.username == "jane@acme.example")
        .expect("made");
    assert_eq!(
        done["payload"],
        json!({"email": "jane@acme.example", "first_name": "Jane", "last_name": null})
    );
    assert_eq!(
        (&done["status"], &done["attempts"], &done["result"]),
        (&json!("done"), &json!(1), &json!({"user_id": user.id}))
    );
    assert_eq!((&done["last_error"], &done["after_step_id"]), (&Value::Null, &Value::Null));
    assert_eq!(step(&api, "acme", "welcome_mail").await["after_step_id"], done["step_id"]);
    let failed = step(&api, "gamma", "keycloak_user").await;
    assert!(text(&failed["last_error"]).starts_with("Keycloak: "), "{failed}");
    for at in ["created_at", "updated_at", "next_attempt_at"] {
        assert!(text(&failed[at]).ends_with('Z'), "{at}");
    }

    let faults = api
        .get(
            Who::Operator,
            &format!("{STEPS}?kind=letter&status=open&tenant_id=A&limit=x&step_id=1"),
        )
        .await
        .faults();
    assert_eq!(
        faults,
        [
            "kind must be one of keycloak_user, welcome_mail, keycloak_organization, stripe_cancel, \
             stripe_addon_quantity, stripe_customer, stripe_sync, mail",
            "limit must be a whole number, not text",
            "status must be one of pending, done, failed, dismissed",
            "step_id is not a field of this request",
            "tenant_id must match ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        ]
    );
}

#[tokio::test]
async fn a_failed_step_is_tried_again_with_other_fields_and_is_done_at_the_next_run() {
    let world = World::new().await;
    let api = world.api().await;
    provisioned(&world, "Acme", "jane@acme").await;
    world.keycloak.fail_next_on("/users", 1, 400);
    assert_eq!(world.outbox().await["failed"], 1);
    let failed = step(&api, "acme", "keycloak_user").await;
    let retried =
        act(&api, &failed, "retry", json!({"email": "jane@acme.example", "last_name": "Doe"}))
            .await
            .expect(200);
    assert_eq!(retried["status"], "pending");
    assert_eq!(
        retried["payload"],
        json!({"email": "jane@acme.example", "first_name": "Jane", "last_name": "Doe"}),
        "the rest of it stays"
    );
    assert_eq!(retried["step_id"], failed["step_id"]);
    assert_eq!(retried, step(&api, "acme", "keycloak_user").await);
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(
        world.keycloak.users().into_iter().map(|user| user.username).collect::<Vec<_>>(),
        ["jane@acme.example"]
    );

    let rows = audit(&api).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (&row["event_type"], &row["tenant_id"], &row["ip_address"]),
        (&json!("PROVISIONING_RETRIED"), &json!("acme"), &json!(SOURCE_IP))
    );
    assert_eq!(
        row["details"],
        json!({"step_id": failed["step_id"], "changed": ["email", "last_name"]})
    );
    assert_eq!(
        row["previous_state"],
        json!({"status": "failed", "last_error": failed["last_error"]})
    );
    assert!(!row.to_string().contains("jane"), "nothing personal where nothing is deleted");
}

/// A step that waits for its next attempt is due at once, and its 72 hours begin again.
#[tokio::test]
async fn a_waiting_step_is_tried_at_the_next_run_where_an_operator_says_so() {
    let world = World::new().await;
    let api = world.api().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    assert_eq!(steps(&api, "").await.len(), 3, "and the keys of tokens are read");
    world.keycloak.stop().await;
    assert_eq!(world.outbox().await["retried"], 1);
    world.clock.run_ahead(1);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 0}), "it waits");
    let waiting = step(&api, "acme", "keycloak_user").await;
    let retried = act(&api, &waiting, "retry", Value::Null).await;
    assert_eq!(retried.faults(), ["body must be an object, not null"]);
    let retried = api
        .raw(Who::Admin, "POST", &format!("{STEPS}/{}/retry", waiting["step_id"]), &[], "")
        .await
        .expect(200);
    assert_eq!(
        (&retried["status"], &retried["payload"]),
        (&json!("pending"), &waiting["payload"]),
        "no body at all asks for no other address"
    );
    world.keycloak.restart().await.expect("back");
    assert_eq!(world.outbox().await["done"], 2);
    assert_eq!(audit(&api).await[0]["details"]["changed"], json!([]));
}

#[tokio::test]
async fn a_dismissed_step_ends_undone_with_what_waits_for_it() {
    let world = World::new().await;
    let api = world.api().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    let pending = step(&api, "acme", "keycloak_user").await;
    let dismissed =
        act(&api, &pending, "dismiss", json!({"note": "has a login already"})).await.expect(200);
    assert_eq!(
        (&dismissed["status"], &dismissed["step_id"]),
        (&json!("dismissed"), &pending["step_id"])
    );
    assert_eq!(steps(&api, "?status=dismissed").await.len(), 2, "and the mail that waited for it");
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 0}));
    assert!(world.keycloak.users().is_empty());
    let rows = audit(&api).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (&row["event_type"], &row["tenant_id"], &row["ip_address"]),
        (&json!("PROVISIONING_DISMISSED"), &json!("acme"), &json!(SOURCE_IP))
    );
    assert_eq!(
        row["details"],
        json!({"step_id": pending["step_id"], "note": "has a login already"})
    );
    assert_eq!(row["previous_state"], json!({"status": "pending", "last_error": null}));
}

#[tokio::test]
async fn every_refusal_to_mend_a_step_is_named_and_changes_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    provisioned(&world, "Done", "jane@done.example").await;
    assert_eq!(world.outbox().await["done"], 2);
    provisioned(&world, "Open", "jane@open.example").await;
    provisioned(&world, "Ended", "jane@ended.example").await;
    let ended = step(&api, "ended", "keycloak_user").await;
    act(&api, &ended, "dismiss", json!({"note": "x"})).await.expect(200);
    let before = steps(&api, "").await;

    for (action, body) in [("retry", json!({})), ("dismiss", json!({"note": "x"}))] {
        for none in ["1000000", "0", "-1", "9223372036854775807"] {
            let reply = api.write("POST", &format!("{STEPS}/{none}/{action}"), body.clone()).await;
            assert_eq!(reply.problem(404, "step_not_found"), "Outbox step not found");
        }
        for malformed in ["x", "1.5", "9223372036854775808"] {
            api.write("POST", &format!("{STEPS}/{malformed}/{action}"), body.clone())
                .await
                .problem(404, "not_found");
        }
        for (tenant, status) in [("done", "done"), ("ended", "dismissed")] {
            for kind in ["keycloak_user", "welcome_mail"] {
                let reply = act(&api, &step(&api, tenant, kind).await, action, body.clone()).await;
                assert_eq!(
                    reply.problem(409, "step_final"),
                    format!("Outbox step is already {status}")
                );
            }
        }
        let open = step(&api, "open", "keycloak_user").await;
        let path = format!("{STEPS}/{}/{action}", open["step_id"]);
        api.send(Who::Operator, "POST", &path, &[], Some(body))
            .await
            .problem(403, "operator_admin_required");
    }
    let open = step(&api, "open", "keycloak_user").await;
    let refused = async |action: &str, body: Value| act(&api, &open, action, body).await.faults();
    assert_eq!(refused("dismiss", json!({})).await, ["note is required"]);
    assert_eq!(refused("dismiss", json!({"note": ""})).await, ["note must not be empty"]);
    let rule = "email must be a mail address of at most 254 characters";
    for bad in ["", "jane", "a@b@c", "jane @open.example", &format!("{}@b", "a".repeat(253))] {
        assert_eq!(refused("retry", json!({"email": bad})).await, [rule], "{bad}");
    }
    assert_eq!(
        refused("retry", json!({"email": 1, "note": "x"})).await,
        ["email must be text, not a whole number", "note is not a field of this request"]
    );
    let mail = step(&api, "open", "welcome_mail").await;
    let fields = json!({"email": "new@open.example", "first_name": "Joe", "last_name": "Doe"});
    let faults = act(&api, &mail, "retry", fields).await.faults();
    let no_use = |field| format!("{field} makes no sense for a step of kind welcome_mail");
    assert_eq!(faults, ["email", "first_name", "last_name"].map(no_use));
    assert_eq!(steps(&api, "").await, before);
    assert_eq!(audit(&api).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_dismiss_one_step_at_once_one_does() {
    let world = World::new().await;
    let api = world.api().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    let pending = step(&api, "acme", "keycloak_user").await;
    let replies =
        join_all((0..16).map(|number| {
            act(&api, &pending, "dismiss", json!({"note": format!("note {number}")}))
        }))
        .await;
    let (done, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((done.len(), refused.len()), (1, 15));
    for reply in refused {
        assert_eq!(reply.problem(409, "step_final"), "Outbox step is already dismissed");
    }
    assert_eq!(audit(&api).await.len(), 1);
}

/// Of an end and a new try of one step, whichever comes second sees the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_dismissed_and_retried_at_once_stays_dismissed_and_is_never_done() {
    let world = World::new().await;
    let api = world.api().await;
    for number in 0..8 {
        provisioned(&world, &format!("Acme {number}"), &format!("admin{number}@acme.example"))
            .await;
    }
    let users = steps(&api, "?kind=keycloak_user").await;
    let both = join_all(users.iter().map(|user| {
        let (api, again) = (&api, act(&api, user, "retry", json!({"email": "other@acme.example"})));
        async move { tokio::join!(again, act(api, user, "dismiss", json!({"note": "x"}))) }
    }))
    .await;
    for (retried, dismissed) in &both {
        assert_eq!(dismissed.status, 200);
        assert!(
            retried.status == 200
                || retried.problem(409, "step_final") == "Outbox step is already dismissed"
        );
    }
    assert_eq!(steps(&api, "?status=dismissed").await.len(), 16);
    assert_eq!(world.outbox().await["done"], 0);
    let retried = both.iter().filter(|(retried, _)| retried.status == 200).count();
    assert_eq!(audit(&api).await.len(), 8 + retried, "a row for each that was done");
}
