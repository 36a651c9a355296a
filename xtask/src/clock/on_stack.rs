//! The running stack as a business whose time is led: everything arrives by its own queues and
//! functions.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use jiff::Timestamp;
use journey::Business;
use serde_json::Value;
use serde_json::json;
use tokio_postgres::Client;

use super::time::Times;
use crate::stack::settings::Env;

/// An event that failed comes again after a minute of this machine.
const PATIENCE: Duration = Duration::from_mins(5);

pub(super) struct OnStack {
    times: Times,
    database: Client,
    http: reqwest::Client,
    sqs: aws_sdk_sqs::Client,
    /// In the order in which messages lead from one to the next.
    queues: [String; 3],
    functions: String,
    stripe: String,
    key: String,
    /// How many events Stripe had sent when nothing was under way the last time.
    settled: Option<u64>,
}

impl OnStack {
    pub(super) async fn new(env: &Env, times: Times) -> Result<Self> {
        let sqs = aws_sdk_sqs::config::Builder::from(&crate::stack::shared_config()?)
            .endpoint_url(env.get("AWS_ENDPOINT_URL_SQS")?)
            .build();
        let queue = |name| env.get(name).map(str::to_owned);
        let stripe = env.get("STRIPE_API_BASE").context(
            "only the simulator's time can be moved, and real Stripe is in use: unset \
             STRIPE_SECRET_KEY",
        )?;
        Ok(Self {
            times,
            database: crate::demo::database(env).await?,
            http: crate::http_client(Duration::from_mins(15))?,
            sqs: aws_sdk_sqs::Client::from_conf(sqs),
            queues: [
                queue("RENEWAL_QUEUE_URL")?,
                queue("STRIPE_QUEUE_URL")?,
                queue("PROVISIONING_QUEUE_URL")?,
            ],
            functions: format!("{}/2015-03-31/functions", env.get("LAMBDA_URL")?),
            stripe: format!("{stripe}/clock"),
            key: env.get("STRIPE_SECRET_KEY")?.to_owned(),
            settled: None,
        })
    }

    async fn invoke(&self, function: &str) -> Result<Value> {
        let url = format!("{}/{function}/invocations", self.functions);
        answer(self.http.post(url).json(&json!({}))).await.with_context(|| function.to_owned())
    }

    async fn stripe(&self) -> Result<Value> {
        answer(self.http.get(&self.stripe).bearer_auth(&self.key)).await
    }

    /// What is under way; `None` if nothing is.
    async fn under_way(&self) -> Result<Option<String>> {
        let undelivered = &self.stripe().await?["undelivered"];
        if *undelivered != 0 {
            return Ok(Some(format!("{undelivered} events of Stripe are not delivered")));
        }
        for queue in &self.queues {
            let counts = [
                Attribute::ApproximateNumberOfMessages,
                Attribute::ApproximateNumberOfMessagesNotVisible,
                Attribute::ApproximateNumberOfMessagesDelayed,
            ];
            let request = self.sqs.get_queue_attributes().queue_url(queue);
            let found = request.set_attribute_names(Some(counts.to_vec())).send().await?;
            let all = found.attributes.unwrap_or_default();
            let messages: u64 = all.values().filter_map(|count| count.parse::<u64>().ok()).sum();
            if messages > 0 {
                let name = queue.rsplit('/').next().unwrap_or_default();
                return Ok(Some(format!("{messages} messages are on the queue {name}")));
            }
        }
        Ok(None)
    }
}

impl Business for OnStack {
    fn database(&self) -> &Client {
        &self.database
    }

    async fn hold(&mut self, at: Timestamp) -> Result<()> {
        // First the time of the functions: they must not hear of what is in their future.
        self.times.hold(at)?;
        let moved = self.http.post(&self.stripe).bearer_auth(&self.key).body(at.to_string());
        answer(moved).await.context("the simulator's time")?;
        Ok(())
    }

    async fn next_at_stripe(&mut self) -> Result<Option<Timestamp>> {
        match self.stripe().await?["next"].as_str() {
            Some(next) => Ok(Some(next.parse()?)),
            None => Ok(None),
        }
    }

    async fn settle(&mut self) -> Result<()> {
        let start = Instant::now();
        let sent = self.stripe().await?["events"].as_u64();
        // Everything that time brings about begins at Stripe, or with a step, which is in the
        // database: the queues, whose answers take longest, need not be asked for nothing.
        if self.settled.is_some() && self.settled == sent {
            return Ok(());
        }
        while let Some(what) = self.under_way().await? {
            ensure!(
                start.elapsed() < PATIENCE,
                "{what} after {} minutes; see the logs of the functions and the pump",
                PATIENCE.as_secs() / 60
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let failed = self.database.query_opt(FAILED, &[&self.times.read()?.now()]).await?;
        if let Some(failed) = failed {
            anyhow::bail!(
                "the event {} ({}) failed: {}",
                failed.get::<_, &str>(0),
                failed.get::<_, &str>(1),
                failed.get::<_, Option<&str>>(2).unwrap_or("no reason")
            );
        }
        self.settled = sent;
        Ok(())
    }

    async fn run_hourly(&mut self) -> Result<Value> {
        self.invoke("renewal").await
    }

    async fn run_minutely(&mut self) -> Result<Value> {
        self.invoke("provisioning").await
    }
}

/// An event that failed now.
const FAILED: &str = "SELECT event_id, event_type, status_reason FROM stripe_events
                      WHERE status = 'failed' AND updated_at >= $1 LIMIT 1";

async fn answer(request: reqwest::RequestBuilder) -> Result<Value> {
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}
