//! Statements, parsed once a connection, and work in chunks.

use std::pin::pin;
use std::time::{Duration, Instant};

use deadpool_postgres::{ClientWrapper, Object};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use crate::{Error, Result};

type Values<'q> = &'q [&'q (dyn ToSql + Sync)];
type TypedValues<'q> = &'q [(&'q (dyn ToSql + Sync), Type)];

/// A statement with its values, and how `PostgreSQL` comes to its plan.
#[derive(Clone, Copy)]
pub enum Query<'q> {
    /// Parsed once a connection.
    Kept(&'q str, Values<'q>),
    /// Planned for its values, whose types are known: parsed on the way, and nothing of it is kept.
    Planned(&'q str, TypedValues<'q>),
}

/// What a statement answered.
pub struct Answer {
    rows: Vec<Row>,
    changed: u64,
}

impl<'q> Query<'q> {
    /// Has it parsed, where that is a round trip of its own.
    pub(super) async fn prepare(
        self,
        client: &ClientWrapper,
    ) -> std::result::Result<Prepared<'q>, tokio_postgres::Error> {
        Ok(match self {
            Query::Kept(sql, values) => Prepared::Kept(client.prepare_cached(sql).await?, values),
            Query::Planned(sql, values) => Prepared::Planned(sql, values),
        })
    }
}

/// A statement that can be sent.
pub(super) enum Prepared<'q> {
    Kept(Statement, Values<'q>),
    Planned(&'q str, TypedValues<'q>),
}

impl Prepared<'_> {
    /// Sends it as soon as it is polled, and waits for its answer.
    pub(super) async fn send(
        self,
        client: &ClientWrapper,
    ) -> std::result::Result<Answer, tokio_postgres::Error> {
        let answer = match self {
            Self::Kept(statement, values) => {
                client.query_raw(&statement, values.iter().copied()).await?
            }
            Self::Planned(sql, values) => {
                let values = values.iter().map(|(value, kind)| (*value, kind.clone()));
                client.query_typed_raw(sql, values).await?
            }
        };
        let mut answer = pin!(answer);
        let mut rows = Vec::new();
        while let Some(row) = answer.try_next().await? {
            rows.push(row);
        }
        Ok(Answer { rows, changed: answer.rows_affected().unwrap_or_default() })
    }
}

/// A connection, or a transaction on one.
pub trait Executor: Sync {
    /// Runs a statement.
    ///
    /// # Errors
    /// The database's.
    fn run<'q>(&'q self, query: Query<'q>) -> BoxFuture<'q, Result<Answer>>;
}

impl Executor for Object {
    fn run<'q>(&'q self, query: Query<'q>) -> BoxFuture<'q, Result<Answer>> {
        Box::pin(async move { Ok(query.prepare(self).await?.send(self).await?) })
    }
}

/// Runs a statement that is parsed once a connection, and is one round trip each time after that.
/// Not for statements whose best plan depends on their values: lists with optional filters, and
/// what is due in a whole table (`query_planned`).
///
/// # Errors
/// The database's.
pub async fn query(db: &impl Executor, sql: &str, params: Values<'_>) -> Result<Vec<Row>> {
    Ok(db.run(Query::Kept(sql, params)).await?.rows)
}

/// The same by one key or many: `sql` is given the condition, `= $1` or `= ANY($1)`, and `further`
/// begins with `$2`. For an array `PostgreSQL` expects ten keys, finds a plan for the one at hand
/// cheaper, and so plans the statement again each time.
///
/// # Errors
/// The database's.
pub async fn query_keys(
    db: &impl Executor,
    sql: impl Fn(&str) -> String,
    keys: &[&str],
    further: Values<'_>,
) -> Result<Vec<Row>> {
    let (given, keys): (_, &(dyn ToSql + Sync)) = match keys {
        [key] => ("= $1", key),
        _ => ("= ANY($1)", &keys),
    };
    query(db, &sql(given), &[&[keys], further].concat()).await
}

/// The same for at most one row.
///
/// # Errors
/// The database's; `Internal` for more rows.
pub async fn query_opt(db: &impl Executor, sql: &str, params: Values<'_>) -> Result<Option<Row>> {
    let mut rows = query(db, sql, params).await?;
    match rows.len() {
        0 | 1 => Ok(rows.pop()),
        more => Err(Error::Internal(format!("{more} rows where there is one at most: {sql}"))),
    }
}

/// The same for exactly one row.
///
/// # Errors
/// The database's; `Internal` for none or more rows.
pub async fn query_one(db: &impl Executor, sql: &str, params: Values<'_>) -> Result<Row> {
    let row = query_opt(db, sql, params).await?;
    row.ok_or_else(|| Error::Internal(format!("no row where there is always one: {sql}")))
}

/// The same for what answers no rows: how many it changed.
///
/// # Errors
/// The database's.
pub async fn execute(db: &impl Executor, sql: &str, params: Values<'_>) -> Result<u64> {
    Ok(db.run(Query::Kept(sql, params)).await?.changed)
}

/// Runs a statement that is planned for these values: one round trip, and nothing of it is kept.
///
/// # Errors
/// The database's.
pub async fn query_planned(
    db: &impl Executor,
    sql: &str,
    params: TypedValues<'_>,
) -> Result<Vec<Row>> {
    Ok(db.run(Query::Planned(sql, params)).await?.rows)
}

/// Whether a transaction failed because it wrote NULL to a column of this table that takes none:
/// so a `write`, whose answer nobody waits for, says that its condition does not hold.
#[must_use]
pub fn wrote_null(error: &Error, table: &str) -> bool {
    matches!(error, Error::Database(error) if error.code() == Some(&SqlState::NOT_NULL_VIOLATION)
        && error.as_db_error().is_some_and(|error| error.table() == Some(table)))
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
