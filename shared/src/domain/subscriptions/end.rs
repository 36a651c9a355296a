//! The end of a subscription.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{Ending, Mode, SubscriptionEnd};
use super::{explained, model, record};
use crate::base::caller::Person;
use crate::base::fields::Note;
use crate::base::ids::{StripeSubscriptionId, SubscriptionId};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::family::Family;
use crate::domain::families::not_found;
use crate::domain::families::subscription::{Hold, Status, Subscription};
use crate::domain::outbox::charge_for_slots;
use crate::domain::{audit, families, outbox};
use crate::{Error, Result};

pub(crate) async fn expire_addons(
    tx: &Transaction,
    by: &Person,
    family: &Family,
    now: Timestamp,
) -> Result<Vec<SubscriptionId>> {
    let mut expired = Vec::new();
    for addon in family.addons.iter().filter(|addon| addon.status != Status::Expired) {
        expire(tx, by, addon, Some(json!({"with_parent": family.root.subscription_id})), now)
            .await?;
        expired.push(addon.subscription_id.clone());
    }
    Ok(expired)
}

pub(crate) async fn expire(
    tx: &Transaction,
    by: &Person,
    before: &Subscription,
    details: Option<Value>,
    now: Timestamp,
) -> Result<()> {
    let after = before.expired(now);
    families::rows::save(tx, &after).await?;
    record(tx, AuditEvent::StatusExpired, by, Some(before), &after, details, now).await
}

/// Ends a subscription, and a MAIN's ADDONs with it. One that has ended stays as it is.
///
/// # Errors
/// `subscription_not_found`, `version_changed`, `devices_assigned`, `stripe_managed`; `Invalid`.
pub async fn end(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    if_match: &IfMatch,
    ending: Ending,
    now: Timestamp,
) -> Result<SubscriptionEnd> {
    let tx = db.begin().await?;
    let ended = end_in(&tx, by, id, if_match, ending, now).await?;
    if ended.stripe_cancellation || !ended.expired.is_empty() {
        tx.commit().await?;
    }
    Ok(ended)
}

/// The same in a transaction that the caller commits, or not.
pub(super) async fn end_in(
    tx: &Transaction,
    by: &Person,
    id: &SubscriptionId,
    if_match: &IfMatch,
    ending: Ending,
    now: Timestamp,
) -> Result<SubscriptionEnd> {
    let family = families::locks::lock(tx, id).await?.ok_or_else(not_found)?;
    let before = family.member(id).ok_or_else(not_found)?.clone();
    if_match.check(before.version)?;
    let mut ended = SubscriptionEnd {
        status: "ok",
        subscription_id: id.clone(),
        expired: Vec::new(),
        stripe_cancellation: false,
    };
    if before.status == Status::Expired {
        return Ok(ended);
    }
    if !ending.force.0 {
        refuse_devices(&family, id)?;
    }
    refuse_stripes_addons(&family, id)?;
    let mut held = before.clone();
    match (ending.mode, before.stripe_id()) {
        (Some(_), None) => {
            return Err(Error::invalid("mode", "is only for a subscription that Stripe manages"));
        }
        (Some(Mode::Stripe), Some(stripe)) => {
            if before.hold.is_some() {
                // Under a hold the sync that follows would not end it.
                held.hold = None;
                (held.version, held.updated_at) = (before.version + 1, now);
                families::rows::save(tx, &held).await?;
                record(
                    tx,
                    AuditEvent::Updated,
                    by,
                    Some(&before),
                    &held,
                    explained(ending.reason.as_ref(), None, json!({})),
                    now,
                )
                .await?;
            }
            ask_stripe(tx, by, &before, stripe, ending.reason.as_ref(), now).await?;
            ended.stripe_cancellation = true;
            return Ok(ended);
        }
        (Some(Mode::Hold), Some(_)) => {
            let reason = ending
                .reason
                .clone()
                .ok_or_else(|| Error::invalid("reason", "is required with mode=hold"))?;
            held.hold = Some(Hold { reason: reason.into_string(), by: by.id.clone(), at: now });
        }
        (None, _) if before.is_stripe_managed() => return Err(model::stripe_managed()),
        (None, _) => {}
    }
    expire_with(tx, by, &before, held, ending.reason.as_ref(), now).await?;
    ended.expired.push(id.clone());
    if family.root.subscription_id == *id {
        ended.expired.extend(expire_addons(tx, by, &family, now).await?);
    }
    charge_for_slots(tx, &family, now).await?;
    Ok(ended)
}

pub(crate) async fn expire_with(
    tx: &Transaction,
    by: &Person,
    before: &Subscription,
    held: Subscription,
    reason: Option<&Note>,
    now: Timestamp,
) -> Result<()> {
    let after = Subscription {
        status: Status::Expired,
        grace_end: None,
        version: before.version + 1,
        updated_at: now,
        ..held
    };
    families::rows::save(tx, &after).await?;
    record(
        tx,
        AuditEvent::StatusExpired,
        by,
        Some(before),
        &after,
        explained(reason, None, json!({})),
        now,
    )
    .await
}

/// Leaves the cancellation to Stripe: its event, and not this request, ends the subscription.
pub(crate) async fn ask_stripe(
    tx: &Transaction,
    by: &Person,
    before: &Subscription,
    stripe: &StripeSubscriptionId,
    reason: Option<&Note>,
    now: Timestamp,
) -> Result<()> {
    if !outbox::insert_stripe_cancel(tx, &before.tenant_id, &before.subscription_id, stripe, now)
        .await?
    {
        return Ok(());
    }
    let entry = Entry {
        tenant: Some(&before.tenant_id),
        subscription: Some(&before.subscription_id),
        details: explained(reason, None, json!({"stripe_subscription_id": stripe})),
        ..Entry::new(AuditEvent::StripeCancelRequested, Actor::Operator(by), now)
    };
    audit::store::insert(tx, &entry).await
}

pub(crate) fn refuse_devices(family: &Family, id: &SubscriptionId) -> Result<()> {
    let of_root = family.root.subscription_id == *id;
    let ends = family.members().filter(|member| of_root || member.subscription_id == *id);
    let devices: i64 = ends.map(|member| i64::from(member.active_device_count)).sum();
    if devices == 0 {
        return Ok(());
    }
    let detail = format!(
        "Devices are still assigned: {devices}. Move them first, or end it by DELETE with \
         force=true, which leaves them assigned."
    );
    Err(Error::conflict("devices_assigned", detail))
}

/// A MAIN takes its ADDONs with it; one that Stripe charges for must be ended there, or it would be
/// charged for ever.
pub(crate) fn refuse_stripes_addons(family: &Family, id: &SubscriptionId) -> Result<()> {
    let charged = family
        .addons
        .iter()
        .find(|addon| addon.status != Status::Expired && addon.is_stripe_managed());
    match charged.filter(|_| family.root.subscription_id == *id) {
        Some(addon) => Err(Error::conflict(
            "stripe_managed",
            format!(
                "Stripe manages its ADDON {}: end that first, with mode=stripe.",
                addon.subscription_id
            ),
        )),
        None => Ok(()),
    }
}
