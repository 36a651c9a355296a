//! `POST /webhook/stripe`: what is taken, what is refused, and what is on the queue afterwards.

use std::time::Duration;

use lambda_http::Body;
use lambda_http::aws_lambda_events::encodings::Base64Data;
use lambda_http::http::StatusCode;
use serde_json::{Value, json};
use shared::domain::events::signature;
use shared::outside::queue::Queue;
use simulators::lambda::http_event;
use tests::{World, request, stack, text};

fn sign(world: &World, body: &[u8]) -> String {
    signature::sign(&stack("STRIPE_WEBHOOK_SECRET"), world.clock.now().as_second(), body)
}

fn body(answer: &lambda_http::Response<Body>) -> Value {
    serde_json::from_slice(answer.body()).expect("a JSON answer")
}

fn base64(raw: &str) -> String {
    let mut data = Base64Data::default();
    data.extend(raw.as_bytes());
    text(&serde_json::to_value(data).expect("a string"))
}

#[tokio::test]
async fn what_is_not_stripes_is_400_and_nothing_is_stored() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    let event = event.to_string();
    let now = world.clock.now().as_second();
    let rubbish = "x".repeat(1024 * 1024);
    for (name, header, body, code) in [
        ("no signature", String::new(), event.clone(), "signature_malformed"),
        (
            "another secret",
            signature::sign("whsec_other", now, event.as_bytes()),
            event.clone(),
            "signature_invalid",
        ),
        (
            "a changed body",
            sign(&world, event.as_bytes()),
            event.replace("Acme", "Evil"),
            "signature_invalid",
        ),
        (
            "a stale signature",
            signature::sign(&stack("STRIPE_WEBHOOK_SECRET"), now - 301, event.as_bytes()),
            event.clone(),
            "signature_stale",
        ),
        (
            "a future signature",
            signature::sign(&stack("STRIPE_WEBHOOK_SECRET"), now + 302, event.as_bytes()),
            event.clone(),
            "signature_stale",
        ),
        ("a megabyte of rubbish", sign(&world, b"other"), rubbish.clone(), "signature_invalid"),
        ("signed rubbish", sign(&world, rubbish.as_bytes()), rubbish.clone(), "malformed_event"),
        (
            "a signed body of another kind",
            sign(&world, b"{\"object\":\"customer\"}"),
            "{\"object\":\"customer\"}".to_owned(),
            "malformed_event",
        ),
    ] {
        let answer = world.webhook.handle(request(Body::Text(body), &header)).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{name}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{name}");
        assert_eq!(self::body(&answer)["code"], code, "{name}");
    }
    assert_eq!(world.queued().await, 0);
}

/// Trap 11: API Gateway hands the body over as text or as base64, and the signature is over the raw
/// bytes in each case.
#[tokio::test]
async fn a_body_in_base64_and_a_company_in_any_script_are_verified_over_the_raw_bytes() {
    let world = World::new().await;
    for (company, encoded) in
        [("Ångström & 東京 ✓", true), ("Ångström & 東京 ✓", false), ("Plain", true)]
    {
        let (_, event) = world.paid_checkout(company, "jane@acme.example");
        let raw = event.to_string();
        let sent = if encoded { base64(&raw) } else { raw.clone() };
        let mut gateway = http_event(
            "POST",
            "/webhook/stripe",
            &[("stripe-signature", &sign(&world, raw.as_bytes()))],
            Some(&sent),
        );
        gateway["isBase64Encoded"] = json!(encoded);
        let answer = world
            .webhook
            .handle(lambda_http::request::from_str(&gateway.to_string()).expect("a request"))
            .await;
        assert_eq!(answer.status(), StatusCode::OK, "{company} {encoded}");
        assert_eq!(answer.headers()["x-request-id"], "gateway-request-1");
    }
    assert_eq!(world.drain().await, 0);
    let names = world
        .rows(
            "SELECT name FROM tenants WHERE stripe_customer_id IS NOT NULL
                            ORDER BY name COLLATE \"C\"",
        )
        .await;
    assert_eq!(
        names,
        [
            json!({"name": "Plain"}),
            json!({"name": "Ångström & 東京 ✓"}),
            json!({"name": "Ångström & 東京 ✓"})
        ]
    );
}

/// Trap 1: acknowledged only when durable.
#[tokio::test]
async fn a_queue_that_refuses_or_stalls_is_503_and_the_redelivery_provisions() {
    let mut world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    let good = world.webhook.queue.clone();
    let stalled =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener that never answers");
    for port in [1, stalled.local_addr().expect("its address").port()] {
        let elsewhere = aws_sdk_sqs::config::Builder::from(&tests::aws())
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .build();
        world.webhook.queue = Queue::with(
            aws_sdk_sqs::Client::from_conf(elsewhere),
            format!("http://127.0.0.1:{port}/queue"),
        );
        let began = std::time::Instant::now();
        let answer = world.post(&event).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        assert!(!body(&answer).to_string().contains("127.0.0.1"), "nothing of the inside is shown");
        assert!(began.elapsed() < Duration::from_secs(15), "Stripe still listens");
    }
    world.webhook.queue = good;
    world.receive(&[&event]).await;
    assert_eq!(world.count("tenants WHERE name = 'Acme'").await, 1);
}

/// Trap 12: two secrets at once, then only the new one, without a restart.
#[tokio::test]
async fn a_rotated_secret_is_picked_up_without_a_restart() {
    let mut world = World::new().await;
    let aws = tests::aws();
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    let prefix = format!("{}/", world.settings["DATABASE_NAME"]);
    let secret = |list: Value| json!({"STRIPE_WEBHOOK_SECRET": list}).to_string();
    manager
        .create_secret()
        .name(format!("{prefix}webhook"))
        .secret_string(secret(json!(["whsec_old"])))
        .send()
        .await
        .expect("a secret");
    let env = world.env(&[("SECRETS_PREFIX", &prefix)]);
    world.webhook.secrets = shared::outside::secrets::Secrets::read_with(
        &aws,
        &env,
        shared::outside::secrets::Role::Webhook,
        Duration::ZERO,
    )
    .await
    .expect("the secret");
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    let event = event.to_string();
    let now = world.clock.now().as_second();
    let mut statuses = Vec::new();
    for (stored, signed_with) in [
        (json!(["whsec_old"]), "whsec_old"),
        (json!(["whsec_old"]), "whsec_new"),
        (json!(["whsec_new", "whsec_old"]), "whsec_new"),
        (json!(["whsec_new", "whsec_old"]), "whsec_old"),
        (json!(["whsec_new"]), "whsec_new"),
        (json!(["whsec_new"]), "whsec_never"),
        (json!(["whsec_new"]), "whsec_old"),
    ] {
        manager
            .put_secret_value()
            .secret_id(format!("{prefix}webhook"))
            .secret_string(secret(stored))
            .send()
            .await
            .expect("rotated");
        statuses.push(
            world
                .webhook
                .handle(request(
                    Body::Text(event.clone()),
                    &signature::sign(signed_with, now, event.as_bytes()),
                ))
                .await
                .status()
                .as_u16(),
        );
    }
    // The last: refused, because the read after `whsec_never` has forgotten the old one.
    assert_eq!(statuses, [200, 400, 200, 200, 200, 400, 400]);
}

#[tokio::test]
async fn an_event_over_200_kib_is_queued_as_its_envelope_and_still_provisions() {
    let world = World::new().await;
    let (_, mut event) = world.paid_checkout("Acme", "jane@acme.example");
    event["data"]["object"]["padding"] = json!("x".repeat(300 * 1024));
    world.receive(&[&event]).await;
    assert_eq!(
        world.row("SELECT status, payload FROM stripe_events").await,
        json!({"status": "applied", "payload": null})
    );
    assert_eq!(world.count("tenants WHERE name = 'Acme'").await, 1);
}

#[tokio::test]
async fn a_clock_that_is_wrong_refuses_what_stripe_signs_now() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    let header = sign(&world, event.to_string().as_bytes());
    world.clock.stop_at(jiff::Timestamp::UNIX_EPOCH);
    let answer = world.webhook.handle(request(Body::Text(event.to_string()), &header)).await;
    assert_eq!(body(&answer)["code"], "signature_stale");
}
