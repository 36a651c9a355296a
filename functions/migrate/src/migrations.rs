//! Applies `migrations/`, as the owner, on a direct connection (never through a proxy).

use std::time::Duration;

use shared::base::error::Service;
use shared::base::ids::Currency;
use shared::domain::audit::AUDIT_MONTHS_AHEAD;
use shared::{Error, Result};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// The advisory lock of a migration: of two deployments at once the second waits, and then finds
/// nothing to do. The number is arbitrary, but nothing else may use it.
const LOCK: i64 = 0x7075_6c73_6500;

/// How long a migration waits for a lock that a request holds. Other requests wait behind it.
const LOCK_LIMIT: &str = "10s";

/// Applies the missing migrations and returns how many they were. A database that is ahead of this
/// version stays as it is: a deployment is being rolled back, and the previous code works with it.
///
/// # Errors
/// `Database`, or `Internal` if an applied migration is missing or differs.
pub async fn run(client: &mut Client) -> Result<usize> {
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let applied = async {
        let last = last_applied(client).await?;
        if last
            > embedded::migrations::runner()
                .get_migrations()
                .iter()
                .map(|migration| i64::from(migration.version()))
                .max()
        {
            tracing::warn!(last, "the database is ahead of this version");
            return Ok(0);
        }
        client.batch_execute(&format!("SET lock_timeout = '{LOCK_LIMIT}'")).await?;
        let mut applied = embedded::migrations::runner().run_async(&mut *client).await;
        for _ in 0..5 {
            // Roles belong to the cluster: a migration of another of its databases may be changing
            // the same one.
            if !applied.as_ref().is_err_and(|error| {
                format!("{error:#} {error:?}").contains("tuple concurrently updated")
            }) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            applied = embedded::migrations::runner().run_async(&mut *client).await;
        }
        let report = applied.map_err(|error| Error::Internal(format!("migrations: {error:#}")))?;
        client.execute("SELECT ensure_audit_partitions($1)", &[&AUDIT_MONTHS_AHEAD]).await?;
        Ok(report.applied_migrations().len())
    };
    let applied = applied.await;
    client.batch_execute("RESET lock_timeout").await?;
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    applied
}

async fn last_applied(client: &Client) -> Result<Option<i64>> {
    if client.query_one("SELECT to_regclass('refinery_schema_history') IS NULL", &[]).await?.get(0)
    {
        return Ok(None);
    }
    Ok(client
        .query_one("SELECT max(version)::bigint FROM refinery_schema_history", &[])
        .await?
        .get(0))
}

/// Leaves out so many subscription ids: the next one is past them.
///
/// # Errors
/// `Database`.
pub async fn skip_subscription_ids(client: &Client, count: u32) -> Result<()> {
    if count > 0 {
        let sql = "SELECT setval('subscription_number', last_value + $1) FROM subscription_number";
        client.execute(sql, &[&i64::from(count)]).await?;
    }
    Ok(())
}

/// Says what everything is in that names no currency.
///
/// # Errors
/// `Database`, also where something is sold by a price that Stripe has in the one of before.
pub async fn set_default_currency(client: &Client, currency: &Currency) -> Result<()> {
    client.execute("SELECT set_default_currency($1)", &[currency]).await?;
    Ok(())
}

/// How long a connection of a role may rest.
const IDLE_SESSION: &str = "5min";

/// Lets a role of ours log in with this password. Only its SCRAM verifier is sent, so no log of the
/// server can hold it.
///
/// # Errors
/// `Database`, or `Upstream` if the role is not ours.
pub async fn set_password(client: &Client, role: &str, password: &str) -> Result<()> {
    if !["pulse_system", "pulse_operator", "pulse_app"].contains(&role) {
        return Err(Error::refused(
            Service::Database,
            format!("{role:?} is no role of a function"),
        ));
    }
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    // An instance that Lambda has frozen keeps its connection, and an old version's instances are
    // frozen while the new version's connect. It makes another when it is needed again.
    let alter = format!(
        "ALTER ROLE {role} LOGIN PASSWORD '{verifier}'; \
         ALTER ROLE {role} SET idle_session_timeout = '{IDLE_SESSION}'"
    );
    // Two at once on one role: PostgreSQL refuses the second ("tuple concurrently updated") instead
    // of letting it wait. The lock is of this database and the role of the whole cluster, hence
    // the retries as well.
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let mut altered = client.batch_execute(&alter).await;
    for _ in 0..5 {
        if altered.as_ref().err().and_then(tokio_postgres::Error::code)
            != Some(&SqlState::INTERNAL_ERROR)
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        altered = client.batch_execute(&alter).await;
    }
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(altered?)
}
