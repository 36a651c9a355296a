//! Performs the outbox's steps: what must happen outside the database, committed with its cause and
//! done after it (docs/events.md, "Outbox").
//!
//! A worker claims a step under a lease, performs it with no transaction open, and records it. The
//! effect outside must be idempotent, because a worker may die before it records.

mod payload;
mod perform;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tracing::Instrument as _;

use self::perform::Effect;
use crate::base::fault;
use crate::base::fault::Point;
use crate::base::ids::{StripeEventId, TenantId};
use crate::db::wrote_null;
use crate::domain::audit;
use crate::domain::audit::model::{Actor, Entry};
use crate::domain::events::Applier;
use crate::domain::flags;
use crate::domain::flags::model::{About, Flag, FlagKind};
use crate::domain::outbox::model::{MailLane, StepKind};
use crate::domain::outbox::store::Step;
use crate::domain::outbox::{model, store};
use crate::domain::usage;
use crate::outside::keycloak::Keycloak;
use crate::outside::smtp::Mailer;
use crate::process::metrics;
use crate::process::metrics::Unit;
use crate::{Error, Result};

/// How long one step's claim or record may take in the database: a hung one must not block the
/// worker for ever.
const RECORD_BUDGET: Duration = Duration::from_secs(10);

/// What the outbox needs.
pub struct Outbox {
    /// The database as `pulse_system`, Stripe and the clock; it performs syncs.
    pub applier: Applier,
    /// The store of users.
    pub keycloak: Keycloak,
    /// Whether tenants are organizations in it.
    pub has_organizations: bool,
    /// The client of the mail server.
    pub mailer: Mailer,
}

/// One run, in numbers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Steps done.
    pub done: u32,
    /// Steps that will be tried again.
    pub retried: u32,
    /// Steps that wait for an operator.
    pub failed: u32,
}

impl Outbox {
    /// Takes steps that are due until none is left, or `budget` is used up; the rest is for the
    /// next run.
    ///
    /// # Errors
    /// `Database` or `Upstream` of the database; a step's own error is recorded with the step.
    pub async fn run(&self, budget: Duration) -> Result<Summary> {
        let summary = self.take_steps(budget).await;
        self.mailer.rest().await;
        summary
    }

    async fn take_steps(&self, budget: Duration) -> Result<Summary> {
        let began = Instant::now();
        let mut summary = Summary::default();
        let mut lane = MailLane::Open;
        while began.elapsed() < budget {
            let claimed = self
                .applier
                .db
                .bounded(RECORD_BUDGET, async {
                    // In a transaction: what arrives at the database after its worker has given up
                    // claims nothing.
                    let tx = self.applier.db.begin().await?;
                    let step = store::claim_due(&tx, lane, self.applier.clock.now()).await?;
                    tx.commit().await?;
                    Ok(step)
                })
                .await?;
            let Some(step) = claimed else { break };
            fault::point(Point::OutboxClaimed);
            let span = tracing::info_span!(
                "step",
                step.id = step.id,
                step.kind = step.kind.as_str(),
                attempt = step.attempts,
                tenant.id = step.tenant.as_ref().map(TenantId::as_str),
                stripe.event_id = step.stripe_event.as_ref().map(StripeEventId::as_str)
            );
            self.take(&step, &mut summary, &mut lane).instrument(span).await?;
        }
        Ok(summary)
    }

    /// Performs a claimed step, and records what came of it.
    async fn take(&self, step: &Step, summary: &mut Summary, lane: &mut MailLane) -> Result<()> {
        let error = match self.perform(step).await {
            Ok(effect) => {
                fault::point(Point::OutboxPerformed);
                self.applier.db.bounded(RECORD_BUDGET, self.record_done(step, effect)).await?;
                fault::point(Point::OutboxCommitted);
                tracing::info!("outbox step done");
                summary.done += 1;
                return Ok(());
            }
            Err(error) => error,
        };
        let again = self.next_attempt(step, &error).is_some();
        tracing::warn!(again, code = error.code(), %error, "outbox step failed");
        self.applier.db.bounded(RECORD_BUDGET, self.record_error(step, &error)).await?;
        // The mail server failed a mail through no fault of the mail. Each other mail would wait
        // for it as long, and logins behind them.
        if step.kind == StepKind::Mail && error.is_transient() && !self.mailer.is_connected() {
            *lane = MailLane::Resting;
        }
        if again {
            summary.retried += 1;
        } else {
            summary.failed += 1;
        }
        Ok(())
    }

    async fn record_done(&self, step: &Step, effect: Effect) -> Result<()> {
        match self.try_record_done(step, effect).await {
            // The claim is void: what another worker made of it counts.
            Err(error) if wrote_null(&error, "outbox_steps") => Ok(()),
            recorded => recorded,
        }
    }

    async fn try_record_done(&self, step: &Step, effect: Effect) -> Result<()> {
        let now = self.applier.clock.now();
        let tx = self.applier.db.begin().await?;
        store::finish(&tx, step, &effect.result, now).await?;
        if step.is_again {
            let (subject, failed) = (step.id.to_string(), [FlagKind::StepFailed]);
            let note = "The step is done";
            flags::settle(&tx, &failed, About::Subject(&subject), note, Actor::Outbox, now).await?;
        }
        if let (Some(tenant), Some(users)) = (&step.tenant, &effect.users) {
            usage::record_users(&tx, tenant, users, now).await?;
        }
        // Of its organization too.
        if step.kind == StepKind::NewAccount
            && let Some(tenant) = &step.tenant
        {
            store::insert_organization(&tx, tenant, now).await?;
        }
        if let Some(event_type) = effect.audit {
            let mut details = effect.result;
            details.as_object_mut().and_then(|details| details.remove("to"));
            let entry = Entry {
                tenant: step.tenant.as_ref(),
                subscription: effect.subscription.as_ref(),
                details: Some(details),
                ..Entry::new(event_type, Actor::Outbox, now)
            };
            audit::store::insert(&tx, &entry).await?;
        }
        fault::point(Point::OutboxRecorded);
        tx.commit().await
    }

    /// When to try again: never after a permanent error, nor once the step has been tried for long
    /// enough.
    fn next_attempt(&self, step: &Step, error: &Error) -> Option<Timestamp> {
        let next = self.applier.clock.now() + model::backoff(step.attempts);
        (error.is_transient() && next < step.since + model::GIVE_UP_AFTER).then_some(next)
    }

    async fn record_error(&self, step: &Step, error: &Error) -> Result<()> {
        let now = self.applier.clock.now();
        let next = self.next_attempt(step, error);
        let tx = self.applier.db.begin().await?;
        if store::fail(&tx, step, &error.to_string(), next, now).await? && next.is_none() {
            let detail = format!("outbox step {} ({}): {error}", step.id, step.kind.as_str());
            flags::store::raise(
                &tx,
                &Flag {
                    kind: FlagKind::StepFailed.into(),
                    tenant: step.tenant.as_ref(),
                    subscription: None,
                    stripe_event: None,
                    subject: Some(step.id.to_string()),
                    detail,
                },
                now,
            )
            .await?;
            metrics::put("StepsFailed", Unit::Count, 1);
        }
        tx.commit().await?;
        Ok(())
    }
}
