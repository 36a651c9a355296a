//! `renewal_runs` and `renewal_approvals`, as operators read and write them.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::model::{BreakerApproval, NewBreakerApproval, RunRow};
use crate::Result;
use crate::base::caller::Person;
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, Transaction, query_one, query_opt};

const RUN: &str = "run_id, started_at, as_of, requested_by, status, counted, summary, finished_at";
const APPROVAL: &str =
    "approval_id, approved_at, approved_by, approve_until, max_count, used, note";

/// A page of runs, newest first, and one more.
pub(super) async fn runs(db: &impl Executor, page: &Page<(Timestamp, i64)>) -> Result<Vec<RunRow>> {
    let mut conditions = Conditions::default();
    if let Some((at, id)) = page.after {
        conditions.and_two("(started_at, run_id) < (?, ?)", at, id);
    }
    let select = format!("SELECT {RUN} FROM renewal_runs");
    let rows = conditions.page(db, &select, "started_at DESC, run_id DESC", page).await?;
    rows.iter().map(run).collect()
}

/// The run of this number.
pub(super) async fn find_run(db: &impl Executor, id: i64) -> Result<Option<RunRow>> {
    let sql = format!("SELECT {RUN} FROM renewal_runs WHERE run_id = $1");
    query_opt(db, &sql, &[&id]).await?.as_ref().map(run).transpose()
}

fn run(row: &Row) -> Result<RunRow> {
    Ok(RunRow {
        run_id: row.get("run_id"),
        started_at: row.get("started_at"),
        as_of: row.get("as_of"),
        requested_by: row.get("requested_by"),
        status: row.try_get("status")?,
        counted: row.get("counted"),
        summary: row.get("summary"),
        finished_at: row.get("finished_at"),
    })
}

/// The last approval, if its time is not over.
pub(super) async fn approval(
    db: &impl Executor,
    now: Timestamp,
) -> Result<Option<BreakerApproval>> {
    let sql = format!(
        "SELECT * FROM (SELECT {APPROVAL} FROM renewal_approvals WHERE approved_at <= $1
                        ORDER BY approval_id DESC LIMIT 1) last WHERE approve_until > $1"
    );
    Ok(query_opt(db, &sql, &[&now]).await?.as_ref().map(read_approval))
}

/// Adds an approval.
pub(super) async fn insert_approval(
    tx: &Transaction,
    by: &Person,
    approval: &NewBreakerApproval,
    now: Timestamp,
) -> Result<BreakerApproval> {
    let sql = format!(
        "INSERT INTO renewal_approvals (approved_at, approved_by, approve_until, max_count, note)
         VALUES ($1, $2, $3, $4, $5) RETURNING {APPROVAL}"
    );
    let row = query_one(
        tx,
        &sql,
        &[
            &now,
            &by.id,
            &approval.approve_until.get(),
            &approval.max_count.get_i32(),
            &approval.note,
        ],
    )
    .await?;
    Ok(read_approval(&row))
}

fn read_approval(row: &Row) -> BreakerApproval {
    BreakerApproval {
        approval_id: row.get("approval_id"),
        approved_at: row.get("approved_at"),
        approved_by: row.get("approved_by"),
        approve_until: row.get("approve_until"),
        max_count: row.get("max_count"),
        used: row.get("used"),
        note: row.get("note"),
    }
}
