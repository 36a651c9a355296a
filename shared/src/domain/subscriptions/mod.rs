//! Subscriptions: what an operator does with them by hand, and what Stripe's statuses mean for them
//! (docs/subscriptions.md).

pub mod model;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use self::model::{Ending, Mode, NewSubscription, SubscriptionFilter, SubscriptionUpdate};
use crate::base::caller::Person;
use crate::base::fields::{Change, Description, Note};
use crate::base::ids::{StripeSubscriptionId, SubscriptionId};
use crate::base::paging::{Page, Slice};
use crate::base::version::{IfMatch, Versioned};
use crate::db::Db;
use crate::domain::allocations::model::AllocationView;
use crate::domain::audit::model::{Actor, Entry};
use crate::domain::devices::model::Device;
use crate::domain::families::family::Family;
use crate::domain::families::not_found;
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::domain::idempotency::model::Key;
use crate::domain::{allocations, audit, devices, families, idempotency, outbox, plans, tenants};
use crate::{Error, Result};

/// A subscription as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listed {
    /// As it is stored.
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Its tenant's.
    pub tenant_name: String,
    /// The worse of its own and its parent's status.
    pub effective_status: Status,
}

/// A subscription with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Detail {
    /// As lists show it.
    #[serde(flatten)]
    pub listed: Listed,
    /// How many devices are on it.
    pub device_count: i64,
    /// The first hundred of them, by id.
    pub devices: Vec<Device>,
    /// Its slots.
    pub allocations: Vec<AllocationView>,
    /// A MAIN's ADDONs.
    pub child_subscriptions: Vec<Subscription>,
}

impl Versioned for Detail {
    fn version(&self) -> i64 {
        self.listed.subscription.version
    }
}

impl Versioned for Listed {
    fn version(&self) -> i64 {
        self.subscription.version
    }
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Changed {
    /// As it is now.
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Whether anything changed.
    pub updated: bool,
    /// As the audit has it; none where nothing changed.
    pub event_type: Option<&'static str>,
}

impl Versioned for Changed {
    fn version(&self) -> i64 {
        self.subscription.version
    }
}

/// What became of an ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ended {
    /// `ok`.
    pub status: &'static str,
    /// Which.
    pub subscription_id: SubscriptionId,
    /// Those that this request ended, the ADDONs of a MAIN included.
    pub expired: Vec<SubscriptionId>,
    /// Whether Stripe was asked to cancel; its news then ends the subscription.
    pub stripe_cancellation: bool,
}

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
) -> Result<Slice<Listed>> {
    let rows = families::rows::list(&db.connection().await?, filter, page, now).await?;
    let listed = rows.into_iter().map(|(subscription, tenant_name, root)| Listed {
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
        listed: Listed {
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
) -> Result<Listed> {
    let is_addon = new.subscription_type == SubscriptionType::Addon;
    if !is_addon && new.parent_subscription_id.is_some() {
        return Err(Error::invalid("parent_subscription_id", "is only for an ADDON"));
    }
    model::only_one_end(&new)?;
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    if let Some(made) = idempotency::earlier(&tx, key, now).await? {
        return Ok(made);
    }
    let tenant_name = tenants::store::share(&tx, &new.tenant_id).await?;
    if let Some(plan) = &new.plan_id {
        plans::store::find(&tx, plan).await?.ok_or_else(plans::not_found)?;
    }
    let (term, root) = if is_addon {
        let parent = new.parent_subscription_id.as_ref();
        let parent = parent.ok_or_else(|| {
            Error::malformed("parent_required", "ADDON requires parent_subscription_id")
        })?;
        let family = families::locks::lock(&tx, parent).await?;
        let family = family
            .ok_or_else(|| Error::not_found("parent_not_found", "Parent subscription not found"))?;
        let start = new.term_start.map_or(now, crate::base::fields::Instant::get);
        parent_can_take(&family, parent, &new, start)?;
        ((start, family.root.term_end), family.root.status)
    } else {
        (model::first_term(&new, now)?, Status::Active)
    };
    let subscription = Subscription {
        subscription_id: families::rows::next_id(&tx, now).await?,
        tenant_id: new.tenant_id,
        subscription_type: new.subscription_type,
        parent_subscription_id: new.parent_subscription_id,
        status: Status::Active,
        plan_id: new.plan_id,
        device_limit: new.device_limit.get_i32(),
        active_device_count: 0,
        term_start: term.0,
        term_end: term.1,
        grace_end: None,
        description: new.description.map(Description::into_string),
        stripe_subscription_id: None,
        stripe_status: None,
        stripe_price_id: None,
        stripe_period_end: None,
        stripe_paid_until: None,
        stripe_cancel_at: None,
        stripe_collection_paused: false,
        stripe_sync: 0,
        hold_reason: None,
        held_by: None,
        held_at: None,
        created_by: by.id.clone(),
        version: 1,
        created_at: now,
        updated_at: now,
    };
    families::rows::insert(&tx, &subscription).await?;
    let details = explained(new.notes.as_ref(), new.transaction_ref.as_ref(), json!({}));
    record(&tx, "SUBSCRIPTION_CREATED", by, None, &subscription, details, now).await?;
    let made =
        Listed { effective_status: subscription.status.worse(root), subscription, tenant_name };
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
) -> Result<Changed> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let family = families::locks::lock(&tx, id).await?.ok_or_else(not_found)?;
    let before = family.member(id).ok_or_else(not_found)?.clone();
    if_match.check(before.version)?;
    if update.only_explains() && !matches!(update.mode, Change::Set(Mode::Hold)) {
        return Err(Error::malformed("no_fields", "No updates provided"));
    }
    let plan = match &update.plan_id {
        Change::Set(plan) => {
            Some(plans::store::find(&tx, plan).await?.ok_or_else(plans::not_found)?)
        }
        Change::Keep => None,
    };
    let (notes, reference) = (set(&update.notes), set(&update.transaction_ref));
    let mut after = update.applied_to(&before, family.root.term_end, plan.as_ref(), &by.id, now)?;
    if after == before {
        return Ok(Changed { subscription: before, updated: false, event_type: None });
    }
    if after.status == Status::Expired && before.status != Status::Expired {
        refuse_devices(&family, id)?;
        refuse_stripes_addons(&family, id)?;
    }
    if after.status.is_live() && !before.status.is_live() {
        // A deleted tenant's stays dead; and this one is not deleted before the commit.
        tenants::store::share(&tx, &before.tenant_id).await?;
    }
    (after.version, after.updated_at) = (before.version + 1, now);
    families::rows::save(&tx, &after).await?;
    if let (Some(_), None, Some(stripe)) =
        (&before.hold_reason, &after.hold_reason, &after.stripe_subscription_id)
    {
        // What came meanwhile was kept and not applied.
        outbox::insert_stripe_sync(&tx, &after.tenant_id, stripe, now).await?;
    }
    let slots = if after.plan_id == before.plan_id {
        json!({})
    } else {
        json!({"tier_slots": allocations::take_plan(&tx, &family, &after, before.plan_id.as_ref(),
            now).await?})
    };
    let event_type = families::subscription::event_type(&before, &after);
    record(
        &tx,
        event_type,
        by,
        Some(&before),
        &after,
        explained(notes.as_ref(), reference.as_ref(), slots),
        now,
    )
    .await?;
    if after.subscription_type == SubscriptionType::Main {
        follow(&tx, by, &family, &before, &after, now).await?;
    }
    if (after.status, &after.hold_reason) != (before.status, &before.hold_reason) {
        charge_for_slots(&tx, &family, now).await?;
    }
    tx.commit().await?;
    Ok(Changed { subscription: after, updated: true, event_type: Some(event_type) })
}

/// What a MAIN's change does to its ADDONs: they end with it, and when it does.
async fn follow(
    tx: &Transaction<'_>,
    by: &Person,
    family: &Family,
    before: &Subscription,
    after: &Subscription,
    now: Timestamp,
) -> Result<()> {
    if after.status == Status::Expired && before.status != Status::Expired {
        expire_addons(tx, by, family, now).await?;
    } else if after.term_end != before.term_end {
        for addon in family.addons.iter().filter(|addon| {
            addon.stripe_subscription_id.is_none() && addon.status != Status::Expired
        }) {
            if addon.term_start >= after.term_end {
                return Err(Error::invalid(
                    "term_end",
                    format!(
                        "must be after {}, when its ADDON {} begins",
                        addon.term_start, addon.subscription_id
                    ),
                ));
            }
            if addon.term_end != after.term_end {
                let moved = Subscription {
                    term_end: after.term_end,
                    version: addon.version + 1,
                    updated_at: now,
                    ..addon.clone()
                };
                families::rows::save(tx, &moved).await?;
                let details = Some(json!({"with_parent": family.root.subscription_id}));
                record(
                    tx,
                    families::subscription::event_type(addon, &moved),
                    by,
                    Some(addon),
                    &moved,
                    details,
                    now,
                )
                .await?;
            }
        }
    }
    Ok(())
}

async fn expire_addons(
    tx: &Transaction<'_>,
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

async fn expire(
    tx: &Transaction<'_>,
    by: &Person,
    before: &Subscription,
    details: Option<Value>,
    now: Timestamp,
) -> Result<()> {
    let after = Subscription {
        status: Status::Expired,
        grace_end: None,
        version: before.version + 1,
        updated_at: now,
        ..before.clone()
    };
    families::rows::save(tx, &after).await?;
    record(tx, "STATUS_EXPIRED", by, Some(before), &after, details, now).await
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
) -> Result<Ended> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let family = families::locks::lock(&tx, id).await?.ok_or_else(not_found)?;
    let before = family.member(id).ok_or_else(not_found)?.clone();
    if_match.check(before.version)?;
    let mut ended = Ended {
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
    match (ending.mode, &before.stripe_subscription_id) {
        (Some(_), None) => {
            return Err(Error::invalid("mode", "is only for a subscription that Stripe manages"));
        }
        (Some(Mode::Stripe), Some(stripe)) => {
            if before.hold_reason.is_some() {
                // Under a hold Stripe's word would not end it.
                (held.hold_reason, held.held_by, held.held_at) = (None, None, None);
                (held.version, held.updated_at) = (before.version + 1, now);
                families::rows::save(&tx, &held).await?;
                record(
                    &tx,
                    "UPDATED",
                    by,
                    Some(&before),
                    &held,
                    explained(ending.reason.as_ref(), None, json!({})),
                    now,
                )
                .await?;
            }
            ask_stripe(&tx, by, &before, stripe, ending.reason.as_ref(), now).await?;
            ended.stripe_cancellation = true;
            tx.commit().await?;
            return Ok(ended);
        }
        (Some(Mode::Hold), Some(_)) => {
            let reason = ending
                .reason
                .clone()
                .ok_or_else(|| Error::invalid("reason", "is required with mode=hold"))?;
            (held.hold_reason, held.held_by, held.held_at) =
                (Some(reason.into_string()), Some(by.id.clone()), Some(now));
        }
        (None, _) if before.is_stripe_managed() => return Err(model::stripe_managed()),
        (None, _) => {}
    }
    expire_with(&tx, by, &before, held, ending.reason.as_ref(), now).await?;
    ended.expired.push(id.clone());
    if family.root.subscription_id == *id {
        ended.expired.extend(expire_addons(&tx, by, &family, now).await?);
    }
    charge_for_slots(&tx, &family, now).await?;
    tx.commit().await?;
    Ok(ended)
}

/// Whichever ADDONs live from now on: what Stripe renews beside the MAIN is to be as much.
pub(crate) async fn charge_for_slots(
    tx: &Transaction<'_>,
    family: &Family,
    now: Timestamp,
) -> Result<()> {
    if !family.addons.is_empty() {
        outbox::insert_addon_quantity(tx, &family.root, now).await?;
    }
    Ok(())
}

async fn expire_with(
    tx: &Transaction<'_>,
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
    record(tx, "STATUS_EXPIRED", by, Some(before), &after, explained(reason, None, json!({})), now)
        .await
}

/// Leaves the cancellation to Stripe: its news, and not this request, ends the subscription.
async fn ask_stripe(
    tx: &Transaction<'_>,
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
        ..Entry::new("STRIPE_CANCEL_REQUESTED", Actor::Operator(by), now)
    };
    audit::store::insert(tx, &entry).await
}

fn refuse_devices(family: &Family, id: &SubscriptionId) -> Result<()> {
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
fn refuse_stripes_addons(family: &Family, id: &SubscriptionId) -> Result<()> {
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
    tx: &Transaction<'_>,
    event_type: &'static str,
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
