//! What operators ask of the run and tell it.

pub mod model;
mod store;

use deadpool_postgres::Object;
use futures::try_join;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use self::model::{BreakerApproval, BreakerState, NewBreakerApproval, RunOutcome, RunRow};
use super::model::{Forecast, ForecastFilter, RunRequest};
use super::rehearsal;
use crate::base::caller::Person;
use crate::base::fields::DateTime;
use crate::base::ids::SubscriptionId;
use crate::base::paging::{Page, Slice};
use crate::db::Db;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::idempotency::model::Key;
use crate::domain::{audit, idempotency};
use crate::outside::queue::Queue;
use crate::{Error, Result};

/// A page of runs, newest first.
///
/// # Errors
/// `Database`.
pub async fn runs(db: &Db, page: &Page<(Timestamp, i64)>) -> Result<Slice<RunRow>> {
    let rows = store::runs(&db.connection().await?, page).await?;
    Ok(page.cut(rows, |row| (row.started_at, row.run_id)))
}

/// One run.
///
/// # Errors
/// `run_not_found`.
pub async fn run_of(db: &Db, id: i64) -> Result<RunRow> {
    let row = store::find_run(&db.connection().await?, id).await?;
    row.ok_or_else(|| Error::not_found("run_not_found", "Run not found"))
}

/// The run that began last.
pub(crate) async fn last_run(db: &Object) -> Result<Option<RunRow>> {
    let page = Page { limit: 1, offset: 0, after: None };
    Ok(store::runs(db, &page).await?.into_iter().next())
}

/// Whether a run would stop before its first change at this moment, and by which numbers. What a
/// run would read from Stripe first is not among them.
///
/// # Errors
/// `Database`.
pub async fn breaker(db: &Db, now: Timestamp) -> Result<BreakerState> {
    breaker_on(&db.connection().await?, now).await
}

pub(crate) async fn breaker_on(db: &Object, now: Timestamp) -> Result<BreakerState> {
    let (numbers, approval) =
        try_join!(super::breaker::numbers(db, now, &[]), store::approval(db, now))?;
    let left = approval.as_ref().map_or(0, |one| i64::from(one.max_count) - i64::from(one.used));
    Ok(BreakerState {
        open: numbers.is_too_many() && (approval.is_none() || left < numbers.due),
        due: numbers.due,
        counted: numbers.counted,
        live: numbers.live,
        approval,
    })
}

/// Lets the next runs do what the breaker stopped: until then, and to so many. A later approval
/// replaces an earlier one.
///
/// # Errors
/// `Invalid`; those of the idempotency key.
pub async fn approve(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    approval: NewBreakerApproval,
    now: Timestamp,
) -> Result<BreakerApproval> {
    let tx = db.begin().await?;
    if let Some(made) = idempotency::earlier(&tx, key, now).await? {
        return Ok(made);
    }
    approval.check(now)?;
    let made = store::insert_approval(&tx, by, &approval, now).await?;
    let entry = Entry {
        new_state: Some(json!(made)),
        ..Entry::new(AuditEvent::RenewalBreakerApproved, Actor::Operator(by), now)
    };
    audit::store::insert(&tx, &entry).await?;
    idempotency::keep(&tx, key, &made, now).await?;
    tx.commit().await?;
    Ok(made)
}

/// Does a dry run, or requests a run: it begins within seconds.
///
/// # Errors
/// `Invalid` if a real run should be of another time; `Database`; `Upstream` of the queue, in which
/// case no run was requested and the caller may repeat.
pub async fn run(
    db: &Db,
    queue: &Queue,
    by: &Person,
    wanted: &RunRequest,
    now: Timestamp,
) -> Result<RunOutcome> {
    if wanted.dry_run {
        let at = wanted.as_of.map_or(now, DateTime::get);
        let summary = rehearsal::dry_run(db, at).await?;
        return Ok(RunOutcome::DryRun(Box::new(summary)));
    }
    if wanted.as_of.is_some() {
        return Err(Error::invalid("as_of", "needs dry_run"));
    }
    {
        let tx = db.begin().await?;
        audit::store::insert(
            &tx,
            &Entry::new(AuditEvent::RenewalRunRequested, Actor::Operator(by), now),
        )
        .await?;
        tx.commit().await?;
    }
    queue.request_run(&by.id).await?;
    Ok(RunOutcome::Requested)
}

/// What will happen by itself, the first first.
///
/// # Errors
/// `Database`.
pub async fn forecast(
    db: &Db,
    filter: &ForecastFilter,
    page: &Page<(Timestamp, SubscriptionId)>,
    now: Timestamp,
) -> Result<Slice<Forecast>> {
    let until =
        now + SignedDuration::from_hours(24 * filter.within_days.map_or(30, |days| days.0.get()));
    let (tenant, id) = (filter.tenant_id.as_ref(), filter.subscription_id.as_ref());
    let rows = super::store::forecast(&db.connection().await?, until, tenant, id, page).await?;
    Ok(page.cut(Forecast::all(rows, now), Forecast::key))
}
