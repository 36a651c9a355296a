//! Statements, parsed once a connection, and work in chunks.

use std::time::{Duration, Instant};

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::Result;

/// Runs a statement that is parsed once a connection, and is one round trip each time after that.
/// (One given as text is two.) Not for statements whose best plan depends on their values: lists
/// with optional filters, and what is due in a whole table.
///
/// # Errors
/// The database's.
pub async fn query(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query(&statement, params).await
}

/// The same by one key or many: `sql` is given the condition, `= $1` or `= ANY($1)`. For an array
/// `PostgreSQL` expects ten keys, finds a plan for the one at hand cheaper, and so plans the
/// statement again each time.
///
/// # Errors
/// The database's.
pub async fn query_keys(
    db: &impl GenericClient,
    sql: impl Fn(&str) -> String,
    keys: &[&str],
) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
    let sql = for_keys(sql, keys);
    match keys {
        [key] => query(db, &sql, &[key]).await,
        _ => query(db, &sql, &[&keys]).await,
    }
}

/// Parses what `query_keys` then sends as soon as it is polled: before whatever is polled after it,
/// which `PostgreSQL` runs after it.
///
/// # Errors
/// The database's.
pub async fn prepare_keys(
    db: &impl GenericClient,
    sql: impl Fn(&str) -> String,
    keys: &[&str],
) -> std::result::Result<(), tokio_postgres::Error> {
    db.prepare_cached(&for_keys(sql, keys)).await.map(drop)
}

pub(crate) fn for_keys(sql: impl Fn(&str) -> String, keys: &[&str]) -> String {
    sql(if keys.len() == 1 { "= $1" } else { "= ANY($1)" })
}

/// The same for at most one row.
///
/// # Errors
/// The database's.
pub async fn query_opt(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Option<Row>, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query_opt(&statement, params).await
}

/// The same for exactly one row.
///
/// # Errors
/// The database's.
pub async fn query_one(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Row, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query_one(&statement, params).await
}

/// The same for what answers no rows: how many it changed.
///
/// # Errors
/// The database's.
pub async fn execute(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<u64, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.execute(&statement, params).await
}

/// Repeats a chunk of work until one finds nothing or `budget` is used up; the rest is for the next
/// time. Returns how many all found.
///
/// # Errors
/// The chunk's: those before it are done.
pub async fn in_chunks<F: Future<Output = Result<u64>>>(
    budget: Duration,
    chunk: impl Fn() -> F,
) -> Result<u64> {
    let (began, mut all) = (Instant::now(), 0);
    while began.elapsed() < budget {
        let found = chunk().await?;
        all += found;
        if found == 0 {
            break;
        }
    }
    Ok(all)
}
