//! The time from the start of a function's process to its first answer, its memory after a hundred
//! and after a thousand requests, and the cost of ingest. The floor is a hello-world function that
//! is started and called as often.
//!
//! What a start waits for outside the function is answered at once: secrets by a server here, the
//! issuer's keys by the embedded issuer.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use shared::base::clock::Clock;
use shared::domain::events::signature;
use simulators::keycloak::Fake;
use simulators::lambda::http_event;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Bench;
use super::database::Fleet;
use super::megabytes;
use super::milliseconds;
use super::report::Aim;
use super::report::Measure;
use super::requests::connection;
use super::requests::hello;
use super::requests::token;
use super::runtime::Instance;
use super::runtime::call;
use super::runtime::request;
use super::runtime::serve_json;

/// Starts per round, of which the median counts.
const STARTS: usize = 5;
/// Ingest requests per round.
const INGESTED: u32 = 200;

/// A function's first event: for a function with a database, one that queries it.
struct Start {
    function: &'static str,
    aim: f64,
    event: fn(&Fake, u32) -> Result<Vec<u8>>,
}

const STARTED: [Start; 11] = [
    Start {
        function: "webhook",
        aim: 2.0,
        event: |_, _| Ok(call("POST", "/webhook/stripe", None, Some("{}"))),
    },
    Start {
        function: "operator-plans",
        aim: 3.5,
        event: |issuer, _| read(issuer, "/api/v1/operator/plans"),
    },
    Start {
        function: "allocations",
        aim: 3.5,
        event: |issuer, _| {
            read(issuer, "/api/v1/operator/subscriptions/SUB-2025-0000001/tier-allocations")
        },
    },
    Start {
        function: "subscriptions",
        aim: 3.5,
        event: |issuer, _| read(issuer, "/api/v1/operator/subscriptions/SUB-2025-0000001"),
    },
    Start {
        function: "tenants",
        aim: 3.5,
        event: |issuer, _| read(issuer, "/api/v1/operator/tenants/t1"),
    },
    Start {
        function: "device-tier",
        aim: 3.5,
        event: |issuer, _| own(issuer, "/api/v1/customer/devices/dev-1"),
    },
    Start {
        function: "billing",
        aim: 3.5,
        event: |issuer, _| own(issuer, "/api/v1/customer/entitlements"),
    },
    Start {
        function: "operations",
        aim: 3.5,
        event: |issuer, _| read(issuer, "/api/v1/operator/flags"),
    },
    Start { function: "stripe-events", aim: 3.5, event: |_, number| Ok(batch(number)) },
    Start { function: "provisioning", aim: 3.5, event: |_, _| Ok(b"{\"Records\":[]}".to_vec()) },
    Start {
        function: "renewal",
        aim: 3.5,
        event: |_, _| Ok(b"{\"dry_run\":true,\"as_of\":\"2026-03-01T00:00:00Z\"}".to_vec()),
    },
];

fn read(issuer: &Fake, path: &str) -> Result<Vec<u8>> {
    Ok(call("GET", path, Some(&token(issuer, "operator", 1)?), None))
}

fn own(issuer: &Fake, path: &str) -> Result<Vec<u8>> {
    Ok(call("GET", path, Some(&token(issuer, "customer", 1)?), None))
}

/// One message with an event that has no effect but is recorded.
fn batch(number: u32) -> Vec<u8> {
    let object = json!({ "id": "in_bench", "object": "invoice", "customer": "cus_bench" });
    let event = json!({
        "id": format!("evt_bench{number}"), "object": "event", "type": "invoice.created",
        "created": 1_770_000_000, "livemode": false,
        "api_version": "2026-09-30.endive", "data": { "object": object }
    });
    let record = json!({
        "messageId": number.to_string(), "receiptHandle": "bench", "body": event.to_string(),
        "attributes": { "MessageGroupId": "cus_bench" },
        "messageAttributes": {}, "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:0:bench.fifo", "awsRegion": "us-east-1"
    });
    json!({ "Records": [record] }).to_string().into_bytes()
}

/// Measures starts and memory.
pub(super) async fn run(bench: &Bench, fleet: &Fleet) -> Result<Vec<Measure>> {
    let issuer = bench.issuer().await?;
    let secrets = serve_secrets(bench).await?;
    let settings = bench.settings(&[
        ("DATABASE_NAME", &fleet.name),
        ("JWT_ISSUER", &issuer.issuer()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets),
    ]);
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for start in &STARTED {
        let step = bench.progress.step(format!("starts of {}", start.function));
        let mut time = Measure::new(
            format!("start of {} to its first answer", start.function),
            "ms",
            Aim::AtMost(start.aim),
        );
        let mut connected = Measure::new(
            format!("start of {} / hello-world and a new connection", start.function),
            "ms",
            Aim::None,
        );
        for _ in 0..bench.rounds {
            let (mut ours, mut floor) = (Vec::new(), Vec::new());
            for number in 0..STARTS {
                let event = (start.event)(&issuer, u32::try_from(number)?)?;
                let function =
                    Instance::start(&bench.program(start.function), &settings, event, &bench.log)
                        .await?;
                ours.push(function.first_answer);
                function.stop().await?;
                let hello = hello(bench).await?;
                floor.push(hello.first_answer);
                hello.stop().await?;
            }
            let (ours, floor) = (middle(ours), middle(floor));
            time.push(milliseconds(ours), milliseconds(floor));
            connected
                .push(milliseconds(ours), milliseconds(floor + connection(bench, fleet).await?));
        }
        times.push(time);
        if start.function != "webhook" {
            times.push(connected);
        }
        let requests = if start.function == "renewal" { 20 } else { 1_000 };
        let function = Instance::start(
            &bench.program(start.function),
            &settings,
            (start.event)(&issuer, 1_000)?,
            &bench.log,
        )
        .await?;
        let hello = hello(bench).await?;
        let mut early = 0;
        for number in 1..=requests {
            function.invoke((start.event)(&issuer, 1_000 + number)?).await?;
            hello.invoke(call("GET", "/", None, None)).await?;
            if number == requests / 10 {
                early = function.memory()?.0;
            }
        }
        let late = function.memory()?.0;
        let mut memory = Measure::new(
            format!("memory of {} after {requests}", start.function),
            "MB",
            Aim::AtMost(2.5),
        );
        memory.push(megabytes(late), megabytes(hello.memory()?.0));
        let mut growth = Measure::new(
            format!("memory of {} after {requests} / after {}", start.function, requests / 10),
            "MB",
            Aim::AtMost(1.05),
        );
        growth.push(megabytes(late), megabytes(early));
        memories.extend([memory, growth]);
        function.stop().await?;
        hello.stop().await?;
        step.done();
    }
    times.extend(memories);
    Ok(times)
}

/// Measures a signed delivery, checked and put on a queue. Its floor is a hello-world request and a
/// bare message to that queue.
pub(super) async fn ingest(bench: &Bench) -> Result<Vec<Measure>> {
    let step = bench.progress.step("ingest");
    let queue = aws_sdk_sqs::Client::from_conf(
        aws_sdk_sqs::config::Builder::from(&crate::stack::shared_config()?)
            .endpoint_url(bench.env.get("AWS_ENDPOINT_URL_SQS")?)
            .build(),
    );
    let attributes =
        HashMap::from([(aws_sdk_sqs::types::QueueAttributeName::FifoQueue, "true".to_owned())]);
    let url = queue
        .create_queue()
        .queue_name(format!("bench{}.fifo", std::process::id()))
        .set_attributes(Some(attributes))
        .send()
        .await?;
    let url = url.queue_url().context("a queue without a URL")?;
    let delivery = |number: u32| -> Result<(Vec<u8>, String)> {
        let object = json!({ "id": format!("sub_bench{number}"), "object": "subscription",
        "customer": format!("cus_bench{number}"), "metadata": {} });
        let event = json!({
            "id": format!("evt_bench{number}"), "object": "event",
            "type": "customer.subscription.updated", "created": 1_770_000_000, "livemode": false,
            "api_version": "2026-09-30.endive", "data": { "object": object },
            "filler": "x".repeat(2_000)
        })
        .to_string();
        let signature = signature::sign(
            bench.env.get("STRIPE_WEBHOOK_SECRET")?,
            Clock::system().now().as_second(),
            event.as_bytes(),
        );
        let request = http_event(
            "POST",
            "/webhook/stripe",
            &[("stripe-signature", &signature)],
            Some(&event),
        );
        Ok((request.to_string().into_bytes(), event))
    };
    let settings = bench.settings(&[("STRIPE_QUEUE_URL", url), ("STRIPE_DLQ_URL", url)]);
    let webhook =
        Instance::start(&bench.program("webhook"), &settings, delivery(0)?.0, &bench.log).await?;
    super::runtime::body(&webhook.first, 200)?;
    let hello = hello(bench).await?;
    let mut sender = Sender::connect(bench.env.get("AWS_ENDPOINT_URL_SQS")?).await?;
    let mut measure =
        Measure::new("ingest: signature checked, event on the queue", "ms", Aim::AtMost(1.2));
    let mut number = 0;
    for _ in 0..bench.rounds {
        let (mut ours, mut floor) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..INGESTED {
            number += 1;
            let (request, event) = delivery(number)?;
            let (answer, took) = webhook.invoke(request).await?;
            super::runtime::body(&answer, 200)?;
            ours += took;
            floor += hello.invoke(call("GET", "/", None, None)).await?.1
                + sender.send(url, &event, number).await?;
        }
        measure.push(milliseconds(ours / INGESTED), milliseconds(floor / INGESTED));
    }
    webhook.stop().await?;
    hello.stop().await?;
    queue.delete_queue().queue_url(url).send().await?;
    step.done();
    Ok(vec![measure])
}

/// Sends messages to a queue on one connection, without an SDK.
struct Sender {
    connection: TcpStream,
    host: String,
}

impl Sender {
    async fn connect(endpoint: &str) -> Result<Self> {
        let host = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let connection = TcpStream::connect(&host).await?;
        connection.set_nodelay(true)?;
        Ok(Self { connection, host })
    }

    async fn send(&mut self, queue: &str, event: &str, number: u32) -> Result<Duration> {
        let body = json!({ "QueueUrl": queue, "MessageBody": event, "MessageGroupId": format!(
            "floor{number}"), "MessageDeduplicationId": format!("floor{number}") });
        let body = body.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nx-amz-target: AmazonSQS.SendMessage\r\ncontent-type: \
             application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let began = Instant::now();
        self.connection.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        let mut read = Vec::new();
        let (head, _) = request(&mut self.connection, &mut read).await?;
        anyhow::ensure!(head.split(' ').nth(1) == Some("200"), "the queue answered {head}");
        if head.to_ascii_lowercase().contains("\r\nconnection: close") {
            // moto closes it, and the function reconnects as well.
            self.connection = TcpStream::connect(&self.host).await?;
        }
        Ok(began.elapsed())
    }
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Starts a server that returns the stack's secrets at once, as Secrets Manager does; returns its
/// address.
async fn serve_secrets(bench: &Bench) -> Result<String> {
    let config = aws_sdk_secretsmanager::config::Builder::from(&crate::stack::shared_config()?);
    let client = aws_sdk_secretsmanager::Client::from_conf(
        config.endpoint_url(bench.env.get("AWS_ENDPOINT_URL_SECRETS_MANAGER")?).build(),
    );
    let mut secrets = HashMap::new();
    for role in ["webhook", "customer", "operator", "system"] {
        let id = format!("{}{role}", bench.env.get("SECRETS_PREFIX")?);
        let secret = client.get_secret_value().secret_id(&id).send().await?;
        secrets.insert(id, secret.secret_string().context("a secret without text")?.to_owned());
    }
    serve_json(move |_, body| {
        let request: Value = serde_json::from_slice(body)?;
        let id = request["SecretId"].as_str().unwrap_or_default();
        Ok(json!({ "ARN": "arn:aws:secretsmanager:us-east-1:0:secret:bench", "Name": id,
        "SecretString": secrets.get(id) }))
    })
    .await
}
