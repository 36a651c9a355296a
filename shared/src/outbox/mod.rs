//! The outbox: what must happen outside the database, committed with its cause and done after it (docs/events.md, "Outbox").
//!
//! A step is claimed for a time, tried with no transaction open, and then recorded; its effect outside must bear a repetition, because
//! a worker may die between the two.

pub mod model;
pub(crate) mod store;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::audit::{self, Actor, Entry, Person};
use crate::clock::Clock;
use crate::db::Db;
use crate::fault::{self, Point};
use crate::flags::{self, Flag};
use crate::ids::TenantId;
use crate::keycloak::{Ensured, Keycloak};
use crate::{Error, Result};
use deadpool_postgres::Transaction;
use model::KeycloakUser;
use store::Step;

/// How long the database may take over one step's claim or record: a hung one must not hold the worker for ever.
const RECORD_BUDGET: Duration = Duration::from_secs(10);

/// What the outbox needs.
pub struct Outbox {
    /// As `pulse_system`.
    pub db: Db,
    /// Where users live.
    pub keycloak: Keycloak,
    /// The time.
    pub clock: Clock,
}

/// One run, in numbers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Steps done.
    pub done: u32,
    /// Steps that will be tried again.
    pub retried: u32,
    /// Steps that wait for a person.
    pub failed: u32,
}

/// A step's effect, for its row and the audit.
struct Effect {
    result: Value,
    audit: Option<&'static str>,
}

impl Outbox {
    /// Takes steps that are due until none is left, or `budget` is used up; the rest is for the next run.
    ///
    /// # Errors
    /// `Database` or `Upstream` of the database; a step's own error is recorded with the step.
    pub async fn run(&self, budget: Duration) -> Result<Summary> {
        let began = Instant::now();
        let mut summary = Summary::default();
        while began.elapsed() < budget {
            let claimed = self.db.bounded(RECORD_BUDGET, async { store::claim_due(&*self.db.connection().await?, self.clock.now()).await }).await?;
            let Some(step) = claimed else { break };
            fault::point(Point::OutboxClaimed);
            match self.perform(&step).await {
                Ok(effect) => {
                    fault::point(Point::OutboxPerformed);
                    self.db.bounded(RECORD_BUDGET, self.record_done(&step, effect)).await?;
                    fault::point(Point::OutboxCommitted);
                    summary.done += 1;
                }
                Err(error) => {
                    let again = self.next_attempt(&step, &error).is_some();
                    tracing::warn!(step.id = step.id, step.kind, tenant.id = %step.tenant, attempts = step.attempts, again, %error, "outbox step failed");
                    self.db.bounded(RECORD_BUDGET, self.record_error(&step, &error)).await?;
                    if again { summary.retried += 1 } else { summary.failed += 1 }
                }
            }
        }
        Ok(summary)
    }

    async fn perform(&self, step: &Step) -> Result<Effect> {
        match step.kind.as_str() {
            "keycloak_user" => {
                let user: KeycloakUser = serde_json::from_value(step.payload.clone()).map_err(|error| Error::Internal(format!("payload: {error}")))?;
                let (id, ensured) = self.keycloak.ensure_customer(&user, &step.tenant, step.since).await?;
                let audit = match ensured {
                    Ensured::Created => Some("USER_CREATED"),
                    Ensured::Completed => Some("USER_UPDATED"),
                    Ensured::Unchanged => None,
                };
                Ok(Effect { result: json!({"user_id": id}), audit })
            }
            "welcome_mail" => {
                let user = step.before.as_ref().and_then(|before| before["user_id"].as_str());
                let user = user.ok_or_else(|| Error::Internal("the step before it left no user".to_owned()))?;
                self.keycloak.send_welcome_mail(user).await?;
                Ok(Effect { result: json!({"user_id": user}), audit: Some("WELCOME_EMAIL_SENT") })
            }
            other => Err(Error::Internal(format!("steps of kind {other:?} are not handled yet"))),
        }
    }

    async fn record_done(&self, step: &Step, effect: Effect) -> Result<()> {
        let now = self.clock.now();
        let mut db = self.db.connection().await?;
        let tx = db.transaction().await?;
        if !store::finish(&tx, step, &effect.result, now).await? {
            return Ok(());
        }
        if let Some(event_type) = effect.audit {
            let entry = Entry { tenant: Some(&step.tenant), details: Some(effect.result), ..Entry::new(event_type, Actor::Outbox, now) };
            audit::store::insert(&tx, &entry).await?;
        }
        fault::point(Point::OutboxRecorded);
        tx.commit().await?;
        Ok(())
    }

    /// When to try again: never after a permanent error, nor once the step has been tried for long enough.
    fn next_attempt(&self, step: &Step, error: &Error) -> Option<Timestamp> {
        let next = self.clock.now() + model::backoff(step.attempts);
        (error.is_transient() && next < step.since + model::GIVE_UP_AFTER).then_some(next)
    }

    async fn record_error(&self, step: &Step, error: &Error) -> Result<()> {
        let now = self.clock.now();
        let next = self.next_attempt(step, error);
        let mut db = self.db.connection().await?;
        let tx = db.transaction().await?;
        if store::fail(&tx, step, &error.to_string(), next, now).await? && next.is_none() {
            let detail = format!("outbox step {} ({}): {error}", step.id, step.kind);
            flags::store::raise(&tx, &Flag { kind: "step_failed", tenant: Some(&step.tenant), subscription: None, stripe_event: None, detail }, now).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Has an unfinished step tried at the next run, for another 72 hours, and with another mail address where one is given.
///
/// # Errors
/// `Conflict` (`no_open_step`) where there is no such step, or it is done or dismissed.
pub async fn retry(db: &Db, step: i64, email: Option<&str>, operator: &Person, now: Timestamp) -> Result<()> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let changed = store::retry(&tx, step, email, now).await?;
    let details = json!({"step_id": step, "email_changed": email.is_some()});
    record_operation(tx, "PROVISIONING_RETRIED", changed, details, operator, now).await
}

/// Ends an unfinished step, and what waits for it, undone.
///
/// # Errors
/// As `retry`.
pub async fn dismiss(db: &Db, step: i64, note: &str, operator: &Person, now: Timestamp) -> Result<()> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let changed = store::dismiss(&tx, step, now).await?;
    record_operation(tx, "PROVISIONING_DISMISSED", changed, json!({"step_id": step, "note": note}), operator, now).await
}

async fn record_operation(
    tx: Transaction<'_>,
    event_type: &'static str,
    changed: Option<(TenantId, Value)>,
    details: Value,
    operator: &Person,
    now: Timestamp,
) -> Result<()> {
    let Some((tenant, previous)) = changed else {
        return Err(Error::conflict("no_open_step", format!("there is no unfinished outbox step {}", details["step_id"])));
    };
    let entry =
        Entry { tenant: Some(&tenant), previous_state: Some(previous), details: Some(details), ..Entry::new(event_type, Actor::Operator(operator), now) };
    audit::store::insert(&tx, &entry).await?;
    tx.commit().await?;
    Ok(())
}
