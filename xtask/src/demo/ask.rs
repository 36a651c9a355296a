//! How the demo asks, and waits for what comes of it.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

/// Sends the request; returns the JSON of a success, or an error with the text of a failure.
pub(super) async fn answer(request: reqwest::RequestBuilder) -> Result<Value> {
    let answer = request.send().await?;
    let (url, status, body) = (answer.url().clone(), answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{url} answered {status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("{url} did not answer with JSON"))
}

pub(super) fn text<'v>(value: &'v Value, field: &str) -> Result<&'v str> {
    value[field].as_str().with_context(|| format!("no {field} in {value}"))
}

/// Polls until there is a result, for longer than the minute after which the outbox runs again.
pub(super) async fn wait<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let limit = Duration::from_secs(100);
    let start = Instant::now();
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        ensure!(
            start.elapsed() < limit,
            "waited {} s for {what}; see the logs of webhook, stripe-events, provisioning and the \
             pump",
            limit.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
