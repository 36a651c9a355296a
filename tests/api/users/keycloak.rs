//! A Keycloak that fails at each call, and the real one.

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shared::base::clock::Clock;
use tests::api::{Api, Reply, Who};
use tests::{World, text};

use super::{TENANTS, USERS, api, audit, jane, path, row};

/// Stands before Keycloak, and fails one call of those to come: undone, or done with its answer
/// lost.
pub(in crate::api) struct Front {
    pub(in crate::api) url: String,
    next: Arc<Mutex<Option<(usize, bool)>>>,
}

impl Front {
    pub(in crate::api) async fn start(keycloak: String) -> Self {
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
    pub(in crate::api) fn fail(&self, call: usize, lost: bool) {
        *self.next.lock().expect("not poisoned") = Some((call, lost));
    }

    /// Whether there was such a call.
    pub(in crate::api) fn has_failed(&self) -> bool {
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
    let failed = |prefix: &str, reply: &Reply| {
        assert_eq!(
            reply.problem(502, "upstream"),
            format!("{prefix}Keycloak failed or did not answer. Try again later.")
        );
    };
    let mut failures = Vec::new();
    for lost in [false, true] {
        for call in 1.. {
            // Each with its token still to fetch.
            let api = async || world.api_with(&world.env(&[("KEYCLOAK_URL", &front.url)])).await;
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
                failed("", &reply);
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
                    failed("", &reply);
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

            let counted = "SELECT used FROM limit_usage WHERE tenant_id = 'acme'";
            let all = world.keycloak.users().iter().filter(|user| user.enabled).count();
            assert_eq!(world.row(counted).await["used"], all, "{lost} {call}");

            let third = api().await;
            front.fail(call, lost);
            let reply = third
                .send(Who::Admin, "POST", &format!("{path}/send-welcome-email"), &[], None)
                .await;
            if front.has_failed() {
                any = true;
                failures.push(("mail", lost));
                failed("Failed to send email: ", &reply);
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
                failed("", &reply);
            }
            if !any {
                break;
            }
        }
    }
    // The token, and: search by address and by name, create, find the role, grant it, read, count;
    // read, write and count, twice; read and send; the list.
    for lost in [false, true] {
        let count = |of: &str| failures.iter().filter(|failure| **failure == (of, lost)).count();
        assert_eq!(
            (count("create"), count("enable"), count("mail"), count("list")),
            (8, 8, 3, 2),
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
