//! Brings the database to this version's schema, as its owner, and lets the functions' roles log in
//! with the passwords of their secrets.
//!
//! A deployment requests it by a custom resource (`cloudformation`). Any other event requests it
//! too, and gets the function's result.

pub mod cloudformation;
pub mod migrations;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::base::error::Service;
use shared::base::ids::Currency;
use shared::db::Db;
use shared::outside::aws;
use shared::outside::secrets::{Role, Secrets};
use shared::process::config::{DatabaseSettings, Env, billing_currency};
use shared::{Error, Result};

use self::cloudformation::{ANSWER_LIMIT, Change, Deployment};

/// Does what the event requests in the time that the function has left. A deployment always gets
/// an answer, and a failure is then not an error of the function, because Lambda would retry it.
///
/// # Errors
/// Those of `Migrate` if no deployment waits; `Internal` if the deployment could not be answered.
pub async fn invoked(env: &Env, event: &Value, left: Duration) -> Result<Value> {
    let skipped = skipped_ids(event)?;
    let Some(deployment) = Deployment::of(event)? else { return migrate(env, skipped).await };
    let limit = left.saturating_sub(ANSWER_LIMIT);
    let outcome = match deployment.change {
        // The data stays when the stack is deleted.
        Change::Delete => Ok(json!({"applied": 0})),
        Change::Create | Change::Update => match tokio::time::timeout(limit, migrate(env, 0)).await
        {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::unavailable(
                Service::Database,
                format!("not migrated within {} s", limit.as_secs()),
            )),
        },
    };
    if let Err(error) = &outcome {
        tracing::error!(change = ?deployment.change, code = error.code(), %error,
        "migration failed");
    }
    deployment.answer(&outcome).await?;
    Ok(json!({"answered": outcome.is_ok()}))
}

async fn migrate(env: &Env, skipped: u32) -> Result<Value> {
    // Not at the function's start: a setting that is missing must be answered too. Boxed: the
    // compiler gives up on the nested future.
    Box::pin(async { Migrate::start(env).await?.handle(skipped).await }).await
}

/// How many subscription ids are never to be given: those that a restored database does not know,
/// and that customers have seen (docs/operations.md, "Restoring the database").
fn skipped_ids(event: &Value) -> Result<u32> {
    const FIELD: &str = "skip_subscription_ids";
    match &event[FIELD] {
        Value::Null => Ok(0),
        count => count
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| *count <= 1_000_000)
            .ok_or_else(|| Error::invalid(FIELD, "must be a whole number, at most 1000000")),
    }
}

/// One run.
pub struct Migrate {
    db: Db,
    roles: Vec<(&'static str, Arc<Secrets>)>,
    currency: Option<Currency>,
}

impl Migrate {
    /// Reads the settings and the secrets.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    pub async fn start(env: &Env) -> Result<Self> {
        let settings = DatabaseSettings::from_env(env)?;
        let owner = env.required("DATABASE_OWNER")?;
        let currency = billing_currency(env)?;
        let aws = aws::config(env)?;
        let secrets = Secrets::read(&aws, env, Role::Owner).await?;
        let mut roles = Vec::new();
        for role in [Role::System, Role::Operator, Role::Customer] {
            if let Some(user) = role.database_user() {
                roles.push((user, Secrets::read(&aws, env, role).await?));
            }
        }
        Ok(Self { db: Db::new(settings, owner, secrets)?, roles, currency })
    }

    /// Applies what is missing, and leaves out so many subscription ids. Repeating it is harmless.
    ///
    /// # Errors
    /// As `migrations::run`.
    pub async fn handle(&self, skipped_ids: u32) -> Result<Value> {
        let mut db = self.db.connection().await?;
        let applied = migrations::run(&mut db).await?;
        if let Some(currency) = &self.currency {
            migrations::set_default_currency(&db, currency).await?;
        }
        for (user, secrets) in &self.roles {
            migrations::set_password(&db, user, &secrets.database_password()?).await?;
        }
        migrations::skip_subscription_ids(&db, skipped_ids).await?;
        tracing::info!(applied, skipped_ids, "migrated");
        Ok(json!({"applied": applied}))
    }
}
