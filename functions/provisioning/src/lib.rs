//! The outbox's worker: woken after a commit that left steps, and every minute (docs/events.md,
//! "Outbox").

use std::sync::Arc;
use std::time::Duration;

use shared::Result;
use shared::base::clock::Clock;
use shared::db::Db;
use shared::domain::events::Applier;
use shared::domain::provisioning::{Outbox, Summary};
use shared::outside::aws;
use shared::outside::keycloak::Keycloak;
use shared::outside::secrets::{Role, Secrets};
use shared::outside::smtp::Mailer;
use shared::outside::stripe::Stripe;
use shared::process::config;
use shared::process::config::{DatabaseSettings, Env, KeycloakSettings, SmtpSettings};

/// How long a run begins new steps. The function's time-out in template.yaml leaves room for the
/// last step's own time-outs.
const BUDGET: Duration = Duration::from_secs(40);

/// What the function keeps between runs.
pub struct Provisioning {
    /// Performs the steps.
    pub outbox: Outbox,
}

impl Provisioning {
    /// Reads the settings and the secret.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    pub async fn start(env: &Env, clock: Clock) -> Result<Self> {
        let settings = DatabaseSettings::from_env(env)?;
        let keycloak = KeycloakSettings::from_env(env)?;
        let has_organizations = config::has_organizations(env)?;
        let smtp = SmtpSettings::from_env(env)?;
        let stripe = config::stripe_api_base(env)?;
        let secrets = Secrets::read(&aws::config(env)?, env, Role::System).await?;
        let db = Arc::new(Db::new(settings, "pulse_system", secrets.clone())?);
        let reads_per_second = config::stripe_reads_per_second(env)?;
        let keycloak = Keycloak::new(keycloak, secrets.clone())?;
        let mailer = Mailer::new(smtp, secrets.clone())?;
        let applier =
            Applier { db, stripe: Stripe::new(stripe, secrets)?, reads_per_second, clock };
        Ok(Self { outbox: Outbox { applier, keycloak, has_organizations, mailer } })
    }

    /// Performs the steps that are due, and applies the events that need not wait any longer. It
    /// does not matter what woke it.
    ///
    /// # Errors
    /// Those of the database; a step's own error is recorded in the step.
    pub async fn handle(&self) -> Result<Summary> {
        let summary = self.outbox.run(BUDGET).await?;
        // If this fails, the next run tries again in a minute; the steps are done.
        match self.outbox.applier.take_up_waiting().await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "waiting events taken up"),
            Err(error) => tracing::warn!(%error, "waiting events could not be taken up"),
        }
        tracing::info!(
            done = summary.done,
            retried = summary.retried,
            failed = summary.failed,
            "outbox run"
        );
        Ok(summary)
    }
}
