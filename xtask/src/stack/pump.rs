//! The pump does what SQS event source mappings and `EventBridge` Scheduler do in a deployment: it
//! carries messages to functions, and invokes them on a schedule.
//!
//! Shapes and rules are those of AWS's "Using Lambda with Amazon SQS", but stricter in one point:
//! there an answer of a wrong shape may count as success, here it deletes nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use aws_sdk_sqs::types::Message;
use aws_sdk_sqs::types::MessageSystemAttributeName;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

use super::REGION;
use super::aws::LONG_POLL;
use super::aws::Queues;
use super::settings::random;
use crate::clock::time::Times;
use shared::base::clock::BusinessTime;

/// An event source mapping has several pollers for a FIFO queue; no two of them get the same
/// message group at once.
const POLLERS: usize = 4;
/// Pollers of the wake queue, as `template.yaml` limits them.
const WAKE_POLLERS: usize = 2;
/// More than any function needs here.
const INVOKE_LIMIT: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

#[derive(Clone)]
struct Pump {
    sqs: aws_sdk_sqs::Client,
    http: reqwest::Client,
    api: String,
    times: Times,
    log: Arc<File>,
}

/// Starts the pollers and the ticker.
pub(super) fn start(
    queues: &Queues,
    api: &str,
    times: Times,
    log: &Path,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let pump = Pump {
        sqs: queues.client.clone(),
        http: crate::http_client(INVOKE_LIMIT)?,
        api: api.to_owned(),
        times,
        log: Arc::new(File::create(log)?),
    };
    for _ in 0..POLLERS {
        tasks.spawn(pump.clone().poll(
            queues.stripe.clone(),
            "stripe-events",
            Answer::BatchItemFailures,
        ));
    }
    for _ in 0..WAKE_POLLERS {
        tasks.spawn(pump.clone().poll(
            queues.provisioning.clone(),
            "provisioning",
            Answer::AllOrNothing,
        ));
    }
    tasks.spawn(pump.clone().poll(queues.renewal.clone(), "renewal", Answer::AllOrNothing));
    tasks.spawn(pump.clone().tick("provisioning", TICK));
    tasks.spawn(pump.tick("renewal", HOUR));
    Ok(())
}

/// How a function reports which messages are done.
#[derive(Clone, Copy)]
enum Answer {
    /// `ReportBatchItemFailures` is on.
    BatchItemFailures,
    /// Any answer except an error means that all are done.
    AllOrNothing,
}

impl Pump {
    async fn poll(self, queue: String, function: &'static str, answer: Answer) {
        loop {
            if let Err(error) = self.poll_once(&queue, function, answer).await {
                self.note(&format!("{function}: {error:#}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn poll_once(&self, queue: &str, function: &str, answer: Answer) -> Result<()> {
        let wait = i32::try_from(LONG_POLL.as_secs())?;
        let receive = self
            .sqs
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(10)
            .wait_time_seconds(wait);
        let receive = receive
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All");
        let messages = receive.send().await.context("receive")?.messages.unwrap_or_default();
        if messages.is_empty() {
            return Ok(());
        }
        let records: Vec<Value> = messages.iter().map(|message| record(queue, message)).collect();
        let outcome = self.invoke(function, &json!({ "Records": records })).await?;
        let failed = match answer {
            Answer::BatchItemFailures => failures(&outcome, &messages)?,
            Answer::AllOrNothing => HashSet::new(),
        };
        self.note(&format!("{function}: {} messages, {} failed", messages.len(), failed.len()));
        let done = messages
            .iter()
            .filter(|message| !failed.contains(message.message_id().unwrap_or_default()));
        let entries: Vec<_> = done
            .enumerate()
            .map(|(index, message)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
                entry.receipt_handle(message.receipt_handle().unwrap_or_default()).build()
            })
            .collect::<Result<_, _>>()?;
        if !entries.is_empty() {
            self.sqs
                .delete_message_batch()
                .queue_url(queue)
                .set_entries(Some(entries))
                .send()
                .await
                .context("delete")?;
        }
        Ok(())
    }

    /// Invokes a function like a schedule of `template.yaml`, each time when it is due, even if the
    /// last invocation took long.
    async fn tick(self, function: &str, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        // The first tick comes at once, but the start has just invoked the function.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            // Whoever holds the time invokes the functions when they are due by it.
            let Ok(time @ BusinessTime::Ahead(_)) = self.times.read() else { continue };
            let event = json!({
                "version": "0", "id": random().unwrap_or_default(),
                "detail-type": "Scheduled Event", "source": "aws.scheduler",
                "account": "000000000000",
                "time": time.now().to_string(),
                "region": REGION,
                "resources": [format!(
                    "arn:aws:scheduler:{REGION}:000000000000:schedule/default/{function}"
                )],
                "detail": "{}",
            });
            match self.invoke(function, &event).await {
                Ok(summary) => self.note(&format!("{function}: tick {summary}")),
                Err(error) => self.note(&format!("{function}: tick: {error:#}")),
            }
        }
    }

    async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.api);
        let answer = self.http.post(url).json(event).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    fn note(&self, line: &str) {
        // A line that cannot be written must not stop the queue.
        let _ = writeln!(&*self.log, "{} {line}", shared::base::clock::Clock::system().now());
    }
}

/// The ids in a partial answer; anything except the documented shape is an error.
fn failures(answer: &Value, messages: &[Message]) -> Result<HashSet<String>> {
    let items = answer["batchItemFailures"]
        .as_array()
        .with_context(|| format!("no list batchItemFailures in {answer}"))?;
    let known: HashSet<&str> = messages.iter().filter_map(Message::message_id).collect();
    let id = |item: &Value| match item["itemIdentifier"].as_str() {
        Some(id) if known.contains(id) => Ok(id.to_owned()),
        _ => bail!("batchItemFailures names no message of the batch: {item}"),
    };
    items.iter().map(id).collect()
}

/// A message in Lambda's shape.
fn record(queue: &str, message: &Message) -> Value {
    let mut attributes = Map::new();
    for (name, value) in message.attributes.iter().flatten() {
        attributes.insert(name.as_str().to_owned(), json!(value));
    }
    let mut message_attributes = Map::new();
    for (name, value) in message.message_attributes.iter().flatten() {
        let value = json!({ "dataType": value.data_type(), "stringValue": value.string_value(),
        "stringListValues": [], "binaryListValues": [] });
        message_attributes.insert(name.clone(), value);
    }
    let name = queue.rsplit('/').next().unwrap_or_default();
    json!({
        "messageId": message.message_id(), "receiptHandle": message.receipt_handle(),
        "body": message.body(),
        "attributes": attributes, "messageAttributes": message_attributes,
        "md5OfBody": message.md5_of_body(),
        "eventSource": "aws:sqs", "eventSourceARN": format!(
            "arn:aws:sqs:{REGION}:000000000000:{name}"), "awsRegion": REGION,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        ["a", "b"]
            .into_iter()
            .map(|id| Message::builder().message_id(id).body("{}").build())
            .collect()
    }

    #[test]
    fn a_partial_answer_names_what_stays_on_the_queue() {
        let failed =
            failures(&json!({ "batchItemFailures": [{ "itemIdentifier": "b" }] }), &messages())
                .expect("the documented shape");
        assert_eq!(failed, HashSet::from(["b".to_owned()]));
        assert!(
            failures(&json!({ "batchItemFailures": [] }), &messages())
                .expect("the documented shape")
                .is_empty()
        );
    }

    #[test]
    fn an_answer_of_a_wrong_shape_deletes_nothing() {
        for wrong in [
            json!(null),
            json!({}),
            json!({ "batchItemFailures": null }),
            json!({ "batchItemFailures": [{ "itemIdentifier": "" }] }),
            json!({ "batchItemFailures": [{ "id": "a" }] }),
            json!({ "batchItemFailures": [{ "itemIdentifier": "c" }] }),
        ] {
            assert!(failures(&wrong, &messages()).is_err(), "{wrong}");
        }
    }
}
