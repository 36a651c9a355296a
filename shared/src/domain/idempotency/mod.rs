//! `Idempotency-Key`: a POST repeated with the same key is the same request (docs/api.md,
//! "Idempotency").
//!
//! The answer is kept in the transaction of the work, so it is there exactly when the work is. A
//! refusal or a failure changed nothing and is not kept: a repetition is tried again.

pub mod model;
mod store;

use std::time::Duration;

use aws_lc_rs::rand;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::model::Key;
use crate::db::{Db, TIDIED_AT_ONCE, Transaction};
use crate::{Error, Result};

/// How long an answer is kept.
pub const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How often, and after which pause, a key is tried that another request holds. The key of a
/// request that was just refused is free within milliseconds.
const LOCK_TRIES: u32 = 3;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The answer that this key's first request got. `None` if this is the first: the caller's
/// transaction then holds the key until it ends.
///
/// # Errors
/// `InProgress` while the first is not done; `Invalid` if the first was another request.
pub async fn earlier<T: DeserializeOwned>(
    tx: &Transaction,
    key: Option<&Key>,
    now: Timestamp,
) -> Result<Option<T>> {
    let Some(key) = key else { return Ok(None) };
    let mut tries = 1;
    let kept = loop {
        let locked = store::try_lock(tx, key);
        if let (true, kept) = futures::try_join!(locked, store::find(tx, key, now - KEPT))? {
            break kept;
        }
        if tries == LOCK_TRIES {
            return Err(Error::InProgress);
        }
        tries += 1;
        tokio::time::sleep(LOCK_PAUSE).await;
    };
    let Some((request, answer)) = kept else { return Ok(None) };
    if request != key.request {
        return Err(used_for_another());
    }
    serde_json::from_value(answer)
        .map(Some)
        .map_err(|error| Error::Internal(format!("a kept answer cannot be read: {error}")))
}

/// The refusal of a key that another request has used, here or at Stripe.
pub(crate) fn used_for_another() -> Error {
    Error::invalid("idempotency-key", "was used for another request")
}

/// Keeps the answer of the work that this transaction does.
///
/// # Errors
/// `Database`.
pub async fn keep<T: Serialize>(
    tx: &Transaction,
    key: Option<&Key>,
    answer: &T,
    now: Timestamp,
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let answer = serde_json::to_value(answer)
        .map_err(|error| Error::Internal(format!("an answer cannot be kept: {error}")))?;
    store::insert(tx, key, &answer, now).await
}

/// Deletes a chunk of the expired answers. Returns how many.
///
/// # Errors
/// `Database`.
pub async fn delete_expired(db: &Db, now: Timestamp) -> Result<u64> {
    store::delete_until(&db.connection().await?, now - KEPT, TIDIED_AT_ONCE).await
}

/// A random key, for one request and its retries.
pub(crate) fn random_key() -> Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::Internal("no random numbers".to_owned()))?;
    Ok(hex::encode(bytes))
}
