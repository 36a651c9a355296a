//! What is not kept for ever: what old events said (docs/events.md, "Payloads").

use jiff::{SignedDuration, Timestamp};

use super::store;
use crate::Result;
use crate::db::{Db, TIDIED_AT_ONCE};

/// How long an applied, ignored or dismissed event keeps its payload. One that waits or failed
/// keeps it until an operator has ended it.
pub const PAYLOAD_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Drops a chunk of the old payloads. Returns how many. The row stays, and with it that the event
/// is done.
///
/// # Errors
/// `Database`.
pub async fn drop_payloads(db: &Db, now: Timestamp) -> Result<u64> {
    store::drop_payloads(&db.connection().await?, now - PAYLOAD_KEPT, TIDIED_AT_ONCE).await
}
