//! What a change or an end of a subscription would do: it is done, looked at, and rolled back. So it
//! is what the change itself would do, whatever its rules are.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::model::{Ending, Preview, Refused, SlotEffect, SubscriptionUpdate};
use super::{end, update_in};
use crate::base::caller::Person;
use crate::base::error::Refusal;
use crate::base::ids::SubscriptionId;
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::families;
use crate::domain::families::family::Family;
use crate::domain::families::not_found;
use crate::{Error, Result};

/// What `subscriptions::update` would do.
///
/// # Errors
/// As `subscriptions::update`, but what the present state forbids is in the answer.
pub async fn of_update(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    if_match: &IfMatch,
    update: SubscriptionUpdate,
    now: Timestamp,
) -> Result<Preview> {
    let tx = db.begin().await?;
    let before = families::locks::lock(&tx, id).await?.ok_or_else(not_found)?;
    let outcome = update_in(&tx, by, id, if_match, update, now).await;
    seen(&tx, id, before, outcome.map(|_| false)).await
}

/// What `end::end` would do.
///
/// # Errors
/// As `end::end`, but what the present state forbids is in the answer.
pub async fn of_end(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    if_match: &IfMatch,
    ending: Ending,
    now: Timestamp,
) -> Result<Preview> {
    let tx = db.begin().await?;
    let before = families::locks::lock(&tx, id).await?.ok_or_else(not_found)?;
    let outcome = end::end_in(&tx, by, id, if_match, ending, now).await;
    seen(&tx, id, before, outcome.map(|ended| ended.stripe_cancellation)).await
}

/// The family as the transaction, which is dropped then, has it after the change.
async fn seen(
    tx: &Transaction,
    id: &SubscriptionId,
    before: Family,
    outcome: Result<bool>,
) -> Result<Preview> {
    let (after, refused, stripe_cancellation) = match outcome {
        Ok(at_stripe) => {
            let after = families::locks::find(tx, id).await?.ok_or_else(not_found)?;
            (after, None, at_stripe)
        }
        Err(Error::Refused { why: Refusal::Conflict, code, detail }) => {
            let code = code.to_owned();
            (before.clone(), Some(Refused { code, detail }), false)
        }
        Err(other) => return Err(other),
    };
    let tiers = before.allocations.iter().chain(&after.allocations).map(|held| held.tier);
    let effect = |tier: i32| {
        let (new, used) = (after.effective_limit(tier), after.slots_used(tier));
        let old = before.effective_limit(tier);
        SlotEffect { tier_id: tier, old, new, used, over_limit: used > new }
    };
    let addons = after.addons.iter().filter(|addon| {
        addon.subscription_id != *id && before.member(&addon.subscription_id) != Some(*addon)
    });
    Ok(Preview {
        subscription: after.member(id).ok_or_else(not_found)?.clone(),
        allocations: tiers.collect::<BTreeSet<_>>().into_iter().map(effect).collect(),
        addons: addons.cloned().collect(),
        refused,
        stripe_cancellation,
    })
}
