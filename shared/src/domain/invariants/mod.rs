//! What must hold after every request and every run: looked for in the data itself, by every hourly
//! run and by operators (docs/operations.md, "Invariants"). It changes nothing; what can be
//! corrected is corrected by `allocations::comparison`.

pub mod model;
mod store;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::model::{ByHand, EXAMPLES, Finding, Invariant, Invariants};
use crate::Result;
use crate::base::ids::SubscriptionId;
use crate::db::Db;
use crate::domain::allocations::comparison;
use crate::domain::allocations::model::{CountCheck, CountKind, Difference};

/// How long operators wait for the comparison of counts with devices; what it has not come to by
/// then is not in the answer.
const COMPARISON_BUDGET: Duration = Duration::from_secs(8);

/// How often each is broken. Counts are those that the run's own comparison found, before it
/// corrected them.
///
/// # Errors
/// `Database`.
pub async fn count(db: &Db, counted: &CountCheck, now: Timestamp) -> Result<Vec<(Invariant, i64)>> {
    let db = db.connection().await?;
    let mut counts = Vec::new();
    for invariant in Invariant::ALL {
        let count = match invariant {
            Invariant::SlotsUsedDiffers => counted.slots_used_differs,
            Invariant::DeviceCountDiffers => counted.device_count_differs,
            _ => store::find(&db, *invariant, now).await?.0,
        };
        counts.push((*invariant, count));
    }
    Ok(counts)
}

/// All of them with examples, and what differs by an operator's hand.
///
/// # Errors
/// `Database`.
pub async fn list(db: &Db, now: Timestamp) -> Result<Invariants> {
    let db = db.connection().await?;
    let (began, mut compared, mut differences, mut after) = (Instant::now(), 0, Vec::new(), None);
    let complete = loop {
        let slice = comparison::compare(&db, after.as_ref()).await?;
        compared += slice.compared;
        differences.extend(slice.differences);
        after = slice.next;
        if after.is_none() {
            break true;
        }
        if began.elapsed() >= COMPARISON_BUDGET {
            break false;
        }
    };
    let mut invariants = Vec::new();
    for name in Invariant::ALL.iter().copied() {
        let (count, examples) = match name {
            Invariant::SlotsUsedDiffers => of(&differences, CountKind::Slots),
            Invariant::DeviceCountDiffers => of(&differences, CountKind::Devices),
            _ => store::find(&db, name, now).await?,
        };
        invariants.push(Finding { name, count, examples, meaning: name.meaning() });
    }
    let (count, examples) = of(&differences, CountKind::SlotsByHand);
    let ok = invariants.iter().all(|finding| finding.count == 0);
    Ok(Invariants {
        ok,
        invariants,
        counted_by_hand: ByHand { count, examples },
        compared,
        complete,
        counted_at: now,
    })
}

/// How many differences of a kind there are, and whose the first ones are.
fn of(differences: &[Difference], count: CountKind) -> (i64, Vec<String>) {
    let mut ids: Vec<&SubscriptionId> =
        differences.iter().filter(|it| it.count == count).map(|it| &it.subscription).collect();
    let number = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    ids.dedup();
    (number, ids.into_iter().take(EXAMPLES).map(ToString::to_string).collect())
}
