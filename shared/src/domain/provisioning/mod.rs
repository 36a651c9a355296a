//! Performs the outbox's steps: what must happen outside the database, committed with its cause and
//! done after it (docs/events.md, "Outbox").
//!
//! A step is claimed for a time, tried with no transaction open, and then recorded; its effect
//! outside must bear a repetition, because a worker may die between the two.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::base::fault;
use crate::base::fault::Point;
use crate::base::ids::{SubscriptionId, TenantId};
use crate::domain::audit::model::{Actor, Entry};
use crate::domain::events::Applier;
use crate::domain::flags::model::Flag;
use crate::domain::mails::MailOutcome;
use crate::domain::mails::model::MailKind;
use crate::domain::outbox::model::{AddonQuantity, StepKind, StripeCancel, StripeSync};
use crate::domain::outbox::store::Step;
use crate::domain::outbox::{model, store};
use crate::domain::{addons, audit, flags, mails};
use crate::outside::keycloak::{AccountChange, Keycloak, NewAccount};
use crate::outside::smtp::Mailer;
use crate::process::metrics;
use crate::process::metrics::Unit;
use crate::{Error, Result};

/// How long the database may take over one step's claim or record: a hung one must not hold the
/// worker for ever.
pub(crate) const RECORD_BUDGET: Duration = Duration::from_secs(10);

/// What the outbox needs.
pub struct Outbox {
    /// The database as `pulse_system`, Stripe and the time; what Stripe says is applied by it.
    pub applier: Applier,
    /// Where users live.
    pub keycloak: Keycloak,
    /// The way out for mails.
    pub mailer: Mailer,
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
pub(crate) struct Effect {
    result: Value,
    /// Its details are the result's fields but `to`: a mail address must not stand where nothing
    /// is ever deleted.
    audit: Option<&'static str>,
    /// Whose change it is, where it is one subscription's.
    subscription: Option<SubscriptionId>,
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
        // Until the mail server fails a mail for no fault of the mail's: the others would wait for
        // it as long, one by one, and logins behind them.
        let mut mails = true;
        while began.elapsed() < budget {
            let claimed = self
                .applier
                .db
                .bounded(RECORD_BUDGET, async {
                    store::claim_due(
                        &*self.applier.db.connection().await?,
                        mails,
                        self.applier.clock.now(),
                    )
                    .await
                })
                .await?;
            let Some(step) = claimed else { break };
            fault::point(Point::OutboxClaimed);
            match self.perform(&step).await {
                Ok(effect) => {
                    fault::point(Point::OutboxPerformed);
                    self.applier.db.bounded(RECORD_BUDGET, self.record_done(&step, effect)).await?;
                    fault::point(Point::OutboxCommitted);
                    summary.done += 1;
                }
                Err(error) => {
                    let again = self.next_attempt(&step, &error).is_some();
                    tracing::warn!(step.id = step.id, step.kind,
                        tenant.id = step.tenant.as_ref().map(TenantId::as_str),
                        attempts = step.attempts, again, %error, "outbox step failed");
                    self.applier
                        .db
                        .bounded(RECORD_BUDGET, self.record_error(&step, &error))
                        .await?;
                    mails &= step.kind != StepKind::Mail.as_str()
                        || !error.is_transient()
                        || self.mailer.is_connected();
                    if again { summary.retried += 1 } else { summary.failed += 1 }
                }
            }
        }
        Ok(summary)
    }

    async fn perform(&self, step: &Step) -> Result<Effect> {
        match StepKind::parse(&step.kind)? {
            StepKind::NewAccount => {
                let user: NewAccount = payload(step)?;
                let (id, ensured) =
                    self.keycloak.ensure_customer(&user, tenant(step)?, step.since).await?;
                let audit = match ensured {
                    AccountChange::Created => Some("USER_CREATED"),
                    AccountChange::Completed => Some("USER_UPDATED"),
                    AccountChange::Unchanged => None,
                };
                Ok(Effect { result: json!({"user_id": id}), audit, subscription: None })
            }
            StepKind::WelcomeMail => {
                let user = step.before.as_ref().and_then(|before| before["user_id"].as_str());
                let user = user
                    .ok_or_else(|| Error::Internal("the step before it left no user".to_owned()))?;
                self.keycloak.send_welcome_mail(user).await?;
                Ok(Effect {
                    result: json!({"user_id": user}),
                    audit: Some("WELCOME_EMAIL_SENT"),
                    subscription: None,
                })
            }
            StepKind::StripeCancel => {
                let cancel: StripeCancel = payload(step)?;
                self.applier.stripe.cancel_subscription(&cancel.stripe_subscription_id).await?;
                let result = json!({"status": "canceled"});
                Ok(Effect {
                    result,
                    audit: Some("STRIPE_SUBSCRIPTION_CANCELLED"),
                    subscription: Some(cancel.subscription_id),
                })
            }
            StepKind::StripeSync => {
                let sync: StripeSync = payload(step)?;
                if !self.applier.catch_up(&sync.stripe_subscription_id).await? {
                    return Err(Error::Internal(format!(
                        "{} is no subscription of ours",
                        sync.stripe_subscription_id
                    )));
                }
                // What it changed is audited by itself.
                Ok(Effect { result: json!({"status": "applied"}), audit: None, subscription: None })
            }
            StepKind::StripeAddonQuantity => {
                let AddonQuantity { subscription_id } = payload(step)?;
                self.applier.pace().await?;
                let done = addons::quantity::set(
                    &self.applier.db,
                    &self.applier.stripe,
                    &subscription_id,
                    &format!("addon_quantity:{}:{}", step.id, step.claim),
                )
                .await?;
                let audit = done.is_some().then_some("STRIPE_ADDON_QUANTITY_SET");
                Ok(Effect {
                    result: done.unwrap_or_else(|| json!({"items": []})),
                    audit,
                    subscription: Some(subscription_id),
                })
            }
            StepKind::Mail => Ok(
                match mails::send(
                    &self.applier.db,
                    &self.mailer,
                    &step.payload,
                    self.applier.clock.now(),
                )
                .await?
                {
                    MailOutcome::Sent { message_id, to, about } => {
                        let (kind, subscription) = about.unzip();
                        let result = json!({"sent": true, "mail": kind.unwrap_or(MailKind::Digest),
                            "message_id": message_id, "to": to});
                        Effect { result, audit: kind.map(|_| "MAIL_SENT"), subscription }
                    }
                    MailOutcome::Overtaken => Effect {
                        result: json!({"sent": false, "skipped": "overtaken"}),
                        audit: None,
                        subscription: None,
                    },
                    MailOutcome::NoAddress => Effect {
                        result: json!({"sent": false, "skipped": "no_address"}),
                        audit: None,
                        subscription: None,
                    },
                },
            ),
        }
    }

    async fn record_done(&self, step: &Step, effect: Effect) -> Result<()> {
        let now = self.applier.clock.now();
        let mut db = self.applier.db.connection().await?;
        let tx = db.transaction().await?;
        if !store::finish(&tx, step, &effect.result, now).await? {
            return Ok(());
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
        tx.commit().await?;
        Ok(())
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
        let mut db = self.applier.db.connection().await?;
        let tx = db.transaction().await?;
        if store::fail(&tx, step, &error.to_string(), next, now).await? && next.is_none() {
            let detail = format!("outbox step {} ({}): {error}", step.id, step.kind);
            flags::store::raise(
                &tx,
                &Flag {
                    kind: "step_failed",
                    tenant: step.tenant.as_ref(),
                    subscription: None,
                    stripe_event: None,
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

pub(crate) fn payload<T: DeserializeOwned>(step: &Step) -> Result<T> {
    T::deserialize(&step.payload).map_err(|error| Error::Internal(format!("payload: {error}")))
}

pub(crate) fn tenant(step: &Step) -> Result<&TenantId> {
    step.tenant.as_ref().ok_or_else(|| Error::Internal("the step is of no tenant".to_owned()))
}
