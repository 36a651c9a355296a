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
        let body = self::body(&answer);
        assert_eq!(body["code"], code, "{name}");
        let is_signature = code.starts_with("signature_");
        assert_eq!(body["detail"] == "Invalid signature", is_signature, "{name}: {body}");
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

/// Trap 82.
#[tokio::test]
async fn a_thin_event_is_refused_in_words_that_say_what_to_do_at_stripe() {
    let world = World::new().await;
    // As in Stripe's documentation of API v2.
    let thin = json!({
        "id": "evt_test_65R9Ijk8dKEYZcXeRWn16R9A7j1FSQ3w3TGDPLLGSM4CW0",
        "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered",
        "created": "2024-09-17T06:20:52.246Z", "livemode": false, "context": null, "reason": null,
        "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"},
    });
    let answer = world.post(&thin).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let problem = body(&answer);
    assert_eq!(problem["code"], "thin_event");
    assert!(text(&problem["detail"]).contains("payload style 'snapshot'"), "{problem}");
    assert_eq!((world.queued().await, world.dead_letters().await.len()), (0, 0));
}

/// Trap 84: Stripe repeats it for three days, and then it would be gone.
#[tokio::test]
async fn a_signed_body_that_cannot_be_read_is_refused_and_kept_for_a_person_to_read() {
    let mut world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    let with = |amount: &str| {
        let mut event = event.clone();
        event["data"]["object"]["amount_total"] = json!("HERE");
        event.to_string().replace("\"HERE\"", amount)
    };
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let bodies: [Vec<u8>; 6] = [
        with("1e400").into_bytes(),
        with(r#""\ud800""#).into_bytes(),
        with(&deep).into_bytes(),
        [event.to_string().as_bytes(), b"\xff\x00"].concat(),
        "\u{1}x\u{FFFF}".repeat(100_000).into_bytes(),
        Vec::new(),
    ];
    for body in &bodies {
        for _ in 0..2 {
            let header = sign(&world, body);
            let answer = world.webhook.handle(request(Body::Binary(body.clone()), &header)).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert_eq!(self::body(&answer)["code"], "malformed_event");
        }
    }
    let kept = world.dead_letters().await;
    assert_eq!(kept.len(), bodies.len(), "each once");
    for body in &bodies[..3] {
        let body = std::str::from_utf8(body).expect("text");
        assert!(kept.iter().any(|kept| kept == body), "as it came, for a later release: {body}");
    }
    assert_eq!(world.queued().await, 0);

    // Where it cannot be kept, Stripe is to come again.
    let nowhere = aws_sdk_sqs::config::Builder::from(&tests::aws())
        .endpoint_url("http://127.0.0.1:1")
        .build();
    world.webhook.dead_letters =
        Queue::with(aws_sdk_sqs::Client::from_conf(nowhere), "http://127.0.0.1:1/queue".to_owned());
    let header = sign(&world, &bodies[0]);
    let answer = world.webhook.handle(request(Body::Binary(bodies[0].clone()), &header)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// Trap 83: a row that no index takes would keep its event on the queue for a day.
#[tokio::test]
async fn an_event_whose_type_no_index_holds_is_recorded_as_failed_at_once() {
    let world = World::new().await;
    let (_, paid) = world.paid_checkout("Acme", "jane@acme.example");
    for (id, length) in [("evt_huge", 1024 * 1024), ("evt_long", 90_000), ("evt_more", 256)] {
        let mut event = paid.clone();
        event["id"] = json!(id);
        event["type"] = json!("é".repeat(length));
        event["api_version"] = json!("9".repeat(length));
        for _ in 0..2 {
            world.receive(&[&event]).await;
            let (status, reason) = world.recorded(&event).await;
            assert_eq!(status, "failed", "{id}");
            assert_eq!(reason, "its type has more than 255 characters; it is cut here", "{id}");
        }
        let cut =
            format!("SELECT length(event_type) AS n FROM stripe_events WHERE event_id = '{id}'");
        assert_eq!(world.row(&cut).await["n"], 256);
        assert_eq!(world.count(&format!("flags WHERE stripe_event_id = '{id}'")).await, 1);
    }
    // What only describes is cut, and hinders nothing.
    let mut other = paid.clone();
    other["id"] = json!("evt_other");
    other["type"] = json!("charge.refunded");
    other["api_version"] = json!("9".repeat(100_000));
    other["data"]["object"] =
        json!({"id": "x".repeat(1024 * 1024), "object": "charge", "customer": null});
    world.receive(&[&other]).await;
    assert_eq!(world.recorded(&other).await.0, "ignored");
    world.receive(&[&paid]).await;
    assert_eq!(world.count("tenants WHERE name = 'Acme'").await, 1);
}
