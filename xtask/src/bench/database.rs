//! A database of the benchmark's own beside the stack's: migrated, seeded, and filled as a fleet of a size.

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config};

use crate::stack::settings::Env;
use crate::stack::{connect, root};

/// The instant that the fleet is filled for.
pub const FILLED_AT: &str = "2026-03-01T00:00:00Z";

/// A database of so many subscriptions, dropped by `drop`.
pub struct Fleet {
    /// As the owner.
    pub db: Client,
    /// Its name.
    pub name: String,
    /// How many subscriptions, of as many tenants.
    pub rows: i32,
    config: Config,
}

impl Fleet {
    /// Makes it anew.
    pub async fn new(env: &Env, rows: i32) -> Result<Self> {
        let config: Config = env.get("DATABASE_URL")?.parse()?;
        let name = format!("bench_{rows}");
        let maintenance = connect(&config).await?;
        maintenance.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        maintenance.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let mut db = connect(config.clone().dbname(&name)).await?;
        shared::migrations::run(&mut db).await.context("migrations")?;
        db.batch_execute(&std::fs::read_to_string(root().join("xtask/stack/dev-seed.sql"))?).await?;
        for (number, statement) in include_str!("fill.sql").split(";\n").filter(|statement| !statement.trim().is_empty()).enumerate() {
            let statement = statement.replace(":rows", &rows.to_string()).replace(":now", &format!("timestamptz '{FILLED_AT}'"));
            db.batch_execute(&statement).await.with_context(|| format!("statement {number} of fill.sql"))?;
        }
        Ok(Self { db, name, rows, config })
    }

    /// Drops it.
    pub async fn drop(self) -> Result<()> {
        connect(&self.config).await?.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await?;
        Ok(())
    }
}
