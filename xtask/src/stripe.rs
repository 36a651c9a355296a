//! `stripe send`: an event as Stripe would deliver it, from a file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Signs the event with the running stack's secret, posts it, and prints the answer.
pub async fn send(file: &Path, kind: Option<String>, state: Option<&Path>) -> Result<()> {
    let state = crate::stack::state_folder(state);
    let Some(env) = crate::dev::running(&state)? else { bail!("no stack runs: start one with `cargo xtask dev`") };
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut event: Value = serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    let fields = event.as_object_mut().with_context(|| format!("{} is not a JSON object", file.display()))?;
    let now = shared::clock::Clock::system().now().as_second();
    fields.insert("created".to_owned(), json!(now));
    if let Some(kind) = kind {
        fields.insert("type".to_owned(), json!(kind));
    }
    let body = event.to_string();
    let signature = shared::events::signature::sign(env.get("STRIPE_WEBHOOK_SECRET")?, now, body.as_bytes());
    let url = format!("{}/webhook/stripe", env.get("API_URL")?);
    let post = crate::http_client(Duration::from_secs(30))?.post(url).header("Stripe-Signature", signature);
    let answer = post.header("Content-Type", "application/json").body(body).send().await.context("the webhook does not answer")?;
    println!("{}", answer.status());
    println!("{}", answer.text().await?);
    Ok(())
}
