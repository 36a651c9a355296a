//! `Idempotency-Key`: a POST repeated with the same key is the same request (docs/api.md,
//! "Idempotency").
//!
//! The answer is kept in the transaction of the work, so it is there exactly when the work is. A
//! refusal or a failure changed nothing and is not kept: the repetition is tried anew.

mod store;

use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::ids::TenantId;
use crate::db::{Db, TIDIED_AT_ONCE};
use crate::{Error, Result};

/// How long an answer is kept.
pub const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How often, and after which pause, a key is tried that another holds: one that was just refused
/// is free within milliseconds.
const LOCK_TRIES: u32 = 3;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A key in its scope: caller, tenant and route; and what was asked under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
    subject: String,
    tenant: Option<TenantId>,
    route: String,
    /// SHA-256 of the body.
    request: Vec<u8>,
}

impl Key {
    /// The key of a request.
    ///
    /// # Errors
    /// `Invalid` where it is not 1 to 255 visible ASCII characters.
    pub fn new(
        key: &str,
        subject: &str,
        tenant: Option<&TenantId>,
        route: &str,
        body: &[u8],
    ) -> Result<Self> {
        if !(1..=255).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(
                "idempotency-key",
                "must be 1 to 255 visible ASCII characters",
            ));
        }
        let request = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body).as_ref().to_vec();
        Ok(Self {
            text: key.to_owned(),
            subject: subject.to_owned(),
            tenant: tenant.cloned(),
            route: route.to_owned(),
            request,
        })
    }

    /// The key in its scope, as one text. No part of it can hold a line break.
    fn scope(&self) -> String {
        format!(
            "{}\n{}\n{}\n{}",
            self.subject,
            self.tenant.as_ref().map_or("", TenantId::as_str),
            self.route,
            self.text
        )
    }

    /// The key for what this request has done outside: the same at every repetition, and no other
    /// request's.
    #[must_use]
    pub fn outside(&self) -> String {
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.scope().as_bytes()))
    }
}

/// The answer that this key's first request got, or none where this is the first: the caller's
/// transaction then holds the key until it ends.
///
/// # Errors
/// `InProgress` while the first is not done; `Invalid` where it asked something else.
pub async fn earlier<T: DeserializeOwned>(
    tx: &Transaction<'_>,
    key: Option<&Key>,
    now: Timestamp,
) -> Result<Option<T>> {
    let Some(key) = key else { return Ok(None) };
    let mut tries = 1;
    while !store::try_lock(tx, key).await? {
        if tries == LOCK_TRIES {
            return Err(Error::InProgress);
        }
        tries += 1;
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    let Some((request, answer)) = store::find(tx, key, now - KEPT).await? else { return Ok(None) };
    if request != key.request {
        return Err(used_for_another());
    }
    serde_json::from_value(answer)
        .map(Some)
        .map_err(|error| Error::Internal(format!("a kept answer cannot be read: {error}")))
}

/// That a key stands for another request: here, or at whom it was passed on to.
pub(crate) fn used_for_another() -> Error {
    Error::invalid("idempotency-key", "was used for another request")
}

/// Keeps the answer of the work that this transaction does.
///
/// # Errors
/// `Database`.
pub async fn keep<T: Serialize>(
    tx: &Transaction<'_>,
    key: Option<&Key>,
    answer: &T,
    now: Timestamp,
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let answer = serde_json::to_value(answer)
        .map_err(|error| Error::Internal(format!("an answer cannot be kept: {error}")))?;
    store::insert(tx, key, &answer, now).await
}

/// Deletes a chunk of the answers that count no more. Returns how many.
///
/// # Errors
/// `Database`.
pub async fn delete_expired(db: &Db, now: Timestamp) -> Result<u64> {
    store::delete_until(&db.connection().await?, now - KEPT, TIDIED_AT_ONCE).await
}
