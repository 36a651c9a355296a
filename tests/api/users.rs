//! `tenants`: the users of customer companies, who live in Keycloak.

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use simulators::keycloak::User;
use tests::api::{Api, Reply, SOURCE_IP, Who};
use tests::{World, text};

const USERS: &str = "/api/v1/operator/users";
const TENANTS: &str = "/api/v1/operator/tenants";

async fn api(world: &World) -> Api {
    let api = world.api().await;
    for tenant in ["acme", "other"] {
        api.write("POST", TENANTS, json!({"tenant_id": tenant, "name": tenant})).await.expect(201);
    }
    api
}

fn jane() -> Value {
    json!({"tenant_id": "acme", "email": "Jane@Acme.example", "first_name": "Jane",
        "last_name": "Doe"})
}

/// A user that was there before.
fn user(email: &str, tenant: Option<&str>, roles: &[&str]) -> User {
    User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        attributes: tenant
            .map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()]))
            .into_iter()
            .collect(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..User::default()
    }
}

/// What was done with users, in order, each with its states.
async fn audit(world: &World) -> Vec<Value> {
    let sql = "SELECT event_type AS event, tenant_id AS tenant, details->>'user_id' AS user,
               previous_state->'enabled' AS before, new_state->'enabled' AS after
               FROM subscription_audit WHERE event_type NOT LIKE 'TENANT%' ORDER BY id";
    let strangers = world
        .count(&format!(
            "subscription_audit WHERE actor_type <> 'admin' OR ip_address <> '{SOURCE_IP}'"
        ))
        .await;
    assert_eq!(strangers, 0);
    world.rows(sql).await
}

fn row(event: &str, user: &Value) -> Value {
    let (before, after) = match event {
        "USER_ENABLED" => (json!(false), json!(true)),
        "USER_DISABLED" => (json!(true), json!(false)),
        _ => (Value::Null, Value::Null),
    };
    json!({"event": event, "tenant": "acme", "user": user["id"], "before": before, "after": after})
}

fn path(user: &Value) -> String {
    format!("{USERS}/{}", text(&user["id"]))
}

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
    assert_eq!(kept.mails_sent, 0, "not before somebody asks for it");
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
async fn every_refusal_of_a_user_says_what_a_person_would_understand() {
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

/// Whoever is no user of a tenant of ours is not here: neither platform staff nor somebody of
/// another system in the same realm.
#[tokio::test]
async fn platform_staff_and_strangers_are_out_of_reach() {
    let world = World::new().await;
    let api = api(&world).await;
    let before = [
        user("staff@pulse.example", None, &["operator_admin"]),
        user("stranger@else.example", Some("not-ours"), &["customer"]),
        user("blank@else.example", Some(""), &["customer"]),
        user("theirs@other.example", Some("other"), &["customer"]),
    ];
    let ids: Vec<String> =
        before.iter().cloned().map(|user| world.keycloak.add_user(user)).collect();
    for id in &ids[..3] {
        let patch = api.write("PATCH", &format!("{USERS}/{id}"), json!({"enabled": false})).await;
        assert_eq!(patch.problem(404, "user_not_found"), "User not found");
        api.send(Who::Admin, "POST", &format!("{USERS}/{id}/send-welcome-email"), &[], None)
            .await
            .problem(404, "user_not_found");
    }
    // An address that anybody has is taken, and the answer does not say whose.
    for user in &before {
        let body = json!({"tenant_id": "acme", "email": user.email});
        assert_eq!(
            api.write("POST", USERS, body).await.problem(409, "user_exists"),
            "A user with this email exists already"
        );
    }
    let odd = [
        "..",
        "../users",
        "%2e%2e",
        "a/../b",
        "00000000-0000-4000-8000-00000000000%2F",
        "00000000-0000-4000-8000-0000000000%C3%A9",
    ];
    for id in odd
        .into_iter()
        .chain(["00000000-0000-4000-8000-00000000000?", "service-account-pulse-backend"])
    {
        let asked = world.keycloak.requests().len();
        let reply = api.write("PATCH", &format!("{USERS}/{id}"), json!({"enabled": false})).await;
        assert!(matches!(reply.status, 404 | 405), "{id}: {}", reply.body);
        assert_eq!(world.keycloak.requests().len(), asked, "Keycloak is not asked about {id}");
    }
    let after = world.keycloak.users();
    assert_eq!(after.len(), 4);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (&after.attributes, &after.roles, after.enabled, after.mails_sent),
            (&before.attributes, &before.roles, true, 0)
        );
    }
    assert_eq!(audit(&world).await, [Value::Null; 0]);
    // Another tenant's user is the operator's too, and counts as that tenant's.
    api.write("PATCH", &format!("{USERS}/{}", ids[3]), json!({"enabled": false})).await.expect(200);
    assert_eq!(audit(&world).await[0]["tenant"], "other");
}

#[tokio::test]
async fn users_are_listed_page_by_page_and_only_those_of_the_tenant() {
    let world = World::new().await;
    let api = api(&world).await;
    for (number, tenant) in
        ["acme", "other", "acme", "acme", "other", "acme", "acme"].into_iter().enumerate()
    {
        let _ = world.keycloak.add_user(user(
            &format!("user{number}@x.example"),
            Some(tenant),
            &["customer"],
        ));
    }
    let page = async |query: &str| {
        let answer =
            api.get(Who::Operator, &format!("{USERS}?tenant_id=acme{query}")).await.expect(200);
        let users: Vec<_> = answer["users"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|user| text(&user["username"])[4..5].to_owned())
            .collect();
        assert_eq!(answer["count"], users.len());
        (users.concat(), answer["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(page("").await, ("02356".to_owned(), None));
    let (first, cursor) = page("&limit=2").await;
    let (second, cursor) = page(&format!("&limit=2&cursor={}", cursor.expect("more"))).await;
    let (third, cursor) = page(&format!("&limit=2&cursor={}", cursor.expect("more"))).await;
    assert_eq!(([first, second, third].concat().as_str(), cursor), ("02356", None));
    let (after, cursor) = page("&limit=2&offset=1").await;
    assert_eq!(
        (after.as_str(), page(&format!("&cursor={}", cursor.expect("more"))).await.0.as_str()),
        ("23", "56")
    );
    assert_eq!(page("&limit=5").await, ("02356".to_owned(), None));
    assert_eq!(page("&offset=5").await, (String::new(), None));
    // Cursors that nobody gave: -1, ten milliards, another list's.
    for cursor in ["LTE", "MTAwMDAwMDAwMDA", "WzFd"] {
        let reply =
            api.get(Who::Operator, &format!("{USERS}?tenant_id=acme&cursor={cursor}")).await;
        assert_eq!(reply.faults(), ["cursor is not a cursor of this list"], "{cursor}");
    }
    api.get(Who::Operator, &format!("{USERS}?tenant_id=acme&offset=1000000000")).await.expect(200);
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
    // Somebody did it in Keycloak itself: the next who asks for it is in the audit with it.
    world.keycloak.update_user(&text(&made["id"]), |user| user.enabled = true);
    api.write("PATCH", &path, json!({"enabled": false})).await.expect(200);
    expected.push(row("USER_DISABLED", &made));
    assert_eq!(audit(&world).await, expected);
}

/// Stands before Keycloak, and fails one call of those to come: undone, or done with its answer
/// lost.
struct Front {
    url: String,
    next: Arc<Mutex<Option<(usize, bool)>>>,
}

impl Front {
    async fn start(keycloak: String) -> Self {
        let next: Arc<Mutex<Option<(usize, bool)>>> = Arc::default();
        let state = (
            keycloak,
            reqwest::Client::builder().no_proxy().build().expect("a client"),
            Arc::clone(&next),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = axum::Router::new().fallback(forward).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, next }
    }

    /// The call of this number from now on fails.
    fn fail(&self, call: usize, lost: bool) {
        *self.next.lock().expect("not poisoned") = Some((call, lost));
    }

    /// Whether there was such a call.
    fn has_failed(&self) -> bool {
        self.next.lock().expect("not poisoned").take().is_none()
    }
}

type Upstream = (String, reqwest::Client, Arc<Mutex<Option<(usize, bool)>>>);

async fn forward(State((keycloak, http, next)): State<Upstream>, request: Request) -> Response {
    let fault = {
        let mut next = next.lock().expect("not poisoned");
        match *next {
            Some((1, lost)) => next.take().map(|_| lost),
            Some((call, lost)) => {
                *next = Some((call - 1, lost));
                None
            }
            None => None,
        }
    };
    if fault == Some(false) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    parts.headers.remove("host");
    let url = format!("{keycloak}{}", parts.uri);
    let answer = http
        .request(parts.method, url)
        .headers(parts.headers)
        .body(body)
        .send()
        .await
        .expect("an answer");
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove("transfer-encoding");
    let body = answer.bytes().await.expect("a body");
    if fault == Some(true) {
        StatusCode::BAD_GATEWAY.into_response()
    } else {
        (status, headers, axum::body::Body::from(body)).into_response()
    }
}

/// Every call of every route fails once, undone or done with its answer lost. The repetition
/// completes what was begun, and the audit has it once.
#[tokio::test]
async fn keycloak_failing_at_any_call_is_502_and_the_repetition_completes_it() {
    let world = World::new().await;
    api(&world).await;
    let front = Front::start(world.keycloak.base_url()).await;
    let failed = |reply: &Reply| {
        assert_eq!(
            reply.problem(502, "upstream"),
            "Keycloak failed or did not answer. Try again later."
        );
    };
    let mut failures = Vec::new();
    for lost in [false, true] {
        for call in 1.. {
            // Each with its token still to fetch.
            let api = async || {
                world.api_with(&world.env(&[("KEYCLOAK_URL", &front.url)]), Clock::system()).await
            };
            let address = format!("user-{lost}-{call}@acme.example");
            let find = || {
                world
                    .keycloak
                    .users()
                    .into_iter()
                    .filter(|user| user.email.as_deref() == Some(&address))
                    .collect::<Vec<_>>()
            };
            let mut any = false;
            let rows = async |events: &str| {
                world
                    .count(&format!(
                        "subscription_audit WHERE event_type IN ({events})
                                      AND details->>'user_id' = '{}'",
                        find()[0].id
                    ))
                    .await
            };

            let body = json!({"tenant_id": "acme", "email": address});
            // With a key or without, it ends the same.
            let headers: &[(&str, &str)] =
                if call % 2 == 0 { &[("idempotency-key", &address)] } else { &[] };
            let (first, create) = (api().await, async |api: &Api| {
                api.send(Who::Admin, "POST", USERS, headers, Some(body.clone())).await
            });
            front.fail(call, lost);
            let reply = create(&first).await;
            if front.has_failed() {
                any = true;
                failures.push(("create", lost));
                failed(&reply);
                assert_eq!(
                    world.count(&format!("idempotency_keys WHERE key = '{address}'")).await,
                    0,
                    "a failure is not kept"
                );
                let made = create(&first).await.expect(201);
                if !headers.is_empty() {
                    assert_eq!(create(&first).await.expect(201), made);
                }
            } else {
                assert_eq!(reply.status, 201);
            }
            first.write("POST", USERS, body.clone()).await.problem(409, "user_exists");
            let user = find();
            assert_eq!(
                (
                    user.len(),
                    user[0].roles.contains("customer"),
                    user[0].attributes["tenant_id"][0].as_str()
                ),
                (1, true, "acme")
            );
            assert_eq!(rows("'USER_CREATED', 'USER_UPDATED'").await, 1, "{lost} {call}");

            let path = format!("{USERS}/{}", user[0].id);
            for enabled in [false, true] {
                let second = api().await;
                let ask = async || second.write("PATCH", &path, json!({"enabled": enabled})).await;
                front.fail(call, lost);
                let reply = ask().await;
                if front.has_failed() {
                    any = true;
                    failures.push(("enable", lost));
                    failed(&reply);
                }
                assert_eq!(ask().await.expect(200)["enabled"], enabled);
                assert_eq!(ask().await.expect(200)["enabled"], enabled);
                assert_eq!(find()[0].enabled, enabled);
                assert_eq!(
                    rows(if enabled { "'USER_ENABLED'" } else { "'USER_DISABLED'" }).await,
                    1,
                    "{lost} {call}"
                );
            }

            let third = api().await;
            front.fail(call, lost);
            let reply = third
                .send(Who::Admin, "POST", &format!("{path}/send-welcome-email"), &[], None)
                .await;
            if front.has_failed() {
                any = true;
                failures.push(("mail", lost));
                failed(&reply);
                assert_eq!(rows("'WELCOME_EMAIL_SENT'").await, 0);
                third
                    .send(Who::Admin, "POST", &format!("{path}/send-welcome-email"), &[], None)
                    .await
                    .expect(200);
            }
            assert_eq!(rows("'WELCOME_EMAIL_SENT'").await, 1);

            let fourth = api().await;
            front.fail(call, lost);
            let reply = fourth.get(Who::Operator, &format!("{USERS}?tenant_id=acme")).await;
            if front.has_failed() {
                any = true;
                failures.push(("list", lost));
                failed(&reply);
            }
            if !any {
                break;
            }
        }
    }
    // The token, and: search by address and by name, create, find the role, grant it, read; read
    // and write; the same; the list.
    for lost in [false, true] {
        let count = |of: &str| failures.iter().filter(|failure| **failure == (of, lost)).count();
        assert_eq!(
            (count("create"), count("enable"), count("mail"), count("list")),
            (7, 6, 3, 2),
            "{lost}"
        );
    }
}

#[tokio::test]
async fn keycloak_away_is_502_and_what_needs_no_keycloak_goes_on() {
    let world = World::new().await;
    let api = api(&world).await;
    let made = api.write("POST", USERS, jane()).await.expect(201);
    world.keycloak.stop().await;
    let new = json!({"tenant_id": "acme", "email": "new@acme.example"});
    api.write("POST", USERS, new.clone()).await.problem(502, "upstream");
    api.write("PATCH", &path(&made), json!({"enabled": false})).await.problem(502, "upstream");
    api.send(Who::Admin, "POST", &format!("{}/send-welcome-email", path(&made)), &[], None)
        .await
        .problem(502, "upstream");
    api.get(Who::Operator, &format!("{USERS}?tenant_id=acme")).await.problem(502, "upstream");
    api.get(Who::Operator, &format!("{USERS}?tenant_id=none"))
        .await
        .problem(404, "tenant_not_found");
    api.write("PATCH", &format!("{TENANTS}/acme"), json!({"city": "Oslo"})).await.expect(200);
    world.keycloak.restart().await.expect("back");
    assert_eq!(audit(&world).await, [row("USER_CREATED", &made)]);
    let second = api.write("POST", USERS, new).await.expect(201);
    assert_eq!(audit(&world).await, [row("USER_CREATED", &made), row("USER_CREATED", &second)]);
}

/// The running functions and the real server: what it does with a user whose one field is changed
/// is its own.
#[tokio::test]
async fn real_keycloak_keeps_a_user_through_all_that_an_operator_does() {
    let api = Api::of_stack();
    let unique = Clock::system().now().as_microsecond();
    let tenant = format!("users-{unique}");
    api.write("POST", TENANTS, json!({"tenant_id": tenant, "name": "Users Inc."}))
        .await
        .expect(201);
    let address = format!("Jane.{unique}@Users.example");
    let body =
        json!({"tenant_id": tenant, "email": address, "first_name": "Jane", "last_name": "Doe"});
    let key = format!("user-{unique}");
    let create = async || {
        api.send(Who::Admin, "POST", USERS, &[("idempotency-key", &key)], Some(body.clone())).await
    };
    let made = create().await.expect(201);
    let expected = json!({
        "id": made["id"], "username": address.to_lowercase(), "email": address.to_lowercase(),
        "first_name": "Jane", "last_name": "Doe", "enabled": true,
        "tenant_id": tenant, "created_at": made["created_at"],
    });
    assert_eq!(made, expected);
    assert!(text(&made["created_at"]).ends_with('Z'));
    assert_eq!(create().await.expect(201), made);
    assert_eq!(
        api.write("POST", USERS, body.clone()).await.problem(409, "user_exists"),
        "A user with this email exists already"
    );
    let second = json!({"tenant_id": tenant, "email": format!("a.{unique}@users.example")});
    let second = api.write("POST", USERS, second).await.expect(201);
    // What Keycloak does not take is the caller's to change.
    let odd = json!({"tenant_id": tenant, "email": format!("a..b.{unique}@users.example"),
    "first_name": "<b>"});
    let faults = api.write("POST", USERS, odd).await.faults();
    assert!(
        faults.iter().any(|fault| fault.starts_with("email is not taken by Keycloak (")),
        "{faults:?}"
    );
    assert!(
        faults.iter().any(|fault| fault.starts_with("first_name is not taken by Keycloak (")),
        "{faults:?}"
    );

    let list = async |query: &str| {
        api.get(Who::Operator, &format!("{USERS}?tenant_id={tenant}{query}")).await.expect(200)
    };
    assert_eq!(list("").await, json!({"users": [second, made], "count": 2, "next_cursor": null}));
    let page = list("&limit=1").await;
    assert_eq!(page["users"], json!([second]));
    assert_eq!(
        list(&format!("&limit=1&cursor={}", text(&page["next_cursor"]))).await,
        json!({"users": [made], "count": 1, "next_cursor": null})
    );
    assert_eq!(list("&offset=1000000000").await["users"], json!([]));

    let mail = async || {
        api.send(Who::Admin, "POST", &format!("{}/send-welcome-email", path(&made)), &[], None)
            .await
    };
    let mut disabled = made.clone();
    disabled["enabled"] = json!(false);
    assert_eq!(
        api.write("PATCH", &path(&made), json!({"enabled": false})).await.expect(200),
        disabled
    );
    assert_eq!(list("").await["users"], json!([second, disabled]), "nothing else of it changed");
    mail().await.problem(409, "user_disabled");
    assert_eq!(api.write("PATCH", &path(&made), json!({"enabled": true})).await.expect(200), made);
    assert_eq!(list("").await["users"], json!([second, made]));
    assert_eq!(
        mail().await.expect(200),
        json!({"status": "ok", "message": "Password-set email sent"})
    );
    assert!(mail_to(&address).contains("http"), "with a link");

    // Staff of the same realm is out of reach: the very caller of this test.
    let trail = api
        .get(Who::Operator, &format!("/api/v1/operator/audit?tenant_id={tenant}"))
        .await
        .expect(200);
    let events: Vec<_> = trail["audit"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| text(&row["event_type"]))
        .collect();
    assert_eq!(
        events,
        [
            "WELCOME_EMAIL_SENT",
            "USER_ENABLED",
            "USER_DISABLED",
            "USER_CREATED",
            "USER_CREATED",
            "TENANT_CREATED"
        ]
    );
    let staff = text(&trail["audit"][0]["actor_id"]);
    api.write("PATCH", &format!("{USERS}/{staff}"), json!({"enabled": false}))
        .await
        .problem(404, "user_not_found");
    let nobody = "00000000-0000-4000-8000-000000000000";
    api.write("PATCH", &format!("{USERS}/{nobody}"), json!({"enabled": false}))
        .await
        .problem(404, "user_not_found");
}

/// The mail that the stack's sink has for this address.
fn mail_to(address: &str) -> String {
    let files = std::fs::read_dir(tests::stack("MAIL_DIR")).expect("the sink's folder");
    let mails = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    let to = format!("To: {}", address.to_lowercase());
    mails.into_iter().find(|mail| mail.contains(&to)).unwrap_or_default()
}
