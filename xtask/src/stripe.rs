//! `stripe …`: sends an event as Stripe would, and does what an operator does with recorded
//! events.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use shared::base::caller::Person;
use shared::base::clock::Clock;
use shared::base::ids::StripeEventId;
use shared::db::Db;
use shared::outside::queue::Queue;
use shared::outside::secrets::Role;
use shared::outside::secrets::Secrets;
use shared::process::config::DatabaseSettings;

use crate::clock::time::Times;
use crate::dev::require_running;
use crate::stack::settings::Env;
use crate::stack::shared_config;
use crate::stack::state_folder;

/// Signs the event with the running stack's secret, posts it, and prints the answer.
pub(crate) async fn send(file: &Path, kind: Option<String>, state: Option<&Path>) -> Result<()> {
    let env = require_running(state)?;
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut event: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    let fields = event
        .as_object_mut()
        .with_context(|| format!("{} is not a JSON object", file.display()))?;
    fields.insert("created".to_owned(), json!(business_now(state)?.as_second()));
    if let Some(kind) = kind {
        fields.insert("type".to_owned(), json!(kind));
    }
    let body = event.to_string();
    let signature = shared::domain::events::signature::sign(
        env.get("STRIPE_WEBHOOK_SECRET")?,
        Clock::system().now().as_second(),
        body.as_bytes(),
    );
    let url = format!("{}/webhook/stripe", env.get("API_URL")?);
    let post = crate::http_client(Duration::from_secs(30))?
        .post(url)
        .header("Stripe-Signature", signature);
    let answer = post
        .header("Content-Type", "application/json")
        .body(body)
        .send()
        .await
        .context("the webhook did not answer")?;
    println!("{}", answer.status());
    println!("{}", answer.text().await?);
    Ok(())
}

/// The time of the running stack's business.
fn business_now(state: Option<&Path>) -> Result<Timestamp> {
    Ok(Times::of(&state_folder(state)).read()?.now())
}

/// The actor in the audit.
fn operator() -> Person {
    Person { id: "xtask".to_owned(), ip: None }
}

/// Puts a waiting or failed event on the queue again.
pub(crate) async fn replay(event: &str, state: Option<&Path>) -> Result<()> {
    let env = require_running(state)?;
    let id = StripeEventId::parse(event)?;
    shared::domain::events::operator::replay(
        &database(&env).await?,
        &queue(&env, "STRIPE_QUEUE_URL")?,
        &id,
        &operator(),
        business_now(state)?,
    )
    .await?;
    println!("{id} is on the queue again");
    Ok(())
}

/// Dismisses a waiting or failed event that needs no action.
pub(crate) async fn dismiss(event: &str, note: &str, state: Option<&Path>) -> Result<()> {
    let env = require_running(state)?;
    let id = StripeEventId::parse(event)?;
    shared::domain::events::operator::dismiss(
        &database(&env).await?,
        &id,
        note,
        &operator(),
        business_now(state)?,
    )
    .await?;
    println!("{id} is dismissed");
    Ok(())
}

/// Moves the dead letters back to the queue.
pub(crate) async fn redrive(state: Option<&Path>) -> Result<()> {
    let env = require_running(state)?;
    let moved = queue(&env, "STRIPE_DLQ_URL")?.redrive(&queue(&env, "STRIPE_QUEUE_URL")?).await?;
    println!("{moved} messages moved back");
    Ok(())
}

fn queue(env: &Env, name: &str) -> Result<Queue> {
    let aws =
        shared_config()?.into_builder().endpoint_url(env.get("AWS_ENDPOINT_URL_SQS")?).build();
    Ok(Queue::new(&aws, env.get(name)?.to_owned()))
}

/// The database as the functions use it: with their role, and the password from its secret.
async fn database(env: &Env) -> Result<Db> {
    let aws = shared_config()?
        .into_builder()
        .endpoint_url(env.get("AWS_ENDPOINT_URL_SECRETS_MANAGER")?)
        .build();
    let mut settings: HashMap<String, String> =
        env.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    settings.insert("DATABASE_SSLMODE".to_owned(), "disable".to_owned());
    let settings = shared::process::config::Env::of(settings);
    let secrets = Secrets::read(&aws, &settings, Role::System).await?;
    Ok(Db::new(DatabaseSettings::from_env(&settings)?, "pulse_system", secrets)?)
}
