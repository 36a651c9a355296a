//! Brings the database to this version's schema, as its owner, and lets the functions' roles log in with the passwords of their secrets.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::Result;
use shared::config::{self, DatabaseSettings, Env};
use shared::db::Db;
use shared::migrations;
use shared::secrets::{Role, Secrets};

/// What the function keeps between runs.
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
        let aws = config::aws().await;
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
