//! The custom resource of template.yaml that migrates at a deployment: CloudFormation sends an
//! event, and waits for the answer at a URL (AWS's "Custom resource request objects" and "…
//! response objects").

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::process::tls;
use shared::{Error, Result};

/// An answer larger than 4096 bytes is refused.
const REASON_LENGTH: usize = 2_000;

/// How many attempts an answer has: without one the deployment waits until its own time-out.
const TRIES: u64 = 4;

/// The longest that one attempt may take.
const TRY_LIMIT: Duration = Duration::from_secs(4);

/// The time that all attempts may take, with the pauses between them.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(24);

/// What a deployment does with the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Change {
    /// The stack is new.
    Create,
    /// Its migrations changed: forward, or back in a roll-back.
    Update,
    /// The stack is deleted, or its creation is rolled back.
    Delete,
}

/// A deployment that waits for an answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Deployment {
    /// What it does.
    #[serde(rename = "RequestType")]
    pub change: Change,
    #[serde(rename = "ResponseURL")]
    response_url: String,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
}

impl Deployment {
    /// The request in an event; `None` if the event is not of a deployment.
    ///
    /// # Errors
    /// `Malformed` if only a part of one is there.
    pub fn of(event: &Value) -> Result<Option<Self>> {
        if event.get("ResponseURL").is_none() {
            return Ok(None);
        }
        // The URL is a permission to write: it stays out of the message.
        Self::deserialize(event).map(Some).map_err(|_| {
            Error::malformed("malformed_event", "a custom resource's request that lacks a member")
        })
    }

    /// Reports the outcome to CloudFormation.
    ///
    /// # Errors
    /// `Internal` if every attempt failed.
    pub async fn answer(&self, outcome: &Result<Value>) -> Result<()> {
        let body = self.body(outcome).to_string();
        let http = tls::http_client(Duration::from_secs(3), TRY_LIMIT)?;
        let mut last = String::new();
        for attempt in 0..TRIES {
            tokio::time::sleep(Duration::from_secs(attempt)).await;
            // The URL is signed for a request without content type.
            let sent = http
                .put(&self.response_url)
                .header("content-type", "")
                .body(body.clone())
                .send()
                .await;
            last = match sent.and_then(reqwest::Response::error_for_status) {
                Ok(_) => return Ok(()),
                Err(error) => error.without_url().to_string(),
            };
            tracing::warn!(attempt, error = last, "CloudFormation did not take the answer");
        }
        Err(Error::Internal(format!("CloudFormation did not take the answer: {last}")))
    }

    fn body(&self, outcome: &Result<Value>) -> Value {
        let (status, reason, data) = match outcome {
            Ok(data) => ("SUCCESS", String::new(), data.clone()),
            Err(error) => {
                ("FAILED", error.to_string().chars().take(REASON_LENGTH).collect(), json!({}))
            }
        };
        json!({
            "Status": status, "Reason": reason, "Data": data,
            // Always the same: if it changed, CloudFormation would delete the old resource.
            "PhysicalResourceId": "migrations",
            "StackId": self.stack_id, "RequestId": self.request_id,
            "LogicalResourceId": self.logical_resource_id,
        })
    }
}
