//! Steps as operators see and handle them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{Retry, StepFilter, StepKind, StepRow};
use super::store;
use crate::base::caller::Person;
use crate::base::error::FieldFault;
use crate::base::fields::Note;
use crate::base::paging::{Page, Slice};
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::flags::model::{About, FlagKind};
use crate::domain::{audit, flags};
use crate::{Error, Result};

/// A page of steps, newest first.
///
/// # Errors
/// `Database`.
pub async fn list(db: &Db, filter: &StepFilter, page: &Page<i64>) -> Result<Slice<StepRow>> {
    let rows = store::list(&db.connection().await?, filter, page).await?;
    Ok(page.cut(rows, |row| row.step_id))
}

/// One step.
///
/// # Errors
/// `step_not_found`.
pub async fn get(db: &Db, id: i64) -> Result<StepRow> {
    store::find(&db.connection().await?, id).await?.ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::not_found("step_not_found", "Outbox step not found")
}

/// Has an unfinished step tried at the next run, and for another 72 hours, with other fields if some
/// are given.
///
/// # Errors
/// `step_not_found`; `Conflict` (`step_final`); `Invalid` for each field that the step has no use
/// for.
pub async fn retry(db: &Db, by: &Person, id: i64, retry: Retry, now: Timestamp) -> Result<StepRow> {
    let tx = db.begin().await?;
    let before = lock_open(&tx, id).await?;
    let fields = retry.replaced();
    if !fields.is_empty() && before.kind != StepKind::NewAccount {
        let message = format!("makes no sense for a step of kind {}", before.kind.as_str());
        let fault = |field: &String| FieldFault { field: field.clone(), message: message.clone() };
        return Err(Error::Invalid(fields.keys().map(fault).collect()));
    }
    let details = json!({"step_id": id, "changed": fields.keys().collect::<Vec<_>>()});
    let step = store::retry(&tx, id, &fields.into(), now).await?;
    record(&tx, AuditEvent::ProvisioningRetried, by, &before, details, now).await?;
    tx.commit().await?;
    Ok(step)
}

/// Dismisses an unfinished step, and those that wait for it.
///
/// # Errors
/// `step_not_found`; `Conflict` (`step_final`).
pub async fn dismiss(
    db: &Db,
    by: &Person,
    id: i64,
    note: &Note,
    now: Timestamp,
) -> Result<StepRow> {
    let tx = db.begin().await?;
    let before = lock_open(&tx, id).await?;
    let step = store::dismiss(&tx, id, now).await?;
    record(
        &tx,
        AuditEvent::ProvisioningDismissed,
        by,
        &before,
        json!({"step_id": id, "note": note.as_str()}),
        now,
    )
    .await?;
    let subject = id.to_string();
    flags::settle(
        &tx,
        &[FlagKind::StepFailed],
        About::Subject(&subject),
        "The step was dismissed",
        Actor::Operator(by),
        now,
    )
    .await?;
    tx.commit().await?;
    Ok(step)
}

pub(crate) async fn lock_open(tx: &Transaction, id: i64) -> Result<StepRow> {
    let step = store::lock(tx, id).await?.ok_or_else(not_found)?;
    if step.status.is_final() {
        return Err(Error::conflict(
            "step_final",
            format!("Outbox step is already {}", step.status.as_str()),
        ));
    }
    Ok(step)
}

/// The step's payload stays out of the audit: the audit is never deleted, and must not hold a mail
/// address.
pub(crate) async fn record(
    tx: &Transaction,
    event_type: AuditEvent,
    by: &Person,
    before: &StepRow,
    details: Value,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        tenant: before.tenant_id.as_ref(),
        previous_state: Some(json!({"status": before.status, "last_error": before.last_error})),
        details: Some(details),
        ..Entry::new(event_type, Actor::Operator(by), now)
    };
    audit::store::insert(tx, &entry).await
}
