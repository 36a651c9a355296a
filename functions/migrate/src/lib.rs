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
use shared::db::Db;
use shared::outside::aws;
use shared::outside::secrets::{Role, Secrets};
use shared::process::config::{DatabaseSettings, Env};
use shared::{Error, Result};

use self::cloudformation::{ANSWER_LIMIT, Change, Deployment};

/// Does what the event requests in the time that the function has left. A deployment always gets
/// an answer, and a failure is then not an error of the function, because Lambda would retry it.
///
/// # Errors
/// Those of `Migrate` if no deployment waits; `Internal` if the deployment could not be answered.
pub async fn invoked(env: &Env, event: &Value, left: Duration) -> Result<Value> {
    let Some(deployment) = Deployment::of(event)? else { return migrate(env).await };
    let limit = left.saturating_sub(ANSWER_LIMIT);
    let outcome = match deployment.change {
        // The data stays when the stack is deleted.
        Change::Delete => Ok(json!({"applied": 0})),
        Change::Create | Change::Update => match tokio::time::timeout(limit, migrate(env)).await {
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

async fn migrate(env: &Env) -> Result<Value> {
    // Not at the function's start: a setting that is missing must be answered too. Boxed: the
    // compiler gives up on the nested future.
    Box::pin(async { Migrate::start(env).await?.handle().await }).await
}

/// One run.
pub struct Migrate {
    db: Db,
    roles: Vec<(&'static str, Arc<Secrets>)>,
}

impl Migrate {
    /// Reads the settings and the secrets.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    pub async fn start(env: &Env) -> Result<Self> {
        let settings = DatabaseSettings::from_env(env)?;
        let owner = env.required("DATABASE_OWNER")?;
        let aws = aws::config(env)?;
        let secrets = Secrets::read(&aws, env, Role::Owner).await?;
        let mut roles = Vec::new();
        for role in [Role::System, Role::Operator, Role::Customer] {
            if let Some(user) = role.database_user() {
                roles.push((user, Secrets::read(&aws, env, role).await?));
            }
        }
        Ok(Self { db: Db::new(settings, owner, secrets)?, roles })
    }

    /// Applies what is missing. Repeating it is harmless.
    ///
    /// # Errors
    /// As `migrations::run`.
    pub async fn handle(&self) -> Result<Value> {
        let mut db = self.db.connection().await?;
        let applied = migrations::run(&mut db).await?;
        for (user, secrets) in &self.roles {
            migrations::set_password(&db, user, &secrets.database_password()?).await?;
        }
        tracing::info!(applied, "migrated");
        Ok(json!({"applied": applied}))
    }
}
