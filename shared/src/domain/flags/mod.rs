//! Flags: what an operator should look at. An event flags one thing once, however often it is
//! tried; a flag ends with a note, by an operator or by what mended its cause, and is never
//! deleted.

pub mod model;
pub(crate) mod store;

use jiff::Timestamp;
use serde_json::json;

use self::model::{About, FlagFilter, FlagKind, FlagRow};
use crate::base::caller::Person;
use crate::base::fields::Note;
use crate::base::paging::{Page, Slice};
use crate::db::{Db, Transaction};
use crate::domain::audit;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::{Error, Result};

/// A page of flags, newest first.
///
/// # Errors
/// `Database`.
pub async fn list(
    db: &Db,
    filter: &FlagFilter,
    page: &Page<(Timestamp, i64)>,
) -> Result<Slice<FlagRow>> {
    let rows = store::list(&db.connection().await?, filter, page).await?;
    Ok(page.cut(rows, |row| (row.created_at, row.flag_id)))
}

/// One flag.
///
/// # Errors
/// `flag_not_found`.
pub async fn get(db: &Db, id: i64) -> Result<FlagRow> {
    store::find(&db.connection().await?, id).await?.ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::not_found("flag_not_found", "Flag not found")
}

/// Ends an open flag.
///
/// # Errors
/// `flag_not_found`; `Conflict` (`flag_resolved`).
pub async fn resolve(db: &Db, by: &Person, id: i64, note: Note, now: Timestamp) -> Result<FlagRow> {
    let tx = db.begin().await?;
    let before = store::lock(&tx, id).await?.ok_or_else(not_found)?;
    if let Some(at) = before.resolved_at {
        let who = before.resolved_by.as_deref().unwrap_or("somebody");
        return Err(Error::conflict(
            "flag_resolved",
            format!("Flag was already resolved by {who} at {at}"),
        ));
    }
    let flag = FlagRow {
        resolved_at: Some(now),
        resolved_by: Some(by.id.clone()),
        resolution_note: Some(note.into_string()),
        ..before.clone()
    };
    store::save_resolution(&tx, &flag).await?;
    record(&tx, &before, &flag, Actor::Operator(by), now).await?;
    tx.commit().await?;
    Ok(flag)
}

/// Ends the open flags of these kinds that are about this: what they complained of is mended.
pub(crate) async fn settle(
    tx: &Transaction,
    kinds: &[FlagKind],
    about: About<'_>,
    note: &str,
    by: Actor<'_>,
    now: Timestamp,
) -> Result<()> {
    for flag in store::resolve_open(tx, kinds, about, by.id(), note, now).await? {
        let before =
            FlagRow { resolved_at: None, resolved_by: None, resolution_note: None, ..flag.clone() };
        record(tx, &before, &flag, by, now).await?;
    }
    Ok(())
}

async fn record(
    tx: &Transaction,
    before: &FlagRow,
    flag: &FlagRow,
    by: Actor<'_>,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        tenant: flag.tenant_id.as_ref(),
        subscription: flag.subscription_id.as_ref(),
        stripe_event: flag.stripe_event_id.as_ref(),
        previous_state: Some(json!(before)),
        new_state: Some(json!(flag)),
        ..Entry::new(AuditEvent::FlagResolved, by, now)
    };
    audit::store::insert(tx, &entry).await
}
