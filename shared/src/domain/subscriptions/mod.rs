//! Subscriptions: what an operator does with them by hand, and what Stripe's statuses mean for them
//! (docs/subscriptions.md).

pub mod end;
pub mod model;
pub mod preview;
pub(crate) mod store;

use futures::try_join;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::end::{expire_addons, refuse_devices, refuse_stripes_addons};
use self::model::{
    Addons, Detail, Life, Mode, NewSubscription, SubscriptionChange, SubscriptionFilter,
    SubscriptionSummary, SubscriptionUpdate,
};
use crate::base::caller::Person;
use crate::base::fields::{Change, Description, Note};
use crate::base::ids::SubscriptionId;
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::family::Family;
use crate::domain::families::not_found;
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::domain::idempotency::model::Key;
use crate::domain::outbox::charge_for_slots;
use crate::domain::{allocations, audit, devices, families, idempotency, outbox, plans, tenants};
use crate::{Error, Result};

/// How many devices a detail shows.
const SHOWN_DEVICES: i64 = 100;

/// A page of subscriptions, those that end first first.
///
/// # Errors
/// `Database`.
pub async fn list(
    db: &Db,
    filter: &SubscriptionFilter,
    page: &Page<(Timestamp, SubscriptionId)>,
    now: Timestamp,
) -> Result<Slice<SubscriptionSummary>> {
    let rows = store::list(&db.connection().await?, filter, page, now).await?;
    let listed = rows.into_iter().map(|(subscription, tenant_name, root)| SubscriptionSummary {
        effective_status: subscription.status.worse(root),
        subscription,
        tenant_name,
    });
    Ok(page.cut(listed.collect(), |listed| {
        (listed.subscription.term_end, listed.subscription.subscription_id.clone())
    }))
}

/// One subscription with its devices, slots and ADDONs.
///
/// # Errors
/// `subscription_not_found`.
pub async fn get(db: &Db, id: &SubscriptionId) -> Result<Detail> {
    let db = db.connection().await?;
    let family = families::locks::find(&db, id).await?.ok_or_else(not_found)?;
    let subscription = family.member(id).ok_or_else(not_found)?.clone();
    let (device_count, devices) = devices::store::on(&db, id, SHOWN_DEVICES).await?;
    let tenant_name = tenants::store::name(&db, &subscription.tenant_id).await?;
    Ok(Detail {
        device_count,
        devices,
        allocations: allocations::view(&db, &family, id).await?,
        child_subscriptions: if family.root.subscription_id == *id {
            family.addons.clone()
        } else {
            Vec::new()
        },
        listed: SubscriptionSummary {
            effective_status: family.effective_status(&subscription),
            subscription,
            tenant_name,
        },
    })
}

/// Creates a subscription that is paid outside Stripe. It has no slots yet: a sync, or allocations
/// by hand, give it some.
///
/// # Errors
/// `tenant_not_found`, `tenant_deleted`, `plan_not_found`, `term_required`, `parent_required`,
/// `parent_not_found`, `parent_not_main`, `parent_not_live`, `parent_ended`; `Invalid`; those of
/// the idempotency key.
pub async fn create(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    new: NewSubscription,
    now: Timestamp,
) -> Result<SubscriptionSummary> {
    let is_addon = new.subscription_type == SubscriptionType::Addon;
    if !is_addon && new.parent_subscription_id.is_some() {
        return Err(Error::invalid("parent_subscription_id", "is only for an ADDON"));
    }
    model::only_one_end(&new)?;
    let tx = db.begin().await?;
    if let Some(made) = idempotency::earlier(&tx, key, now).await? {
        return Ok(made);
    }
    let tenant_name = tenants::store::share(&tx, &new.tenant_id).await?;
    let plan = match &new.plan_id {
        Some(plan) => {
            Some(plans::store::find(&tx, plan).await?.ok_or_else(plans::model::not_found)?)
        }
        None => None,
    };
    let (term, root) = if is_addon {
        let parent = new.parent_subscription_id.as_ref();
        let parent = parent.ok_or_else(|| {
            Error::malformed("parent_required", "ADDON requires parent_subscription_id")
        })?;
        let family = families::locks::lock(&tx, parent).await?;
        let family = family
            .ok_or_else(|| Error::not_found("parent_not_found", "Parent subscription not found"))?;
        let start = new.term_start.map_or(now, crate::base::fields::DateTime::get);
        parent_can_take(&family, parent, &new, start)?;
        ((start, family.root.term_end), family.root.status)
    } else {
        (model::first_term(&new, now)?, Status::Active)
    };
    let id = families::rows::next_id(&tx, now).await?;
    let subscription = Subscription {
        parent_subscription_id: new.parent_subscription_id,
        plan_id: new.plan_id,
        device_limit: new.device_limit.get_i32(),
        limits: plan.map(|plan| plan.limits),
        description: new.description.map(Description::into_string),
        ..Subscription::new(id, new.tenant_id, new.subscription_type, term, &by.id, now)
    };
    families::rows::insert(&tx, &subscription).await?;
    let details = explained(new.notes.as_ref(), new.transaction_ref.as_ref(), json!({}));
    record(&tx, AuditEvent::SubscriptionCreated, by, None, &subscription, details, now).await?;
    let made = SubscriptionSummary {
        effective_status: subscription.status.worse(root),
        subscription,
        tenant_name,
    };
    idempotency::keep(&tx, key, &made, now).await?;
    tx.commit().await?;
    Ok(made)
}

fn parent_can_take(
    family: &Family,
    parent: &SubscriptionId,
    new: &NewSubscription,
    start: Timestamp,
) -> Result<()> {
    let root = &family.root;
    if root.subscription_id != *parent || root.subscription_type != SubscriptionType::Main {
        return Err(Error::malformed("parent_not_main", "Parent must be MAIN subscription"));
    }
    if root.tenant_id != new.tenant_id {
        return Err(Error::malformed(
            "parent_of_another_tenant",
            "Parent belongs to different tenant",
        ));
    }
    if !root.status.is_live() {
        return Err(Error::malformed(
            "parent_not_live",
            format!("Parent subscription is {}", root.status.as_str()),
        ));
    }
    if root.term_end <= start {
        return Err(Error::malformed(
            "parent_ended",
            "The parent's term has ended, and an ADDON ends with its parent",
        ));
    }
    Ok(())
}

/// Changes a subscription, and what follows from the change: the slots of another plan, the terms
/// of its ADDONs.
///
/// # Errors
/// `subscription_not_found`, `version_changed`, `no_fields`, `plan_not_found`, `addon_term`,
/// `stripe_managed`, `devices_assigned`; `Invalid`.
pub async fn update(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    if_match: &IfMatch,
    update: SubscriptionUpdate,
    now: Timestamp,
) -> Result<SubscriptionChange> {
    let tx = db.begin().await?;
    let change = update_in(&tx, by, id, if_match, update, now).await?;
    if change.updated {
        tx.commit().await?;
    }
    Ok(change)
}

/// The same in a transaction that the caller commits, or not.
async fn update_in(
    tx: &Transaction,
    by: &Person,
    id: &SubscriptionId,
    if_match: &IfMatch,
    update: SubscriptionUpdate,
    now: Timestamp,
) -> Result<SubscriptionChange> {
    let plan = async {
        match &update.plan_id {
            Change::Set(plan) => plans::store::find(tx, plan).await,
            Change::Keep => Ok(None),
        }
    };
    let (family, plan) = try_join!(families::locks::lock(tx, id), plan)?;
    let family = family.ok_or_else(not_found)?;
    let before = family.member(id).ok_or_else(not_found)?.clone();
    if_match.check(before.version)?;
    if update.only_explains() && !matches!(update.mode, Change::Set(Mode::Hold)) {
        return Err(Error::malformed("no_fields", "No updates provided"));
    }
    if plan.is_none() && update.plan_id.is_set() {
        return Err(plans::model::not_found());
    }
    let (notes, reference) = (set(&update.notes), set(&update.transaction_ref));

    let mut after = update.applied_to(&before, family.root.term_end, plan.as_ref(), &by.id, now)?;
    if after == before {
        return Ok(SubscriptionChange { subscription: before, updated: false, event_type: None });
    }
    (after.version, after.updated_at) = (before.version + 1, now);
    let event_type = families::subscription::event_type(&before, &after);
    let follow_up = model::follow_up(&before, &after);
    match follow_up.life {
        Life::Ends => {
            refuse_devices(&family, id)?;
            refuse_stripes_addons(&family, id)?;
        }
        // A deleted tenant's stays dead; and this one is not deleted before the commit.
        Life::Returns => {
            tenants::store::share(tx, &before.tenant_id).await?;
        }
        Life::GoesOn => {}
    }
    let moved = match follow_up.addons {
        Addons::Move => model::moved_addons(&family, after.term_end, now)?,
        Addons::Stay | Addons::End => Vec::new(),
    };

    families::rows::save(tx, &after).await?;
    if let (true, Some(stripe)) = (follow_up.ends_hold, after.stripe_id()) {
        // What came meanwhile was kept and not applied.
        outbox::insert_stripe_sync(tx, &after.tenant_id, stripe, now).await?;
    }
    let slots = if follow_up.changes_plan {
        json!({"tier_slots": allocations::take_plan(tx, &family, &after, before.plan_id.as_ref(),
            now).await?})
    } else {
        json!({})
    };
    record(
        tx,
        event_type,
        by,
        Some(&before),
        &after,
        explained(notes.as_ref(), reference.as_ref(), slots),
        now,
    )
    .await?;
    if follow_up.addons == Addons::End {
        expire_addons(tx, by, &family, now).await?;
    }
    for (addon, moved) in &moved {
        families::rows::save(tx, moved).await?;
        let event_type = families::subscription::event_type(addon, moved);
        let details = Some(json!({"with_parent": family.root.subscription_id}));
        record(tx, event_type, by, Some(addon), moved, details, now).await?;
    }
    if follow_up.charges_slots {
        charge_for_slots(tx, &family, now).await?;
    }
    Ok(SubscriptionChange { subscription: after, updated: true, event_type: Some(event_type) })
}

fn set(note: &Change<Note>) -> Option<Note> {
    match note {
        Change::Set(note) => Some(note.clone()),
        Change::Keep => None,
    }
}

/// The audit's details: why, by what, and what else happened; none where there is nothing to say.
fn explained(notes: Option<&Note>, reference: Option<&Note>, mut details: Value) -> Option<Value> {
    for (name, note) in [("notes", notes), ("transaction_ref", reference)] {
        if let Some(note) = note {
            details[name] = json!(note.as_str());
        }
    }
    (details != json!({})).then_some(details)
}

async fn record(
    tx: &Transaction,
    event_type: AuditEvent,
    by: &Person,
    before: Option<&Subscription>,
    after: &Subscription,
    details: Option<Value>,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        tenant: Some(&after.tenant_id),
        subscription: Some(&after.subscription_id),
        previous_state: before.map(|before| json!(before)),
        new_state: Some(json!(after)),
        details,
        ..Entry::new(event_type, Actor::Operator(by), now)
    };
    audit::store::insert(tx, &entry).await
}
