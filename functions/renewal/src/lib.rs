//! The hourly run: by EventBridge's schedule, or by a message if an operator requests one
//! (docs/renewals.md).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use shared::base::clock::Clock;
use shared::db::Db;
use shared::domain::events::Applier;
use shared::domain::renewals::Renewal;
use shared::domain::renewals::model::RunOptions;
use shared::domain::renewals::summary::Summary;
use shared::outside::aws;
use shared::outside::queue::Queue;
use shared::outside::secrets::{Role, Secrets};
use shared::outside::stripe::Stripe;
use shared::process::config;
use shared::process::config::{DatabaseSettings, Env};
use shared::{Error, Result};

/// How long a run begins new work. What it does then ends well before the function's time-out in
/// template.yaml.
const BUDGET: Duration = Duration::from_mins(12);

/// What the function keeps between runs.
pub struct Renewals {
    /// Does the runs.
    pub renewal: Renewal,
}

/// An event: the schedule's, which has none of these fields; an operator's; or queue messages whose
/// bodies are such events.
#[derive(Deserialize)]
struct Event {
    as_of: Option<String>,
    #[serde(default)]
    dry_run: bool,
    requested_by: Option<String>,
    #[serde(default, rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    body: String,
}

impl Renewals {
    /// Reads the settings and the secret.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    pub async fn start(env: &Env, clock: Clock) -> Result<Self> {
        let settings = DatabaseSettings::from_env(env)?;
        let stripe = config::stripe_api_base(env)?;
        let queue = config::queue_url(env, "STRIPE_QUEUE_URL")?;
        let has_organizations = config::has_organizations(env)?;
        let may_rehearse = config::is_rehearsal(env)?;
        let aws = aws::config(env)?;
        let secrets = Secrets::read(&aws, env, Role::System).await?;
        let db = Arc::new(Db::new(settings, "pulse_system", secrets.clone())?);
        let reads_per_second = config::stripe_reads_per_second(env)?;
        let applier =
            Applier { db, stripe: Stripe::new(stripe, secrets)?, reads_per_second, clock };
        let queue = Queue::new(&aws, queue);
        Ok(Self { renewal: Renewal { applier, queue, has_organizations, may_rehearse } })
    }

    /// Does one run. Several requests at once get one run.
    ///
    /// # Errors
    /// `Invalid` of the event, naming the field; those of `Renewal::run`.
    pub async fn handle(&self, event: Value) -> Result<Summary> {
        let summary = self.renewal.run(&asked(event)?, BUDGET).await?;
        let summary_text =
            serde_json::to_string(&summary).map_err(|error| Error::Internal(error.to_string()))?;
        tracing::info!(
            run = summary.run_id,
            dry_run = summary.dry_run,
            duration_ms = summary.duration_ms,
            summary = summary_text,
            "renewal run"
        );
        Ok(summary)
    }
}

fn asked(event: Value) -> Result<RunOptions> {
    let read = |value: Value| {
        serde_json::from_value::<Event>(value)
            .map_err(|error| Error::malformed("malformed_event", error.to_string()))
    };
    let mut event = read(event)?;
    if let Some(record) = event.records.pop() {
        let body = serde_json::from_str(&record.body)
            .map_err(|error| Error::malformed("malformed_event", error.to_string()))?;
        event = read(body)?;
    }
    let instant = |text: String| {
        text.parse::<Timestamp>()
            .map_err(|_| Error::invalid("as_of", "is no instant, such as 2027-01-01T00:00:00Z"))
    };
    Ok(RunOptions {
        dry_run: event.dry_run,
        as_of: event.as_of.map(instant).transpose()?,
        requested_by: event.requested_by,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_a_person_and_a_message_ask_for_a_run() {
        let schedule = json!({"version": "0", "detail-type": "Scheduled Event",
            "time": "2026-11-21T20:00:00Z", "detail": "{}"});
        assert_eq!(asked(schedule).expect("read"), RunOptions::default());
        let person =
            asked(json!({"as_of": "2027-01-01T00:00:00Z", "dry_run": true})).expect("read");
        assert_eq!(
            person,
            RunOptions {
                dry_run: true,
                as_of: "2027-01-01T00:00:00Z".parse().ok(),
                requested_by: None
            }
        );
        let message =
            asked(json!({"Records": [{"body": "{\"requested_by\":\"op-1\"}"}]})).expect("read");
        assert_eq!(message.requested_by.as_deref(), Some("op-1"));
        assert_eq!(
            asked(json!({"as_of": "tomorrow"})).expect_err("refused").to_string(),
            "as_of is no instant, such as 2027-01-01T00:00:00Z"
        );
        assert_eq!(
            asked(json!({"dry_run": "yes"})).expect_err("refused").code(),
            "malformed_event"
        );
    }
}
