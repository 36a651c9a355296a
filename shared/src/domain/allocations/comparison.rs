//! Compares counts with the devices, many at once: for the hourly run, which corrects them, and for
//! operators.
//!
//! Subscriptions are taken by id, a slice a statement, and a statement sees one instant: a change
//! that is being committed is in it as a whole or not at all, so no difference is a change
//! half-way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::model::{CountCheck, CountKind, CountSlice};
use super::recount::count_anew;
use super::store;
use crate::Result;
use crate::base::ids::SubscriptionId;
use crate::db::{Db, Executor};
use crate::domain::audit::model::Actor;
use crate::domain::families;

/// How many subscriptions a run compares; a fleet below that is compared whole by each.
pub const SLICE: i64 = 50_000;

/// The slice after this subscription; without one, the first.
///
/// # Errors
/// `Database`.
pub async fn compare(db: &impl Executor, after: Option<&SubscriptionId>) -> Result<CountSlice> {
    let Some((last, compared)) = store::slice_end(db, after, SLICE).await? else {
        return Ok(CountSlice::default());
    };
    let differences = store::differences(db, after, &last).await?;
    Ok(CountSlice { compared, differences, next: (compared == SLICE).then_some(last) })
}

/// Compares the next slice and corrects what differs, family by family. What was seen decides
/// nothing: a family is counted again under its lock, and left alone where its counts are true by
/// then. At the end of `budget` the rest is left, and `next` is where this slice began.
///
/// # Errors
/// `Database` of the comparison; a family's own error is counted.
pub async fn correct(
    db: &Db,
    after: Option<SubscriptionId>,
    budget: Duration,
    now: Timestamp,
) -> Result<CountCheck> {
    let began = Instant::now();
    let slice = compare(&db.connection().await?, after.as_ref()).await?;
    let of = |count: CountKind| {
        i64::try_from(slice.differences.iter().filter(|it| it.count == count).count())
            .unwrap_or(i64::MAX)
    };
    let mut counted = CountCheck {
        compared: slice.compared,
        slots_used_differs: of(CountKind::Slots),
        device_count_differs: of(CountKind::Devices),
        counted_by_hand: of(CountKind::SlotsByHand),
        next: slice.next,
        ..CountCheck::default()
    };
    let roots: BTreeSet<&SubscriptionId> = slice
        .differences
        .iter()
        .filter(|it| it.count != CountKind::SlotsByHand)
        .map(|it| &it.root)
        .collect();
    for root in roots {
        if began.elapsed() >= budget {
            counted.next = after;
            break;
        }
        match correct_family(db, root, now).await {
            Ok(corrected) => counted.corrected += i64::from(corrected),
            Err(error) => {
                counted.failed += 1;
                tracing::warn!(subscription.id = %root, %error, "counts were not corrected");
            }
        }
    }
    Ok(counted)
}

/// Whether there was anything to correct.
async fn correct_family(db: &Db, root: &SubscriptionId, now: Timestamp) -> Result<bool> {
    let tx = db.begin().await?;
    let Some(family) = families::locks::lock(&tx, root).await? else { return Ok(false) };
    let done = count_anew(&tx, Actor::Renewal, &family, now).await?;
    tx.commit().await?;
    Ok(!done.corrections.is_empty() || !done.device_count_corrections.is_empty())
}
