//! Starts each packaged function under the Lambda runtime interface, on the running stack, with the
//! environment that template.yaml gives it.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use simulators::lambda::Lambda;
use simulators::lambda::http_event;
use simulators::template::Template;
use simulators::tokens::Role;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::stack::settings::Env;
use shared::domain::events::signature;

/// Settings that a function needs here and not in a deployment, where the defaults are right: the
/// servers that stand in for AWS and Stripe, and the prefix of the stack's secrets.
const LOCAL: [&str; 7] = [
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "STRIPE_API_BASE",
    "SECRETS_PREFIX",
];

/// Calls every function.
pub(super) async fn run(root: &Path, folder: &Path, env: &Env) -> Result<()> {
    let template = Template::read(&root.join("template.yaml"))?;
    let mut failed = Vec::new();
    for (resource, function) in template.functions() {
        let name = function["CodeUri"]
            .as_str()
            .and_then(|uri| uri.strip_prefix("functions/"))
            .with_context(|| format!("{resource} has no function's folder"))?;
        let began = Instant::now();
        match call(&template, &function, name, folder, env).await {
            Ok(answer) => println!("✓ {name} ({} ms): {answer}", began.elapsed().as_millis()),
            Err(error) => {
                println!("✗ {name}: {error:#}");
                failed.push(name.to_owned());
            }
        }
    }
    ensure!(failed.is_empty(), "wrong answer: {}", failed.join(", "));
    Ok(())
}

/// Starts a function, calls it, and checks its answer and its log; returns a summary of the call.
async fn call(
    template: &Template,
    function: &Value,
    name: &str,
    folder: &Path,
    env: &Env,
) -> Result<String> {
    let log = folder.join(format!("{name}.log"));
    let mut command = Command::new(folder.join(name).join("bootstrap"));
    command.env_clear().envs(template.environment(function, &|reference| given(reference, env))?);
    for local in LOCAL {
        command.env(local, env.get(local)?);
    }
    command.env("DATABASE_SSLMODE", "disable");
    // A time that no function could start with: a release does not look at it.
    let no_time = folder.join("no-time");
    fs::write(&no_time, "tomorrow")?;
    command.env("BUSINESS_TIME_FILE", &no_time);
    let limit = Duration::from_secs(function["Timeout"].as_u64().context("no time-out")?);
    let lambda = Lambda::start(limit).await?;
    command
        .env("AWS_LAMBDA_RUNTIME_API", &lambda.address)
        .env("AWS_LAMBDA_FUNCTION_NAME", name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1");
    command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function["MemorySize"].to_string());
    let output = File::create(&log)?;
    command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output).kill_on_drop(true);
    let mut instance = command.spawn()?;

    let summary = tokio::select! {
        answer = tokio::time::timeout(limit,
            ask(function, name, env, &lambda)) => answer.unwrap_or_else(|_| Err(anyhow::anyhow!(
                "no answer in {} s", limit.as_secs()))),
        status = instance.wait() => Err(anyhow::anyhow!("it ended ({})", status?)),
    };
    instance.kill().await?;
    let summary =
        summary.with_context(|| format!("its output:\n{}", crate::process::tail(&log, 10)))?;
    for line in fs::read_to_string(&log)?.lines() {
        ensure!(
            serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()),
            "a line of its log is not JSON: {line}"
        );
    }
    Ok(summary)
}

/// The stack's value for a reference of the template.
fn given(reference: &str, env: &Env) -> Option<Value> {
    let stack = |name: &str| env.get(name).ok().map(|text| json!(text));
    match reference {
        // The stage is only in names; it must be one of the template's.
        "Stage" => Some(json!("dev")),
        "DatabaseHost" => stack("DATABASE_HOST"),
        "DatabasePort" => stack("DATABASE_PORT"),
        "KeycloakUrl" => stack("KEYCLOAK_URL"),
        "JwtIssuer" => stack("JWT_ISSUER"),
        "StripePublishableKey" => stack("STRIPE_PUBLISHABLE_KEY"),
        "AllowedOrigins" => Some(json!([env.get("ALLOWED_ORIGINS").ok()?])),
        "StripeEventsQueue" => stack("STRIPE_QUEUE_URL"),
        "StripeEventsDeadLetters" => stack("STRIPE_DLQ_URL"),
        "ProvisioningQueue" => stack("PROVISIONING_QUEUE_URL"),
        "RenewalQueue" => stack("RENEWAL_QUEUE_URL"),
        "SmtpHost" => stack("SMTP_HOST"),
        "SmtpPort" => stack("SMTP_PORT"),
        "SmtpFrom" => Some(json!("Pulse <billing@pulse.example>")),
        _ => None,
    }
}

async fn ask(function: &Value, name: &str, env: &Env, lambda: &Lambda) -> Result<String> {
    let id = format!("evt_packaged{}", shared::base::clock::Clock::system().now().as_millisecond());
    let event = json!({"id": id, "object": "event", "type": "customer.created", "created": 1,
    "livemode": false, "data": {"object": {"id": "cus_1"}}});
    match name {
        "webhook" => {
            let body = event.to_string();
            let signature = signature::sign(
                env.get("STRIPE_WEBHOOK_SECRET")?,
                shared::base::clock::Clock::system().now().as_second(),
                body.as_bytes(),
            );
            let answer = lambda
                .invoke(http_event(
                    "POST",
                    "/webhook/stripe",
                    &[("stripe-signature", &signature)],
                    Some(&body),
                ))
                .await?;
            expect(&answer, &[200], "a signed event")
        }
        "stripe-events" => {
            let attributes = json!({"ApproximateReceiveCount": "1", "MessageGroupId": "cus_1"});
            let record = json!({"messageId": "1", "receiptHandle": "1", "body": event.to_string(),
            "attributes": attributes, "eventSource": "aws:sqs"});
            let answer = lambda.invoke(json!({"Records": [record]})).await?;
            ensure!(answer == json!({"batchItemFailures": []}), "{answer}");
            Ok(format!("a batch of one event: {answer}"))
        }
        "migrate" => migrate(lambda).await,
        "provisioning" | "renewal" => {
            let answer = lambda
                .invoke(json!({"source": "aws.scheduler",
                "detail-type": "Scheduled Event", "dry_run": true}))
                .await?;
            ensure!(answer.is_object(), "{answer}");
            Ok(format!("the schedule: {answer}"))
        }
        _ => {
            // A GET route, preferably one without a parameter, in a role that may read it.
            let routes = function["Events"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(_, event)| &event["Properties"]);
            let read = routes
                .filter(|route| route["Method"] == "GET")
                .filter_map(|route| route["Path"].as_str())
                .filter(|path| path.starts_with("/api/"));
            let path = read
                .min_by_key(|path| (path.matches('{').count(), *path))
                .context("no GET route")?;
            let role = if path.starts_with("/api/v1/customer/") {
                Role::Customer("demo-greenhouses")
            } else {
                Role::OperatorAdmin
            };
            let token = crate::token::keycloak(env)?.token(role).await?;
            let filled = path.replace("{subscription_id}", "SUB-2020-9999");
            let answer = lambda
                .invoke(http_event(
                    "GET",
                    &filled,
                    &[("authorization", &format!("Bearer {token}"))],
                    None,
                ))
                .await?;
            expect(&answer, if filled == path { &[200] } else { &[404] }, &format!("GET {filled}"))
        }
    }
}

/// Checks that the answer has one of these statuses, and that a refusal has a code of ours.
fn expect(answer: &Value, statuses: &[u16], what: &str) -> Result<String> {
    let status = answer["statusCode"].as_u64().unwrap_or_default();
    ensure!(statuses.iter().any(|wanted| u64::from(*wanted) == status), "{what}: {answer}");
    let body: Value =
        serde_json::from_str(answer["body"].as_str().unwrap_or_default()).context("its body")?;
    ensure!(status < 400 || body["code"].is_string(), "{what}: {body}");
    Ok(format!("{what}: {status} {}", body["code"].as_str().unwrap_or_default())
        .trim_end()
        .to_owned())
}

/// Sends a deployment's request, whose answer goes to a URL of this process.
async fn migrate(lambda: &Lambda) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let event = json!({
        "RequestType": "Update", "ResponseURL": format!("http://{}/answer?signature=x",
            listener.local_addr()?), "StackId": "stack", "RequestId": "request",
        "LogicalResourceId": "Migration", "PhysicalResourceId": "migrations",
        "ResourceType": "Custom::Migration", "ResourceProperties": {}, "OldResourceProperties": {},
    });
    let taken = async {
        let (mut socket, _) = listener.accept().await?;
        let mut text = String::new();
        let mut buffer = [0; 8192];
        while !text.contains("\"Status\"") || !text.ends_with('}') {
            match socket.read(&mut buffer).await? {
                0 => bail!("half an answer: {text}"),
                length => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
            }
        }
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await?;
        Ok(text)
    };
    let (answer, taken) = tokio::try_join!(lambda.invoke(event), taken)?;
    let body: Value = serde_json::from_str(taken.split("\r\n\r\n").nth(1).unwrap_or_default())
        .context("the answer to CloudFormation")?;
    ensure!(body["Status"] == "SUCCESS" && answer["answered"] == true, "{body} {answer}");
    Ok(format!(
        "CloudFormation's update: {} {}",
        body["Status"].as_str().unwrap_or_default(),
        body["Data"]
    ))
}
