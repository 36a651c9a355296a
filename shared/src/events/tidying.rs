//! What is not kept for ever: what old events said (docs/events.md, "Payloads").

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::store;
use crate::Result;
use crate::db::Db;

/// How long an applied, ignored or dismissed event keeps its payload. One that waits or failed keeps it until a person has ended it.
pub const PAYLOAD_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How many one transaction takes: each is a row to write anew.
const CHUNK: i64 = 2_000;

/// Drops old payloads, until none is left or `budget` is used up; the rest is for the next run. Returns how many. The row stays, and with it
/// that the event is done.
///
/// # Errors
/// `Database`.
pub async fn drop_payloads(db: &Db, budget: Duration, now: Timestamp) -> Result<u64> {
    let (began, mut dropped) = (Instant::now(), 0);
    while began.elapsed() < budget {
        let chunk = store::drop_payloads(&db.connection().await?, now - PAYLOAD_KEPT, CHUNK).await?;
        dropped += chunk;
        if chunk == 0 {
            break;
        }
    }
    Ok(dropped)
}
