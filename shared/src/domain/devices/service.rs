//! What the platform's other backends say of devices.

use jiff::{SignedDuration, Timestamp};

use super::model::{SeenCounts, Sightings};
use super::store;
use crate::base::error::FieldFault;
use crate::db::Db;
use crate::{Error, Result};

/// How far the clock of a backend may be ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Notes when devices were last heard of, and never moves that back. Takes no family's lock, writes
/// no audit row and changes nothing else of a device: it is a measurement, of thousands of devices
/// a minute, and nothing here is decided by it.
///
/// # Errors
/// `Invalid` for each time in the future.
pub async fn see(db: &Db, wanted: &Sightings, now: Timestamp) -> Result<SeenCounts> {
    let devices = &wanted.devices.0;
    let latest = now + AHEAD;
    let ahead = devices.iter().enumerate().filter(|(_, seen)| seen.last_seen_at.get() > latest);
    let faults: Vec<FieldFault> = ahead
        .map(|(index, _)| FieldFault {
            field: format!("devices[{index}].last_seen_at"),
            message: "must be at most 5 minutes in the future".to_owned(),
        })
        .collect();
    if !faults.is_empty() {
        return Err(Error::Invalid(faults));
    }
    let tx = db.begin().await?;
    let counts = store::see(&tx, devices).await?;
    tx.commit().await?;
    Ok(counts)
}
