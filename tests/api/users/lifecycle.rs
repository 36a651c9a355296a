//! A user is created, listed, disabled, enabled and sent the welcome mail.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

use super::{TENANTS, USERS, api, audit, jane, path, row, user};

#[tokio::test]
async fn a_user_is_made_listed_disabled_enabled_and_sent_the_welcome_mail() {
    let world = World::new().await;
    let api = api(&world).await;
    let claims = world.keycloak.claims(&["operator_admin"], None);
    let token = world.keycloak.sign(&claims).expect("a token");
    let made = api.send(Who::Token(&token), "POST", USERS, &[], Some(jane())).await.expect(201);
    let kept = world.keycloak.users().remove(0);
    let expected = json!({
        "id": kept.id, "username": "jane@acme.example", "email": "jane@acme.example",
        "first_name": "Jane", "last_name": "Doe", "enabled": true,
        "tenant_id": "acme", "created_at": made["created_at"],
    });
    assert_eq!(made, expected);
    assert!(text(&made["created_at"]).ends_with('Z'));
    assert!(
        kept.roles.contains("customer")
            && kept.roles.len() == 1
            && kept.attributes["tenant_id"] == ["acme"]
            && kept.password.is_none()
    );
    assert_eq!(kept.mails_sent, 0, "not before an operator asks for it");
    let nameless = api
        .write(
            "POST",
            USERS,
            json!({"tenant_id": "acme", "email": "a@acme.example", "last_name": null}),
        )
        .await
        .expect(201);
    assert_eq!((&nameless["first_name"], &nameless["last_name"]), (&Value::Null, &Value::Null));

    let list = api.get(Who::Operator, &format!("{USERS}?tenant_id=acme")).await.expect(200);
    assert_eq!(list, json!({"users": [nameless, made], "count": 2, "next_cursor": null}));
    let disabled = api.write("PATCH", &path(&made), json!({"enabled": false})).await.expect(200);
    let mut expected = made.clone();
    expected["enabled"] = json!(false);
    assert_eq!(disabled, expected);
    assert_eq!(
        api.write("PATCH", &path(&made), json!({"enabled": false})).await.expect(200),
        expected,
        "so already"
    );
    assert_eq!(
        api.get(Who::Operator, &format!("{USERS}?tenant_id=acme")).await.expect(200)["users"][1],
        expected
    );
    let mail = format!("{}/send-welcome-email", path(&made));
    let refused = api.send(Who::Admin, "POST", &mail, &[], None).await;
    assert_eq!(refused.problem(409, "user_disabled"), "The user is disabled: enable it first");
    assert_eq!(api.write("PATCH", &path(&made), json!({"enabled": true})).await.expect(200), made);
    let sent = api.send(Who::Admin, "POST", &mail, &[], None).await.expect(200);
    assert_eq!(sent, json!({"status": "ok", "message": "Password-set email sent"}));

    let after = world.keycloak.users().remove(0);
    assert_eq!(
        (after.mails_sent, &after.first_name, &after.attributes, &after.roles),
        (1, &kept.first_name, &kept.attributes, &kept.roles)
    );
    let expected = [
        row("USER_CREATED", &made),
        row("USER_CREATED", &nameless),
        row("USER_DISABLED", &made),
        row("USER_ENABLED", &made),
        row("WELCOME_EMAIL_SENT", &made),
    ];
    assert_eq!(audit(&world).await, expected);
    let first = world
        .row(
            "SELECT actor_id, details FROM subscription_audit
                           WHERE event_type = 'USER_CREATED' ORDER BY id LIMIT 1",
        )
        .await;
    assert_eq!(first, json!({"actor_id": claims["sub"], "details": {"user_id": made["id"]}}));
    assert_eq!(
        world.count("subscription_audit WHERE subscription_audit::text ILIKE '%jane%'").await,
        0,
        "nothing personal in it"
    );
}

#[tokio::test]
async fn every_refusal_of_a_user_says_what_an_operator_would_understand() {
    let world = World::new().await;
    let api = api(&world).await;
    let post = async |body: Value| api.write("POST", USERS, body).await;
    let made = post(jane()).await.expect(201);
    let to = |tenant: &str| json!({"tenant_id": tenant, "email": "new@acme.example"});
    assert_eq!(post(to("none")).await.problem(404, "tenant_not_found"), "Tenant not found");
    api.send(Who::Admin, "DELETE", &format!("{TENANTS}/other"), &[], None).await.expect(200);
    assert_eq!(post(to("other")).await.problem(409, "tenant_deleted"), "Tenant 'other' is deleted");
    assert_eq!(
        post(jane()).await.problem(409, "user_exists"),
        "A user with this email exists already"
    );
    let faults =
        post(json!({"tenant_id": "A B", "email": "jane", "first_name": "", "last_name": 1,
        "password": "x"}))
        .await
        .faults();
    let expected = [
        "email must be a mail address of at most 254 characters",
        "first_name must not be empty",
        "last_name must be text, not a whole number",
        "password is not a field of this request",
        "tenant_id must match ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    ];
    assert_eq!(faults, expected);
    assert_eq!(post(json!({})).await.faults(), ["tenant_id is required", "email is required"]);
    for email in [
        "a b@acme.example",
        "a@b@c",
        "@acme.example",
        "jane@",
        "a\n@acme.example",
        &format!("{}@acme.example", "x".repeat(250)),
    ] {
        assert_eq!(
            post(json!({"tenant_id": "acme", "email": email})).await.faults(),
            [expected[0]],
            "{email:?}"
        );
    }
    // What passes here and not there.
    assert_eq!(
        post(json!({"tenant_id": "acme", "email": "a..b@acme.example"})).await.faults(),
        ["email is not taken by Keycloak (error-invalid-email)"]
    );

    assert_eq!(api.get(Who::Operator, USERS).await.faults(), ["tenant_id is required"]);
    assert_eq!(
        api.get(Who::Operator, &format!("{USERS}?tenant_id=none"))
            .await
            .problem(404, "tenant_not_found"),
        "Tenant not found"
    );
    assert_eq!(
        api.get(Who::Operator, &format!("{USERS}?tenant_id=other")).await.expect(200)["users"],
        json!([]),
        "a deleted one's are still seen"
    );
    assert_eq!(api.write("PATCH", &path(&made), json!({})).await.faults(), ["enabled is required"]);
    assert_eq!(
        api.write("PATCH", &path(&made), json!({"enabled": "no", "email": "x"}))
            .await
            .faults()
            .len(),
        2
    );
    for id in ["00000000-0000-4000-8000-000000000000", &text(&made["id"]).replace('-', "0")] {
        for (method, path, body) in [
            ("PATCH", format!("{USERS}/{id}"), Some(json!({"enabled": false}))),
            ("POST", format!("{USERS}/{id}/send-welcome-email"), None),
        ] {
            let reply = api.send(Who::Admin, method, &path, &[], body).await;
            if id.contains('-') {
                assert_eq!(reply.problem(404, "user_not_found"), "User not found");
            } else {
                reply.problem(404, "not_found");
            }
        }
    }
    assert_eq!(audit(&world).await, [row("USER_CREATED", &made)]);
    assert_eq!(world.keycloak.users().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_makes_one_user_however_often_and_at_once() {
    let world = World::new().await;
    let api = api(&world).await;
    let post = async |key: &str, body: &Value| {
        api.send(Who::Admin, "POST", USERS, &[("idempotency-key", key)], Some(body.clone())).await
    };
    world.keycloak.set_latency(std::time::Duration::from_millis(50));
    let jane = jane();
    let replies = join_all((0..6).map(|_| post("key-1", &jane))).await;
    world.keycloak.set_latency(std::time::Duration::ZERO);
    let first = replies.iter().find(|reply| reply.status == 201).expect("one was made").clone();
    for reply in &replies {
        match reply.status {
            201 => assert_eq!(reply.body, first.body),
            _ => drop(reply.problem(409, "request_in_progress")),
        }
    }
    api.write("PATCH", &path(&first.body), json!({"enabled": false})).await.expect(200);
    let asked = world.keycloak.requests().len();
    assert_eq!(
        post("key-1", &jane).await.expect(201),
        first.body,
        "the first answer, whatever has become of it"
    );
    assert_eq!(world.keycloak.requests().len(), asked, "and Keycloak is not asked");
    let other = json!({"tenant_id": "acme", "email": "other@acme.example"});
    assert_eq!(
        post("key-1", &other).await.faults(),
        ["idempotency-key was used for another request"]
    );
    assert_eq!(world.keycloak.requests().len(), asked);
    post("key-2", &jane).await.problem(409, "user_exists");
    let second = post("key-2", &other).await.expect(201);
    assert_eq!(world.keycloak.users().len(), 2);
    assert_eq!(
        audit(&world).await,
        [
            row("USER_CREATED", &first.body),
            row("USER_DISABLED", &first.body),
            row("USER_CREATED", &second)
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_for_one_user_at_once_make_one() {
    let world = World::new().await;
    let api = api(&world).await;
    let replies = join_all((0..8).map(|_| api.write("POST", USERS, jane()))).await;
    assert!(replies.iter().any(|reply| reply.status == 201));
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        reply.problem(409, "user_exists");
    }
    let users = world.keycloak.users();
    assert_eq!((users.len(), users[0].roles.contains("customer")), (1, true));
    assert_eq!(world.count("subscription_audit WHERE event_type = 'USER_CREATED'").await, 1);
}

#[tokio::test]
async fn a_user_of_the_tenant_who_is_half_made_is_completed_and_a_whole_one_is_taken() {
    let world = World::new().await;
    let api = api(&world).await;
    let post = async |email: &str| {
        api.write("POST", USERS, json!({"tenant_id": "acme", "email": email})).await
    };
    let half = world.keycloak.add_user(user("half@acme.example", Some("acme"), &[]));
    let whole = world.keycloak.add_user(user("whole@acme.example", Some("acme"), &["customer"]));
    let completed = post("HALF@acme.example").await.expect(201);
    assert_eq!((&completed["id"], &completed["tenant_id"]), (&json!(half), &json!("acme")));
    post("half@acme.example").await.problem(409, "user_exists");
    post("whole@acme.example").await.problem(409, "user_exists");
    // One whose role was taken away by hand gets it again.
    let made = post("made@acme.example").await.expect(201);
    world.keycloak.update_user(&text(&made["id"]), |user| user.roles.clear());
    assert_eq!(post("made@acme.example").await.expect(201), made);
    assert!(
        world.keycloak.users().iter().all(|user| user.roles.contains("customer")
            && user.attributes["tenant_id"] == ["acme"])
    );
    assert_eq!(world.keycloak.users()[1].id, whole);
    assert_eq!(
        audit(&world).await,
        [row("USER_CREATED", &completed), row("USER_CREATED", &made), row("USER_UPDATED", &made)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_to_disable_a_user_at_once_are_one_change() {
    let world = World::new().await;
    let api = api(&world).await;
    let made = api.write("POST", USERS, jane()).await.expect(201);
    let path = path(&made);
    let mut expected = vec![row("USER_CREATED", &made)];
    for (enabled, event) in
        [(false, "USER_DISABLED"), (true, "USER_ENABLED"), (false, "USER_DISABLED")]
    {
        let replies =
            join_all((0..6).map(|_| api.write("PATCH", &path, json!({"enabled": enabled})))).await;
        assert!(
            replies.iter().all(|reply| reply.status == 200 && reply.body["enabled"] == enabled)
        );
        expected.push(row(event, &made));
    }
    assert_eq!(audit(&world).await, expected);
    // Someone did it in Keycloak itself: the next who asks for it is in the audit with it.
    world.keycloak.update_user(&text(&made["id"]), |user| user.enabled = true);
    api.write("PATCH", &path, json!({"enabled": false})).await.expect(200);
    expected.push(row("USER_DISABLED", &made));
    assert_eq!(audit(&world).await, expected);
}
