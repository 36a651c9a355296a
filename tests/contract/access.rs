//! Who gets in, and what every answer has: tokens, problems, ids, CORS (docs/api.md).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use device_tier::DevicesApp;
use futures::future::join_all;
use serde_json::{Value, json};
use shared::http::app::{App, AppState as _, warm};
use tests::World;
use tests::api::{Api, SOURCE_IP, Who, other_tokens};

const PLANS: &str = "/api/v1/operator/plans";

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn only_a_token_of_this_issuer_for_this_audience_and_of_this_time_counts() {
    let world = World::new().await;
    let api = world.api().await;
    let good = world.keycloak.claims(&["operator_admin"], None);
    let sign = |claims: &Value| world.keycloak.sign(claims).expect("signed");
    assert_eq!(api.get(Who::Token(&sign(&good)), PLANS).await.status, 200);
    let now = good["iat"].as_i64().expect("a time");

    let token = sign(&good);
    let (head, signature) = token.rsplit_once('.').expect("three parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    bytes[10] ^= 1;
    let wrongly_signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(bytes));
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let kid = jsonwebtoken_header(&token)["kid"].clone();
    let unsigned = format!(
        "{}.{}.",
        part(json!({"alg": "none", "typ": "JWT", "kid": kid})),
        part(good.clone())
    );
    // The public key as an HMAC secret: the classical confusion of algorithms.
    let symmetric = format!(
        "{}.{}.{}",
        part(json!({"alg": "HS256", "typ": "JWT", "kid": kid})),
        part(good.clone()),
        signature
    );
    let another_payload = {
        let parts: Vec<&str> = token.split('.').collect();
        format!("{}.{}.{}", parts[0], part(with(&good, "sub", json!("somebody else"))), parts[2])
    };
    let cases = [
        ("expired", sign(&with(&good, "exp", json!(now - 1))), "token_expired"),
        ("not yet", sign(&with(&good, "nbf", json!(now + 3600))), "invalid_token"),
        ("wrong audience", sign(&with(&good, "aud", json!(["account"]))), "invalid_token"),
        ("no audience", sign(&with(&good, "aud", Value::Null)), "invalid_token"),
        (
            "other issuer",
            sign(&with(&good, "iss", json!("https://elsewhere.example/realms/pulse"))),
            "invalid_token",
        ),
        ("no subject", sign(&with(&good, "sub", json!(""))), "invalid_token"),
        ("wrongly signed", wrongly_signed, "invalid_token"),
        ("alg none", unsigned, "invalid_token"),
        ("another algorithm", symmetric, "invalid_token"),
        ("another payload", another_payload, "invalid_token"),
        ("no token at all", "abc".to_owned(), "invalid_token"),
    ];
    for (name, token, code) in cases {
        let reply = api.get(Who::Token(&token), PLANS).await;
        assert_eq!(
            (reply.status, &reply.body["code"]),
            (401, &json!(code)),
            "{name}: {}",
            reply.body
        );
    }
    // Roles elsewhere in the token, and a role's name as a part of another, are none.
    let elsewhere = json!({"account": {"roles": ["operator_admin"]}});
    let claims = with(
        &with(&good, "realm_access", json!({"roles": ["operator_administrator"]})),
        "resource_access",
        elsewhere,
    );
    api.get(Who::Token(&sign(&claims)), PLANS).await.problem(403, "operator_required");
    // Basic credentials are no bearer token.
    api.raw(Who::Nobody, "GET", PLANS, &[("authorization", "Basic b3BlcmF0b3I6eA==")], "")
        .await
        .problem(401, "missing_token");
}

/// The realm signs ID tokens and other clients' tokens with the same keys, and they may carry our
/// audience.
#[tokio::test]
async fn only_an_access_token_of_a_known_client_counts() {
    let world = World::new().await;
    let good = world.keycloak.claims(&["operator_admin"], None);
    let sign = |claims: &Value| world.keycloak.sign(claims).expect("signed");
    let api = world.api().await;
    for (typ, status) in [
        (json!("Bearer"), 200),
        (json!("ID"), 401),
        (json!("Refresh"), 401),
        (json!("Logout"), 401),
        (json!("bearer "), 401),
        (Value::Null, 401),
    ] {
        let token = sign(&with(&good, "typ", typ.clone()));
        assert_eq!(api.get(Who::Token(&token), PLANS).await.status, status, "{typ}");
    }
    let other = sign(&with(&good, "azp", json!("another-client")));
    assert_eq!(api.get(Who::Token(&other), PLANS).await.status, 200, "none is configured");

    let client = good["azp"].as_str().expect("a client");
    let clients = format!("console, {client}");
    let env = world.env(&[("JWT_CLIENTS", &clients)]);
    let app = App::new(&env, world.clock.reader()).expect("an app");
    assert!(app.verifier().verify(&sign(&good)).await.is_ok());
    for azp in [json!("another-client"), json!(""), Value::Null] {
        let token = sign(&with(&good, "azp", azp.clone()));
        let refused = app.verifier().verify(&token).await.expect_err("refused");
        assert_eq!(refused.code(), "invalid_token", "{azp}");
    }
}

fn jsonwebtoken_header(token: &str) -> Value {
    let header = token.split('.').next().unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).expect("base64")).expect("JSON")
}

#[tokio::test]
async fn a_token_ends_at_its_end_whatever_time_the_business_has() {
    let world = World::new().await;
    let api = world.api().await;
    let claims = world.keycloak.claims(&["operator"], None);
    let token = world.keycloak.sign(&claims).expect("signed");
    let life = claims["exp"].as_i64().expect("a time") - claims["iat"].as_i64().expect("a time");
    let settings =
        shared::process::config::AuthSettings::from_env(&world.env(&[])).expect("settings");
    let verifier = shared::http::auth::Verifier::new(settings, world.clock.reader());
    let verifier = verifier.expect("a verifier");
    world.clock.run_ahead(life - 5);
    verifier.verify(&token).await.expect("it has not ended");
    world.clock.run_ahead(life);
    assert_eq!(verifier.verify(&token).await.expect_err("ended").code(), "token_expired");
    // A function's own is by the machine's time.
    world.clock.run_ahead(400 * 86_400);
    assert_eq!(api.get(Who::Token(&token), PLANS).await.status, 200);
}

fn reads_of_keys(world: &World) -> usize {
    world.keycloak.requests().iter().filter(|(_, path)| path.ends_with("/certs")).count()
}

#[tokio::test]
async fn the_keys_are_read_once_and_again_at_most_once_a_minute_for_an_unknown_one() {
    let world = World::new().await;
    let api = world.api().await;
    assert_eq!(reads_of_keys(&world), 0, "nothing is read before the first token");
    join_all((0..10).map(|_| api.get(Who::Operator, PLANS)))
        .await
        .into_iter()
        .for_each(|reply| drop(reply.expect(200)));
    assert_eq!(reads_of_keys(&world), 1);
    world.keycloak.rotate_key().expect("a new key");
    let token = world.keycloak.sign(&world.keycloak.claims(&["operator"], None)).expect("signed");
    // Within the minute of the first read an unknown key is not asked for; what is known goes on.
    api.get(Who::Token(&token), PLANS).await.problem(401, "invalid_token");
    assert_eq!(api.get(Who::Operator, PLANS).await.status, 200);
    assert_eq!(reads_of_keys(&world), 1);
}

#[tokio::test]
async fn an_instance_has_keys_and_a_connection_before_its_first_request_and_starts_without_them() {
    let world = World::new().await;
    let start = async |replaced: &[(&str, &str)]| {
        let state =
            DevicesApp::start(&world.env(replaced), world.clock.reader()).await.expect("it starts");
        warm(&state).await;
        state
    };
    let token = world.keycloak.sign(&world.keycloak.claims(&["operator"], None)).expect("signed");
    let state = start(&[]).await;
    assert_eq!(reads_of_keys(&world), 1);
    state.app().verifier().verify(&token).await.expect("a known key");
    assert_eq!(reads_of_keys(&world), 1);
    let connected = "SELECT usename::text FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = 'pulse'";
    let connected: Vec<String> = world
        .db
        .query(connected, &[])
        .await
        .expect("connections")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(connected, ["pulse_app"], "as the first of its roles, once");

    world.keycloak.fail_next_on("/certs", 1, 500);
    let state = start(&[("DATABASE_PORT", "1")]).await;
    state.app().verifier().verify(&token).await.expect("asked again at the first token");
}

#[tokio::test]
async fn a_rotated_signing_key_is_picked_up_and_a_withdrawn_one_ends() {
    let world = World::new().await;
    shared::process::tls::install();
    let settings =
        shared::process::config::AuthSettings::from_env(&world.env(&[])).expect("settings");
    let verifier = shared::http::auth::Verifier::with(
        settings,
        world.clock.reader(),
        std::time::Duration::ZERO,
    )
    .expect("a verifier");
    let token =
        || world.keycloak.sign(&world.keycloak.claims(&["operator"], None)).expect("signed");
    let old = token();
    verifier.verify(&old).await.expect("the first key");
    world.keycloak.rotate_key().expect("a new key");
    verifier.verify(&token()).await.expect("the new key");
    verifier.verify(&old).await.expect("still published");
    world.keycloak.retire_old_keys();
    world.keycloak.rotate_key().expect("a new key");
    // Any unknown key makes it read again, and the withdrawn one is then no longer known.
    verifier.verify(&token()).await.expect("the newest key");
    assert_eq!(verifier.verify(&old).await.expect_err("withdrawn").code(), "invalid_token");
}

#[tokio::test]
async fn without_the_issuers_keys_the_answer_is_503_and_the_next_try_works() {
    let world = World::new().await;
    let api = world.api().await;
    world.keycloak.fail_next_on("/certs", 1, 500);
    let token = world.keycloak.sign(&world.keycloak.claims(&["operator"], None)).expect("signed");
    let reply = api.get(Who::Token(&token), PLANS).await;
    reply.problem(503, "unavailable");
    assert!(!reply.header("retry-after").is_empty());
    assert_eq!(api.get(Who::Token(&token), PLANS).await.status, 200);
}

#[tokio::test]
async fn what_the_framework_refuses_is_a_problem_too() {
    let world = World::new().await;
    let api = world.api().await;
    let post = async |headers: &[(&str, &str)], body: &[u8]| {
        api.raw(Who::Admin, "POST", PLANS, headers, body).await
    };
    let json = [("content-type", "application/json")];
    api.get(Who::Admin, "/api/v1/nowhere").await.problem(404, "no_such_route");
    let reply = api.send(Who::Admin, "DELETE", PLANS, &[], None).await;
    reply.problem(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "GET,HEAD,POST");
    post(&json, b"{\"plan_id\": ").await.problem(400, "malformed_json");
    post(&json, b"\xff\xfe").await.problem(400, "malformed_json");
    post(&[("content-type", "text/plain")], b"{}").await.problem(415, "unsupported_media_type");
    post(&json, &vec![b' '; 3 * 1024 * 1024]).await.problem(413, "body_too_large");
    // Nested beyond all reason, and a number that no machine holds.
    post(&json, "[".repeat(100_000).as_bytes()).await.problem(400, "malformed_json");
    post(&json, br#"{"plan_id": "x", "name": "x", "sort_order": 1e999}"#)
        .await
        .problem(400, "malformed_json");
    api.get(Who::Admin, &format!("{PLANS}/%FF")).await.problem(404, "not_found");
    api.get(Who::Admin, &format!("{PLANS}/NOT%20an%20id")).await.problem(404, "not_found");
    assert_eq!(
        api.get(Who::Admin, &format!("{PLANS}?limit=1&limit=2")).await.faults(),
        ["limit is given twice"]
    );
    assert_eq!(
        api.get(Who::Admin, &format!("{PLANS}?limit=0&page=2")).await.faults(),
        ["limit must be from 1 to 500", "page is not a field of this request"]
    );
    api.get(Who::Admin, "/api/v1/operator/device-tiers/1099511627776")
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn no_answer_shows_internals() {
    let world = World::new().await;
    let api = world.api().await;
    world
        .db
        .batch_execute("ALTER TABLE subscription_plans RENAME COLUMN name TO title")
        .await
        .expect("renamed");
    let reply = api.get(Who::Operator, PLANS).await;
    let detail = reply.problem(503, "unavailable");
    assert!(
        !detail.contains("column") && !reply.body.to_string().contains("SQL"),
        "{}",
        reply.body
    );
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call_and_no_other() {
    let world = World::new().await;
    let api = world.api().await;
    let ask = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "authorization,if-match"),
        ];
        api.raw(Who::Nobody, "OPTIONS", &format!("{PLANS}/pro"), &headers, "").await
    };
    let allowed = ask("https://app.pulse.example").await;
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (200, "https://app.pulse.example")
    );
    assert!(
        allowed.header("access-control-allow-methods").contains("PUT")
            && allowed.header("access-control-allow-headers").contains("if-match")
    );
    for origin in ["https://evil.example", "https://app.pulse.example.evil.example", "null"] {
        assert_eq!(ask(origin).await.header("access-control-allow-origin"), "", "{origin}");
    }
    let reply =
        api.raw(Who::Operator, "GET", PLANS, &[("origin", "https://app.pulse.example")], "").await;
    let exposed = reply.header("access-control-expose-headers");
    assert_eq!(exposed, "etag,location,retry-after,x-request-id,apigw-requestid");
    let template = super::template::template();
    let cors = &template.properties("HttpApi")["CorsConfiguration"]["ExposeHeaders"];
    assert_eq!(*cors, json!(exposed.split(',').collect::<Vec<_>>()), "as API Gateway says");
}

/// The ip of the audit is API Gateway's, whatever a client's headers say; so is the request's id.
#[tokio::test]
async fn nothing_that_a_client_says_of_itself_counts() {
    let world = World::new().await;
    let api = world.api().await;
    let headers = [
        ("x-forwarded-for", "198.51.100.1"),
        ("x-real-ip", "198.51.100.1"),
        ("x-request-id", "mine"),
        ("content-type", "application/json"),
    ];
    let reply = api
        .raw(Who::Admin, "POST", PLANS, &headers, r#"{"plan_id": "team", "name": "Team"}"#)
        .await;
    assert_eq!(reply.status, 201);
    assert_ne!(reply.header("x-request-id"), "mine");
    assert_eq!(
        world.row("SELECT host(ip_address) AS ip FROM subscription_audit").await,
        json!({"ip": SOURCE_IP})
    );
}

#[tokio::test]
async fn a_setting_of_the_http_functions_that_is_wrong_is_named() {
    let world = World::new().await;
    for (setting, value, message) in [
        ("JWT_ISSUER", "", "JWT_ISSUER is empty"),
        ("JWT_ISSUER", "pulse", "JWT_ISSUER is not an http(s) URL: \"pulse\""),
        ("JWT_AUDIENCE", " ", "JWT_AUDIENCE is empty"),
        (
            "ALLOWED_ORIGINS",
            "https://app.example/",
            "ALLOWED_ORIGINS: \"https://app.example/\" is no origin, such as \
             https://app.example.com",
        ),
        (
            "ALLOWED_ORIGINS",
            "https://a.example,*",
            "ALLOWED_ORIGINS: \"*\" is no origin, such as https://app.example.com",
        ),
    ] {
        let started = App::new(&world.env(&[(setting, value)]), world.clock.reader());
        assert_eq!(started.err().expect("refused").to_string(), message);
    }
}

/// The real Keycloak's tokens, as `cargo xtask token` gets them, at the stack's address.
#[tokio::test]
async fn real_keycloak_tokens_open_what_their_role_may() {
    let api = Api::of_stack();
    assert_eq!(api.get(Who::Operator, PLANS).await.status, 200);
    api.send(Who::Operator, "POST", PLANS, &[], Some(json!({})))
        .await
        .problem(403, "operator_admin_required");
    api.send(Who::Admin, "POST", PLANS, &[], Some(json!({}))).await.problem(422, "invalid");
    api.get(Who::Customer("demo-greenhouses"), PLANS).await.problem(403, "operator_required");
    api.get(Who::Service, PLANS).await.problem(403, "operator_required");
    for token in other_tokens().await {
        api.get(Who::Token(&token), PLANS).await.problem(401, "invalid_token");
    }
}

#[tokio::test]
async fn whoever_calls_is_told_who_they_are_and_what_they_may() {
    let world = World::new().await;
    world
        .db
        .execute(
            "INSERT INTO tenants (tenant_id, name, status) VALUES ('acme', 'Acme', 'ACTIVE'),
             ('gone', 'Gone', 'DELETED')",
            &[],
        )
        .await
        .expect("tenants");
    let api = world.api().await;
    let acme = json!({"tenant_id": "acme", "name": "Acme", "status": "ACTIVE"});
    let gone = json!({"tenant_id": "gone", "name": "Gone", "status": "DELETED"});
    let cases = [
        (Who::Customer("acme"), json!(["customer"]), acme, true),
        (Who::Customer("gone"), json!(["customer"]), gone, false),
        (Who::Customer("never"), json!(["customer"]), Value::Null, false),
        (Who::Operator, json!(["operator"]), Value::Null, false),
        (Who::Admin, json!(["operator", "operator_admin"]), Value::Null, true),
        (Who::Service, json!(["service"]), Value::Null, true),
    ];
    for (who, roles, tenant, write) in cases {
        let me = api.get(who, "/api/v1/me").await.expect(200);
        assert!(!tests::text(&me["sub"]).is_empty());
        assert_eq!(me["roles"], roles, "{who:?}");
        assert_eq!(me["tenant"], tenant, "{who:?}");
        assert_eq!(me["may"], json!({ "write": write }), "{who:?}");
    }
    // A role that is none of ours is not shown, and staff act for no tenant.
    let claims = world.keycloak.claims(&["operator", "offline_access"], Some("acme"));
    let token = world.keycloak.sign(&claims).expect("signed");
    let me = api.get(Who::Token(&token), "/api/v1/me").await.expect(200);
    assert_eq!(me["roles"], json!(["operator"]));
    assert_eq!(me["tenant"], Value::Null);
    api.get(Who::Nobody, "/api/v1/me").await.problem(401, "missing_token");
}
