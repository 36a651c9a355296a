//! The sync of a subscription that we have: whichever event is about it, a snapshot is read from
//! Stripe, and applied under the root's lock (docs/events.md, "Subscriptions").

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kind::{EventKind, InvoiceEvent};
use super::model::{Envelope, EventStatus};
use super::resolve::{Resolved, resolve};
use super::snapshot::{Snapshot, SnapshotCache};
use super::stripe_state::{StatusMapping, StripeState, map_status};
use super::vain::without_access;
use super::{Applier, currency, items, store, stripe_state};
use crate::base::error::Service;
use crate::base::fault::Point;
use crate::base::ids::{StripeEventId, StripePriceId, StripeSubscriptionId, SubscriptionId};
use crate::base::{fault, fields};
use crate::db::{Transaction, wrote_null};
use crate::domain::audit::model::{Actor, AuditEvent, Entry, StripeCause};
use crate::domain::families::family::Family;
use crate::domain::families::rows::Synced;
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::domain::flags::model::{About, Flag, FlagKind};
use crate::domain::plans::model::Plan;
use crate::domain::{allocations, audit, families, flags, outbox, tenants};
use crate::{Error, Result};

/// How often a snapshot is read again because another sync was faster.
const READS: u32 = 4;

/// What is recorded of an invoice event that an operator must see, whatever the state says: the
/// audit's event type and the flag's kind.
fn notable(event: InvoiceEvent) -> Option<(AuditEvent, FlagKind)> {
    match event {
        InvoiceEvent::ActionRequired => {
            Some((AuditEvent::StripePaymentActionRequired, FlagKind::PaymentActionRequired))
        }
        InvoiceEvent::FinalizationFailed => {
            Some((AuditEvent::StripeFinalizationFailed, FlagKind::FinalizationFailed))
        }
        InvoiceEvent::Paid | InvoiceEvent::Other => None,
    }
}

/// Why a subscription is synced.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    /// An event says that it may have changed.
    Event(&'a Envelope),
    /// A hold was released, or it is overdue.
    Requested,
    /// It differs from what was applied last, and no event said so.
    Drift,
}

impl<'a> Cause<'a> {
    fn event(self) -> Option<&'a Envelope> {
        match self {
            Self::Event(event) => Some(event),
            Self::Requested | Self::Drift => None,
        }
    }
}

impl Applier {
    /// Syncs a subscription without an event: after a hold, or where it is overdue. False where we
    /// do not have it.
    ///
    /// # Errors
    /// `Upstream`, `Database`; what makes an event fail.
    pub async fn catch_up(&self, id: &StripeSubscriptionId) -> Result<bool> {
        Ok(self
            .sync_with_stripe(id, Cause::Requested, &mut SnapshotCache::default())
            .await?
            .is_some())
    }

    /// What became of the event, and whether the sync changed anything; none where we do not have
    /// the subscription.
    pub(super) async fn sync_with_stripe(
        &self,
        id: &StripeSubscriptionId,
        cause: Cause<'_>,
        snapshots: &mut SnapshotCache,
    ) -> Result<Option<(EventStatus, bool)>> {
        let seen = families::rows::find_synced(&self.db.connection().await?, id).await?;
        self.sync_seen(id, seen, cause, snapshots).await
    }

    /// The number of syncs in `seen` is read before Stripe is, and compared under the lock.
    pub(super) async fn sync_seen(
        &self,
        id: &StripeSubscriptionId,
        mut seen: Option<Synced>,
        cause: Cause<'_>,
        snapshots: &mut SnapshotCache,
    ) -> Result<Option<(EventStatus, bool)>> {
        for _ in 0..READS {
            let Some((own, sync)) = seen else { return Ok(None) };
            let snapshot = match snapshots.of(id, sync) {
                Some(snapshot) => snapshot,
                None => self.read_snapshot(id).await?,
            };
            fault::point(Point::SnapshotRead);
            let done = self.try_sync(&own, sync, cause, &snapshot).await;
            let done = done.map_err(|error| match cause.event() {
                Some(event) if wrote_null(&error, "stripe_events") => {
                    let detail = format!("another delivery of {} was faster", event.id);
                    Error::conflict("event_final", detail)
                }
                _ => error,
            })?;
            if let Some(done) = done {
                snapshots.keep(id, sync + 1, snapshot);
                return Ok(Some(done));
            }
            seen = families::rows::find_synced(&self.db.connection().await?, id).await?;
        }
        Err(Error::unavailable(
            Service::Stripe,
            format!("subscription {id} is changing faster than it can be read"),
        ))
    }

    /// None where another snapshot was applied since `sync`.
    async fn try_sync(
        &self,
        own: &SubscriptionId,
        sync: i64,
        cause: Cause<'_>,
        snapshot: &Snapshot,
    ) -> Result<Option<(EventStatus, bool)>> {
        let now = self.clock.now();
        let event = cause.event();
        let tx = self.db.begin().await?;
        let named =
            fields::filled(snapshot.subscription.metadata.get("plan_id").map(String::as_str));
        let recorded = async {
            match event {
                Some(event) => store::lock_customer(&tx, event).await,
                None => Ok(None),
            }
        };
        let (recorded, family, resolved) = futures::join!(
            recorded,
            families::locks::lock(&tx, own),
            resolve(&tx, &snapshot.subscription, named.as_deref())
        );
        if let Some(status) = recorded?.filter(|status| status.is_final()) {
            return Ok(Some((status, false)));
        }
        let family = family?.ok_or_else(families::not_found)?;
        let before = family.member(own).ok_or_else(families::not_found)?;
        if before.stripe.as_ref().is_none_or(|link| link.sync != sync) {
            // An older snapshot that does not resolve is no error.
            return Ok(None);
        }
        let resolved = resolved?;
        let plan = paid_plan(&resolved, before).map(|plan| &plan.plan_id);
        let actor = Actor::Stripe(StripeCause {
            subscription: before.stripe_id().map(|id| (id, snapshot.subscription.status.as_str())),
            plan: plan.or(before.plan_id.as_ref()),
            invoice: event
                .filter(|event| matches!(event.kind, EventKind::Invoice(_)))
                .and_then(Envelope::object_id),
        });
        let subscription_sync =
            SubscriptionSync { tx: &tx, family: &family, before, snapshot, cause, actor, now };
        let changed = subscription_sync.apply(&resolved).await?;
        currency::keep(&tx, &resolved.currencies, actor, event.map(|event| &event.id), now).await?;
        fault::point(Point::SyncApplied);
        if let Some(event) = event {
            subscription_sync.record_notable(event).await?;
        }
        tx.commit().await?;
        fault::point(Point::SyncCommitted);
        tracing::info!(tenant.id = %family.root.tenant_id, subscription.id = %own, changed,
            "subscription synced");
        Ok(Some((EventStatus::Applied, changed)))
    }
}

/// The plan that is paid for. The metadata is the checkout's, and may name a plan that was left
/// since: it counts only where there is no plan yet, or where it is that plan and is paid by the
/// same price.
fn paid_plan<'a>(resolved: &'a Resolved<'_>, before: &Subscription) -> Option<&'a Plan> {
    resolved.plan.as_ref().filter(|plan| {
        resolved.by_price
            || before.plan_id.is_none()
            || (before.plan_id.as_ref() == Some(&plan.plan_id)
                && resolved.price.as_ref() == price(before))
    })
}

fn price(subscription: &Subscription) -> Option<&StripePriceId> {
    subscription.stripe.as_ref()?.price_id.as_ref()
}

/// One snapshot in its transaction, its family locked.
pub(super) struct SubscriptionSync<'a> {
    pub(super) tx: &'a Transaction,
    pub(super) family: &'a Family,
    pub(super) before: &'a Subscription,
    snapshot: &'a Snapshot,
    cause: Cause<'a>,
    pub(super) actor: Actor<'a>,
    pub(super) now: Timestamp,
}

impl SubscriptionSync<'_> {
    /// Saves what the snapshot changes, of the subscription and of what depends on it, and what
    /// became of the event. False where nothing changed.
    async fn apply(&self, resolved: &Resolved<'_>) -> Result<bool> {
        let (before, snapshot) = (self.before, self.snapshot);
        let is_addon = before.subscription_type == SubscriptionType::Addon;
        let slots = (is_addon && !resolved.slots.is_empty()).then_some(&resolved.slots);
        let plan = paid_plan(resolved, before);
        let mut state =
            snapshot.state(resolved.item, resolved.price.as_ref(), (plan, resolved.quantity))?;
        state.slots = slots.map(|_| items::devices(&resolved.slots));
        let mut after = state.applied_to(before, is_addon.then_some(&self.family.root));
        self.warn(&state, resolved, slots.is_some(), before).await?;
        let mut tier_slots = Value::Null;
        if before.hold.is_none() {
            if (&after.plan_id, after.quantity) != (&before.plan_id, before.quantity)
                && slots.is_none()
            {
                tier_slots = allocations::take_plan(
                    self.tx,
                    self.family,
                    &after,
                    before.plan_id.as_ref(),
                    self.now,
                )
                .await?;
            } else if let Some(slots) = slots {
                tier_slots = allocations::take_slots(
                    self.tx,
                    self.family,
                    &after.subscription_id,
                    slots,
                    self.now,
                )
                .await?;
            }
        }
        let is_other = after.plan_id != before.plan_id
            || price(&after) != price(before)
            || !tier_slots.is_null();
        self.settle_unresolved(resolved, slots.is_some(), is_other).await?;
        let of_items = self.follow_items(&resolved.slots, &mut after).await?;
        if after == *before && tier_slots.is_null() && of_items.is_empty() {
            let reason =
                if before.hold.is_some() { "held: kept beside ours" } else { "nothing new" };
            families::rows::count_sync(self.tx, &before.subscription_id).await?;
            self.finish(Some(reason)).await?;
            return Ok(false);
        }
        if after.status.is_live() && !before.status.is_live() {
            // A deleted tenant's stays dead; and this one is not deleted before the commit.
            tenants::store::share(self.tx, &before.tenant_id).await?;
        }
        let details = (!tier_slots.is_null()).then(|| json!({"tier_slots": tier_slots}));
        let mut counted = after.clone();
        if let Some(link) = &mut counted.stripe {
            link.sync += 1;
        }
        let is_paid =
            state.invoice_paid.is_some() && after.stripe_paid_until() > before.stripe_paid_until();
        if is_paid && state.invoice_paid > Some(0) {
            self.warn_of_vain_payment(&after).await?;
        }
        let change = stripe_state::event_type(before, &counted, is_paid);
        self.save(before, counted, change, details).await?;
        self.finish(None).await?;
        if before.subscription_type == SubscriptionType::Main {
            self.carry_addons(&after, &of_items, is_paid).await?;
            if price(&after) != price(before) {
                // By another interval, slots have another price.
                outbox::charge_for_slots(self.tx, self.family, self.now).await?;
            }
        }
        Ok(true)
    }

    /// Flags what an operator must look at, once when it begins.
    async fn warn(
        &self,
        state: &StripeState<'_>,
        resolved: &Resolved<'_>,
        brings_slots: bool,
        before: &Subscription,
    ) -> Result<()> {
        let (id, link) = (&before.subscription_id, before.stripe.as_ref());
        if map_status(state.status, Some(before.status)) == StatusMapping::Unknown
            && link.is_none_or(|link| link.status.as_deref() != Some(state.status))
        {
            self.flag(
                FlagKind::UnknownStripeStatus,
                format!(
                    "{id} is {:?} at Stripe, which nothing here knows; it stays {}",
                    state.status,
                    before.status.as_str()
                ),
            )
            .await?;
        }
        if state.is_collection_paused && !link.is_some_and(|link| link.collection_paused) {
            self.flag(
                FlagKind::CollectionPaused,
                format!("Stripe makes invoices for {id}, and does not collect them"),
            )
            .await?;
        }
        if !resolved.by_price
            && !brings_slots
            && resolved.price.is_some()
            && resolved.price.as_ref() != price(before)
        {
            let entry = Entry {
                details: Some(
                    json!({"stripe_price_id": resolved.price, "plan_id": before.plan_id}),
                ),
                ..self.entry(AuditEvent::PlanUnresolved, &before.subscription_id)
            };
            audit::store::insert(self.tx, &entry).await?;
            self.flag(
                FlagKind::PlanUnresolved,
                format!("{id} pays by a price that is no plan's; it keeps what it has"),
            )
            .await?;
        }
        Ok(())
    }

    /// Ends the flags which say that its price is no plan's, now that it is one's. Only where
    /// what it pays for is another thing, or the sync was asked for: any other sync finds what the
    /// one before it found.
    async fn settle_unresolved(
        &self,
        resolved: &Resolved<'_>,
        brings_slots: bool,
        is_other: bool,
    ) -> Result<()> {
        let is_known = resolved.by_price || brings_slots;
        let may_be_news = is_other || matches!(self.cause, Cause::Requested);
        if !is_known || !may_be_news || self.before.hold.is_some() {
            return Ok(());
        }
        let about = About::Subscription(&self.before.subscription_id);
        let note = "Its price is mapped by now";
        flags::settle(self.tx, &[FlagKind::PlanUnresolved], about, note, self.actor, self.now).await
    }

    /// Flags money that buys nothing: an operator must refund it, or give access.
    async fn warn_of_vain_payment(&self, after: &Subscription) -> Result<()> {
        let id = &after.subscription_id;
        let parent = Some(&self.family.root).filter(|root| *id != root.subscription_id);
        let Some(blocked) = without_access(after, parent) else { return Ok(()) };
        let detail = format!(
            "an invoice of {id} was paid, and {} is {}: it gives no access",
            blocked.subscription_id,
            blocked.status.as_str()
        );
        self.flag(FlagKind::PaidWithoutAccess, detail).await
    }

    /// What a MAIN's sync does to its ADDONs: they end with it, and when it does.
    /// `of_items` are those that the items have just changed. `is_paid`: an invoice of both was paid.
    async fn carry_addons(
        &self,
        root: &Subscription,
        of_items: &[Subscription],
        is_paid: bool,
    ) -> Result<()> {
        let details = || Some(json!({"with_parent": root.subscription_id}));
        let mut charged = Vec::new();
        for held in &self.family.addons {
            let is_it = |it: &&Subscription| it.subscription_id == held.subscription_id;
            let addon = of_items.iter().find(is_it).unwrap_or(held);
            if addon.status == Status::Expired {
                continue;
            }
            // Of items at Stripe: `follow_items` has done it.
            if addon.is_of_stripe_items() && root.status != Status::Expired {
                continue;
            }
            let own = addon.stripe.is_some();
            let mut after = addon.clone();
            if root.status == Status::Expired {
                if own {
                    charged.push(addon.subscription_id.as_str());
                    continue;
                }
                (after.status, after.grace_end) = (Status::Expired, None);
            } else {
                if addon.hold.is_some() {
                    continue;
                }
                let end = addon.stripe_paid_until().filter(|_| own).unwrap_or(root.term_end);
                (after.term_start, after.term_end) = root.term_of_addon((addon.term_start, end));
            }
            if after != *addon {
                let is_paid = is_paid && after.term_end > addon.term_end;
                let change = stripe_state::event_type(addon, &after, is_paid);
                self.save(addon, after, change, details()).await?;
            }
        }
        // Stripe may go on charging for it. It buys nothing, and an operator must end it.
        if charged.is_empty() || self.before.status == Status::Expired {
            return Ok(());
        }
        self.flag(
            FlagKind::AddonStillCharged,
            format!(
                "{} has ended, and Stripe still charges for {}",
                root.subscription_id,
                charged.join(", ")
            ),
        )
        .await
    }

    /// Records what became of the event.
    async fn finish(&self, reason: Option<&str>) -> Result<()> {
        let Some(event) = self.cause.event() else { return Ok(()) };
        let tenant = Some(&self.before.tenant_id);
        store::record_once(self.tx, event, EventStatus::Applied, reason, tenant, self.now).await
    }

    pub(super) async fn save(
        &self,
        before: &Subscription,
        changed: Subscription,
        change: AuditEvent,
        details: Option<Value>,
    ) -> Result<()> {
        let after = Subscription { version: before.version + 1, updated_at: self.now, ..changed };
        let (previous_state, new_state) = (Some(json!(before)), Some(json!(after)));
        let (event_type, details) = match self.cause {
            Cause::Drift => {
                (AuditEvent::StripeDriftRepaired, Some(json!({"change": change, "also": details})))
            }
            Cause::Event(_) | Cause::Requested => (change, details),
        };
        // The invoice that decided, whichever the event is about.
        let invoice = match change {
            AuditEvent::StripePaymentFailed => self.snapshot.unpaid.as_deref(),
            AuditEvent::StripeInvoicePaid => self.snapshot.paid_by.as_deref(),
            _ => None,
        };
        let entry = Entry {
            actor: self.actor.by_invoice(invoice),
            previous_state,
            new_state,
            details,
            ..self.entry(event_type, &before.subscription_id)
        };
        families::rows::save(self.tx, &after).await?;
        audit::store::insert(self.tx, &entry).await
    }

    /// Audits and flags an event that an operator must see.
    async fn record_notable(&self, event: &Envelope) -> Result<()> {
        let EventKind::Invoice(invoice) = event.kind else { return Ok(()) };
        let Some((event_type, flag)) = notable(invoice) else { return Ok(()) };
        let entry = self.entry(event_type, &self.before.subscription_id);
        audit::store::insert(self.tx, &entry).await?;
        self.flag(flag, format!("Stripe: {} of {}", event.event_type, self.before.subscription_id))
            .await
    }

    pub(super) fn event(&self) -> Option<&StripeEventId> {
        self.cause.event().map(|event| &event.id)
    }

    fn entry<'b>(&'b self, event_type: AuditEvent, subscription: &'b SubscriptionId) -> Entry<'b> {
        let tenant = Some(&self.before.tenant_id);
        Entry {
            tenant,
            subscription: Some(subscription),
            stripe_event: self.event(),
            ..Entry::new(event_type, self.actor, self.now)
        }
    }

    pub(super) async fn flag(&self, kind: FlagKind, detail: String) -> Result<()> {
        let flag = Flag {
            kind: kind.into(),
            tenant: Some(&self.before.tenant_id),
            subscription: Some(&self.before.subscription_id),
            stripe_event: self.event(),
            subject: None,
            detail,
        };
        flags::store::raise(self.tx, &flag, self.now).await
    }
}
