//! Transactions that wait for the database only where their caller needs an answer.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::BytesMut;
use deadpool_postgres::Object;
use futures::future::BoxFuture;
use futures::{FutureExt, join, poll};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::statements::{Answer, Executor, Prepared, Query};
use crate::{Error, Result};

type Asked<T> = std::result::Result<T, tokio_postgres::Error>;
type Turn<'l> = tokio::sync::MutexGuard<'l, ()>;

/// A transaction on a connection.
///
/// Statements are sent in the order in which they are first polled, BEGIN before them, and none
/// waits for the answer to another. So those that are polled together (`try_join!`) are one round
/// trip, and `PostgreSQL` runs them one after the other: what follows a lock is read with the lock
/// held. What `write` sends is waited for by the next question, or by `commit`.
///
/// Of a transaction that is dropped, or that `commit` fails for, nothing stays. In any case the next
/// user of the connection is outside it.
pub struct Transaction {
    line: Arc<Line>,
    /// What was sent and must have succeeded before any later answer counts. The first is BEGIN.
    sent: Mutex<VecDeque<BoxFuture<'static, Result<()>>>>,
    /// Held by the one who waits for it.
    settling: tokio::sync::Mutex<()>,
}

impl Transaction {
    /// Sends BEGIN and what `enter` sends, without a wait. Nothing is committed before `enter` has
    /// succeeded.
    pub(super) fn new<F: Future<Output = Result<()>> + Send + 'static>(
        connection: Object,
        enter: impl FnOnce(Arc<Line>) -> F,
    ) -> Self {
        let line = Arc::new(Line {
            connection,
            turn: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
        });
        let tx = Self {
            line: line.clone(),
            sent: Mutex::default(),
            settling: tokio::sync::Mutex::new(()),
        };
        let enter = enter(line.clone());
        tx.send(async move {
            let (begun, entered) = join!(line.begin(), enter);
            begun.and(entered)?;
            line.state().entered = true;
            Ok(())
        });
        tx
    }

    /// Runs a statement whose answer nobody needs, without a wait. Where it fails, so does what is
    /// asked next, or the commit.
    ///
    /// # Errors
    /// Those of what was sent before.
    pub fn write<'q>(
        &'q self,
        sql: &'q str,
        params: &'q [&'q (dyn ToSql + Sync)],
    ) -> BoxFuture<'q, Result<()>> {
        Box::pin(self.put(sql, params))
    }

    async fn put(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<()> {
        let unanswered = Unanswered::new(&self.line)?;
        let prepare = self.line.connection.prepare_cached(sql);
        let mut ready = pin!(async { join!(self.line.turn.lock(), prepare) });
        let (turn, statement) = match poll!(ready.as_mut()) {
            Poll::Ready(ready) => ready,
            // It is parsed first, or something before it is, which gets on while it is polled.
            Poll::Pending => {
                let (settled, ready) = join!(self.settle(), ready);
                settled?;
                ready
            }
        };
        let statement = statement?;
        let encoded: Vec<Encoded> = params
            .iter()
            .zip(statement.params())
            .map(|(value, kind)| Encoded::of(*value, kind))
            .collect::<Result<_>>()?;
        let line = self.line.clone();
        self.send(async move {
            let params: Vec<_> = encoded.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
            Prepared::Kept(statement, &params).send(&line.connection).await?;
            unanswered.succeeded();
            Ok(())
        });
        drop(turn);
        Ok(())
    }

    /// Ends the transaction; what it wrote stays.
    ///
    /// # Errors
    /// The database's, also of what was written; and where any statement failed, or was dropped
    /// before its answer. Then nothing is committed.
    pub async fn commit(&self) -> Result<()> {
        if !self.line.state().entered {
            self.settle().await?;
        }
        let (settled, committed) = join!(self.settle(), self.line.commit());
        settled.and(committed)
    }

    /// Ends a transaction that only reads, in the round trip of what is polled before it.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn close(&self) -> Result<()> {
        let (settled, closed) = join!(self.settle(), self.line.commit());
        settled.and(closed)
    }

    /// The first poll sends it, or takes its place before whatever is sent later.
    fn send(&self, statement: impl Future<Output = Result<()>> + Send + 'static) {
        let mut statement = statement.boxed();
        let statement = match (&mut statement).now_or_never() {
            Some(Ok(())) => return,
            Some(Err(error)) => async { Err(error) }.boxed(),
            None => statement,
        };
        locked(&self.sent).push_back(statement);
    }

    /// Waits for what was sent. Of its errors the first who asks gets the first.
    async fn settle(&self) -> Result<()> {
        let _settling = self.settling.lock().await;
        loop {
            let Some(statement) = locked(&self.sent).pop_front() else { return Ok(()) };
            if let Err(error) = statement.await {
                self.line.state().failed = true;
                return Err(error);
            }
        }
    }
}

impl Executor for Transaction {
    fn run<'q>(&'q self, query: Query<'q>) -> BoxFuture<'q, Result<Answer>> {
        Box::pin(async move {
            let (settled, answer) = join!(self.settle(), self.line.ask(query));
            settled?;
            answer
        })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.line.state().ended {
            // Sent by its first poll, after all that was sent before and before all that follows.
            let _ = self.line.connection.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

/// The statements of one transaction, as they go out.
pub(crate) struct Line {
    connection: Object,
    /// Held until a statement is sent, by which order they wait for it.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many statements have begun and not been answered.
    unanswered: usize,
    /// Whether BEGIN and what came with it have succeeded.
    entered: bool,
    /// Whether a statement was refused, or dropped before its answer.
    failed: bool,
    /// Whether COMMIT is sent.
    ended: bool,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    async fn begin(self: &Arc<Self>) -> Result<()> {
        let unanswered = Unanswered::new(self)?;
        let turn = self.turn.lock().await;
        Self::send(self.connection.batch_execute("BEGIN"), turn).await?;
        unanswered.succeeded();
        Ok(())
    }

    async fn ask(self: &Arc<Self>, query: Query<'_>) -> Result<Answer> {
        let unanswered = Unanswered::new(self)?;
        // Its place is taken by the first poll, and what it needs is prepared meanwhile.
        let (turn, statement) = join!(self.turn.lock(), query.prepare(&self.connection));
        let answer = Self::send(statement?.send(&self.connection), turn).await?;
        unanswered.succeeded();
        Ok(answer)
    }

    async fn commit(&self) -> Result<()> {
        let turn = self.turn.lock().await;
        {
            let mut state = self.state();
            if state.ended || state.failed {
                return Err(not_committed());
            }
            state.ended = true;
        }
        Self::send(self.connection.batch_execute("COMMIT"), turn).await?;
        // To the COMMIT of a failed transaction PostgreSQL answers ROLLBACK, which the client does
        // not show. It is one exactly where a statement failed: the answers to all are here, but
        // their callers may not have looked yet.
        while self.unanswered()? > 0 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Sends a statement by its first poll, and waits for its answer.
    async fn send<T>(statement: impl Future<Output = Asked<T>>, turn: Turn<'_>) -> Asked<T> {
        let mut statement = pin!(statement);
        let first = poll!(statement.as_mut());
        drop(turn);
        match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => statement.await,
        }
    }

    /// How many answers have not come to their callers yet, as long as none has failed.
    fn unanswered(&self) -> Result<usize> {
        let state = self.state();
        if state.failed { Err(not_committed()) } else { Ok(state.unanswered) }
    }
}

impl Executor for Arc<Line> {
    fn run<'q>(&'q self, query: Query<'q>) -> BoxFuture<'q, Result<Answer>> {
        Box::pin(self.ask(query))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_committed() -> Error {
    Error::Internal("a statement of the transaction failed: nothing was committed".to_owned())
}

/// A statement that has begun. One that ends in any way but success fails its transaction.
struct Unanswered {
    line: Arc<Line>,
    has_succeeded: bool,
}

impl Unanswered {
    fn new(line: &Arc<Line>) -> Result<Self> {
        let mut state = line.state();
        if state.ended {
            return Err(Error::Internal("a statement after its transaction's end".to_owned()));
        }
        state.unanswered += 1;
        Ok(Self { line: line.clone(), has_succeeded: false })
    }

    fn succeeded(mut self) {
        self.has_succeeded = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let mut state = self.line.state();
        state.unanswered -= 1;
        state.failed |= !self.has_succeeded;
    }
}

/// A value as it is sent, for a statement that outlives who wrote it.
#[derive(Debug)]
struct Encoded(Option<BytesMut>);

impl Encoded {
    fn of(value: &(dyn ToSql + Sync), kind: &Type) -> Result<Self> {
        let mut bytes = BytesMut::new();
        match value.to_sql_checked(kind, &mut bytes) {
            Ok(IsNull::No) => Ok(Self(Some(bytes))),
            Ok(IsNull::Yes) => Ok(Self(None)),
            Err(error) => Err(Error::Internal(format!("a value that is no {kind}: {error}"))),
        }
    }
}

impl ToSql for Encoded {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(bytes) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
