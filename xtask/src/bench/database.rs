//! A database of the benchmark on the stack's server: migrated, seeded, and filled with a fleet of
//! a given size.

use anyhow::Context;
use anyhow::Result;
use tokio_postgres::Client;
use tokio_postgres::Config;

use crate::stack::connect;
use crate::stack::root;
use crate::stack::settings::Env;

/// The instant that the fleet is filled for.
pub(super) const FILLED_AT: &str = "2026-03-01T00:00:00Z";

/// A database with a fleet of subscriptions, which `drop` drops.
pub(super) struct Fleet {
    /// A connection as the owner.
    pub db: Client,
    /// The database's name.
    pub name: String,
    /// The number of subscriptions, and of tenants.
    pub rows: i32,
    config: Config,
}

impl Fleet {
    /// Creates the database; drops an older one of this name.
    pub(super) async fn new(env: &Env, rows: i32) -> Result<Self> {
        let config: Config = env.get("DATABASE_URL")?.parse()?;
        let name = format!("bench_{rows}");
        let maintenance = connect(&config).await?;
        maintenance.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        maintenance.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let mut db = connect(config.clone().dbname(&name)).await?;
        migrate::migrations::run(&mut db).await.context("migrations")?;
        db.batch_execute(&std::fs::read_to_string(root().join("xtask/stack/dev-seed.sql"))?)
            .await?;
        let fleet = Self { db, name, rows, config };
        fleet.run(include_str!("fill.sql")).await?;
        Ok(fleet)
    }

    /// Runs a script, with the fleet's size as `:rows` and the instant it is filled for as `:now`.
    pub(super) async fn run(&self, script: &str) -> Result<()> {
        for (number, statement) in
            script.split(";\n").filter(|statement| !statement.trim().is_empty()).enumerate()
        {
            let statement = statement
                .replace(":rows", &self.rows.to_string())
                .replace(":now", &format!("timestamptz '{FILLED_AT}'"));
            self.db
                .batch_execute(&statement)
                .await
                .with_context(|| format!("statement {number} of the script"))?;
        }
        Ok(())
    }

    /// Drops the database.
    pub(super) async fn drop(self) -> Result<()> {
        // Without FORCE, which would have to end autovacuum and may not: a plain DROP DATABASE
        // waits for it.
        drop(self.db);
        let maintenance = connect(&self.config).await?;
        maintenance.batch_execute(&format!("DROP DATABASE {}", self.name)).await?;
        Ok(())
    }
}
