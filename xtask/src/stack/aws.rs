//! SQS (`ElasticMQ`, or moto without a JDK) and Secrets Manager (moto), with the queues and secrets
//! of a deployment.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use serde_json::json;
use tokio::process::Command;

use super::REGION;
use super::Starting;
use super::listens;
use crate::tools::Tools;
use shared::outside::aws::SdkConfig;
use shared::process::config::Env;

/// The queues, and a client that reaches them.
pub(super) struct Queues {
    /// A client of the server.
    pub client: aws_sdk_sqs::Client,
    /// The server's address.
    pub endpoint: String,
    /// URL of the FIFO queue of Stripe's events.
    pub stripe: String,
    /// URL of its dead-letter queue.
    pub dead_letters: String,
    /// URL of the queue that wakes the outbox.
    pub provisioning: String,
    /// URL of the queue of requests for an hourly run.
    pub renewal: String,
}

/// Starts the servers and creates queues and secrets. Both servers keep everything in memory: each
/// start creates it again.
pub(super) async fn start(stack: &Starting<'_>, tools: &Tools) -> Result<Queues> {
    let step = stack.progress.step(if tools.java.is_some() {
        "ElasticMQ (queues), moto (secrets)"
    } else {
        "moto (queues, secrets)"
    });
    let mut moto = Command::new(tools.program("python"));
    moto.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &stack.ports.aws.to_string()]);
    stack.supervisor.start("moto", &mut moto)?;
    let port = if let Some(java) = &tools.java {
        let config = stack.state.join("elasticmq.conf");
        fs::write(&config, elasticmq_config(stack.ports.queue))?;
        let mut elasticmq = Command::new("java");
        elasticmq.args([
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            &format!("-Dconfig.file={}", config.display()),
        ]);
        elasticmq.args([
            "-cp",
            &format!("{}/*", java.elasticmq.display()),
            "org.elasticmq.server.Main",
        ]);
        stack.supervisor.start("elasticmq", &mut elasticmq)?;
        stack
            .supervisor
            .ready("elasticmq", Duration::from_mins(1), || listens(stack.ports.queue))
            .await?;
        stack.ports.queue
    } else {
        stack.ports.aws
    };
    stack.supervisor.ready("moto", Duration::from_mins(1), || listens(stack.ports.aws)).await?;

    let shared = shared_config()?;
    let secrets = format!("http://127.0.0.1:{}", stack.ports.aws);
    create_secrets(
        stack,
        aws_sdk_secretsmanager::config::Builder::from(&shared).endpoint_url(secrets).build(),
    )
    .await?;
    let endpoint = format!("http://127.0.0.1:{port}");
    let client = aws_sdk_sqs::Client::from_conf(
        aws_sdk_sqs::config::Builder::from(&shared).endpoint_url(&endpoint).build(),
    );
    let (stripe, dead_letters, provisioning, renewal) =
        create_queues(&client).await.context("cannot create the queues")?;
    step.done();
    Ok(Queues { client, endpoint, stripe, dead_letters, provisioning, renewal })
}

/// How long a receive call waits for messages.
pub(super) const LONG_POLL: Duration = Duration::from_secs(10);

/// The settings of both clients: this stack's credentials and region.
pub(crate) fn shared_config() -> Result<SdkConfig> {
    let settings =
        [("AWS_REGION", REGION), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    let env = Env::of(settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    // The messages of an answer that comes after its time-out are lost until they become visible
    // again.
    shared::outside::aws::config_within(&env, 3 * LONG_POLL)
        .context("the local stack's credentials")
}

fn elasticmq_config(port: u16) -> String {
    format!(
        "include classpath(\"application.conf\")\n\
         node-address {{ protocol = http, host = \"127.0.0.1\", port = {port}, context-path = \
         \"\" }}\n\
         rest-sqs {{ enabled = true, bind-hostname = \"127.0.0.1\", bind-port = {port}, \
         sqs-limits = strict }}\n\
         rest-stats {{ enabled = false }}\n"
    )
}

/// Creates the queues of `template.yaml`, except that a message whose consumer died comes again
/// after seconds instead of minutes.
async fn create_queues(client: &aws_sdk_sqs::Client) -> Result<(String, String, String, String)> {
    let dead = create_queue(
        client,
        "stripe-events-dlq.fifo",
        HashMap::from([(Attribute::FifoQueue, "true".to_owned())]),
    )
    .await?;
    let attributes = client
        .get_queue_attributes()
        .queue_url(&dead)
        .attribute_names(Attribute::QueueArn)
        .send()
        .await?;
    let arn = attributes
        .attributes()
        .and_then(|all| all.get(&Attribute::QueueArn))
        .context("the dead-letter queue has no ARN")?;
    let redrive = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 150 }).to_string();
    let fifo = HashMap::from([
        (Attribute::FifoQueue, "true".to_owned()),
        (Attribute::VisibilityTimeout, "30".to_owned()),
        (Attribute::RedrivePolicy, redrive),
    ]);
    let stripe = create_queue(client, "stripe-events.fifo", fifo).await?;
    let provisioning = create_queue(
        client,
        "provisioning",
        HashMap::from([(Attribute::VisibilityTimeout, "90".to_owned())]),
    )
    .await?;
    let renewal = create_queue(
        client,
        "renewal",
        HashMap::from([(Attribute::VisibilityTimeout, "90".to_owned())]),
    )
    .await?;
    Ok((stripe, dead, provisioning, renewal))
}

async fn create_queue(
    client: &aws_sdk_sqs::Client,
    name: &str,
    attributes: HashMap<Attribute, String>,
) -> Result<String> {
    let created =
        client.create_queue().queue_name(name).set_attributes(Some(attributes)).send().await?;
    created.queue_url.with_context(|| format!("queue {name} has no URL"))
}

async fn create_secrets(
    stack: &Starting<'_>,
    config: aws_sdk_secretsmanager::Config,
) -> Result<()> {
    let client = aws_sdk_secretsmanager::Client::from_conf(config);
    let secrets = [
        ("webhook", json!({ "STRIPE_WEBHOOK_SECRET": [stack.webhook_secret()] })),
        (
            "system",
            json!({
                "DATABASE_PASSWORD": stack.credentials.system,
                "STRIPE_SECRET_KEY": stack.stripe_key(),
                "KEYCLOAK_CLIENT_SECRET": stack.credentials.keycloak_client,
            }),
        ),
        (
            "operator",
            json!({
                "DATABASE_PASSWORD": stack.credentials.operator,
                "STRIPE_SECRET_KEY": stack.stripe_key(),
                "KEYCLOAK_CLIENT_SECRET": stack.credentials.keycloak_client,
            }),
        ),
        (
            "customer",
            json!({ "DATABASE_PASSWORD": stack.credentials.customer,
                "STRIPE_SECRET_KEY": stack.stripe_key() }),
        ),
        ("owner", json!({ "DATABASE_PASSWORD": stack.credentials.owner })),
    ];
    for (role, secret) in secrets {
        let create =
            client.create_secret().name(format!("pulse/{role}")).secret_string(secret.to_string());
        create.send().await.with_context(|| format!("cannot create the secret of {role}"))?;
    }
    Ok(())
}
