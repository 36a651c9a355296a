//! What was bought at Stripe becomes a MAIN, with all that belongs to one: by its checkout
//! (`checkout.rs`), or by its adoption (`adoption.rs`).

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::items;
use super::resolve::Resolved;
use super::snapshot::Snapshot;
use super::stripe_state::{StatusMapping, StripeState, grace_end, map_status};
use crate::base::fault::Point;
use crate::base::ids::{
    StripeCustomerId, StripeEventId, StripeSessionId, StripeSubscriptionId, SubscriptionId,
    TenantId,
};
use crate::base::{fault, fields};
use crate::db::Transaction;
use crate::domain::audit::model::{Actor, AuditEvent, Entry, StripeCause};
use crate::domain::families::family::Family;
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::domain::flags::model::{Flag, FlagKind};
use crate::domain::tenants::model::Tenant;
use crate::domain::{audit, devices, families, flags, tenants};
use crate::outside::stripe::Metadata;
use crate::{Error, Result};

/// A second live MAIN of one plan within this time was probably not meant.
const TWIN_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// A Stripe subscription that was paid for, and that nothing here was made of yet.
pub(super) struct Purchase<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) stripe_id: StripeSubscriptionId,
    /// The status that it begins with.
    pub(super) status: Status,
    pub(super) resolved: Resolved<'a>,
}

impl Purchase<'_> {
    /// Its state at Stripe.
    pub(super) fn state(&self) -> Result<StripeState<'_>> {
        let Resolved { item, price, plan, quantity, .. } = &self.resolved;
        self.snapshot.state(item, price.as_ref(), (plan.as_ref(), *quantity))
    }

    /// The same for the audit.
    pub(super) fn cause(&self) -> StripeCause<'_> {
        StripeCause {
            subscription: Some((&self.stripe_id, &self.snapshot.subscription.status)),
            plan: self.resolved.plan.as_ref().map(|plan| &plan.plan_id),
            invoice: None,
        }
    }
}

/// The status of a first row; none while there is to be no row.
pub(super) fn first_status(stripe: &str) -> Result<Option<Status>> {
    match map_status(stripe, None) {
        StatusMapping::Status(status) => Ok(Some(status)),
        StatusMapping::Keep => Ok(None),
        StatusMapping::Unknown => Err(Error::conflict(
            "unknown_stripe_status",
            format!("Stripe subscription status {stripe:?} is unknown"),
        )),
    }
}

/// One purchase in its transaction, and who says so.
pub(super) struct Sale<'a> {
    pub(super) tx: &'a Transaction,
    pub(super) now: Timestamp,
    pub(super) actor: Actor<'a>,
    /// The event that tells of it.
    pub(super) event: Option<&'a StripeEventId>,
    /// Its checkout.
    pub(super) session: Option<&'a StripeSessionId>,
    /// The session's, over the subscription's.
    pub(super) metadata: &'a Metadata,
    /// Whether the session was paid, and not for nothing.
    pub(super) is_paid: bool,
    /// What its audit rows say beside the states.
    pub(super) details: Value,
}

impl Sale<'_> {
    pub(super) fn named(&self, key: &str) -> Option<String> {
        fields::filled(self.metadata.get(key).map(String::as_str))
    }

    /// Makes a MAIN of it for a locked tenant, with slots, devices, and flags where something is
    /// odd. Audited as `event_type`.
    pub(super) async fn make_main(
        &self,
        purchase: &Purchase<'_>,
        (tenant, is_new): (&TenantId, bool),
        description: &str,
        event_type: AuditEvent,
    ) -> Result<Subscription> {
        let Purchase { resolved, status, .. } = purchase;
        let status = *status;
        let state = purchase.state()?;
        let plan = resolved.plan.as_ref();
        let (id, twin) = families::rows::next_id_and_twin(
            self.tx,
            tenant,
            plan.filter(|_| status.is_live()).map(|plan| &plan.plan_id),
            self.now - TWIN_WINDOW,
            self.now,
        )
        .await?;
        let term = state.paid_term.unwrap_or(state.period);
        let mut subscription = Subscription {
            status,
            grace_end: grace_end(status, state.unpaid_since),
            stripe: Some(state.link(&purchase.stripe_id, None)),
            ..self.bought(id, tenant, SubscriptionType::Main, term, description)
        };
        if let Some(plan) = plan {
            plan.give(&mut subscription, resolved.quantity);
        }
        let id = &subscription.subscription_id;
        self.insert(&subscription, event_type).await?;
        fault::point(Point::ApplySubscriptionInserted);
        self.slots(&subscription).await?;
        if !resolved.slots.is_empty() && status != Status::Expired {
            let root = subscription.clone();
            let family = Family { root, addons: Vec::new(), allocations: Vec::new() };
            let by = (self.actor, self.event);
            items::insert_addon(self.tx, &family, &subscription, &resolved.slots, by, self.now)
                .await?;
        }
        fault::point(Point::ApplySlotsInserted);
        if status.is_live() && !is_new {
            devices::adoption::adopt(self.tx, tenant, id, (self.actor, self.event), self.now)
                .await?;
        }
        self.warn_of_vain_payment(&subscription, state.invoice_paid, None).await?;
        if let Some(twin) = twin {
            let detail =
                format!("{id} is a second live MAIN of one plan within a day; the first is {twin}");
            self.flag(FlagKind::BoughtTwice, tenant, Some(id), detail).await?;
        } else if !is_new {
            self.warn_of_two(tenant, id).await?;
        }
        Ok(subscription)
    }

    /// A subscription as this purchase makes it.
    pub(super) fn bought(
        &self,
        id: SubscriptionId,
        tenant: &TenantId,
        subscription_type: SubscriptionType,
        term: (Timestamp, Timestamp),
        description: &str,
    ) -> Subscription {
        let by = self.actor.id();
        Subscription {
            description: Some(description.to_owned()),
            stripe_checkout_session_id: self.session.cloned(),
            ..Subscription::new(id, tenant.clone(), subscription_type, term, by, self.now)
        }
    }

    /// Inserts it, and audits that.
    pub(super) async fn insert(&self, new: &Subscription, event_type: AuditEvent) -> Result<()> {
        let (tenant, id) = (&new.tenant_id, Some(&new.subscription_id));
        families::rows::insert(self.tx, new).await?;
        self.audit(event_type, tenant, id, Some(json!(new)), None).await
    }

    /// Links the customer that paid to a locked tenant; one that has another keeps it, and gets an
    /// alias.
    pub(super) async fn link(&self, tenant: &Tenant, customer: &StripeCustomerId) -> Result<()> {
        let id = &tenant.tenant_id;
        match &tenant.stripe_customer_id {
            Some(linked) if linked == customer => {}
            Some(linked) => {
                if tenants::store::insert_alias(self.tx, id, customer, self.now).await? {
                    self.flag(
                        FlagKind::SecondCustomer,
                        id,
                        None,
                        format!(
                            "Stripe customer {customer} paid for the tenant, whose own is {linked}"
                        ),
                    )
                    .await?;
                }
            }
            None => {
                tenants::store::link_customer(self.tx, id, customer, self.now).await?;
                self.audit(
                    AuditEvent::TenantUpdated,
                    id,
                    None,
                    Some(json!({"stripe_customer_id": customer.as_str()})),
                    Some(json!({"stripe_customer_id": null})),
                )
                .await?;
            }
        }
        Ok(())
    }

    /// The slots that the plan brings, or word that no plan was found: what was paid for is never
    /// taken for the smallest plan.
    async fn slots(&self, new: &Subscription) -> Result<()> {
        let (tenant, subscription) = (&new.tenant_id, &new.subscription_id);
        if let Some(plan) = &new.plan_id {
            let slots = families::rows::insert_plan_defaults(
                self.tx,
                tenant,
                subscription,
                (plan, new.quantity),
                self.now,
            )
            .await?;
            if slots != json!([]) {
                self.audit(
                    AuditEvent::TierAllocationsSynced,
                    tenant,
                    Some(subscription),
                    Some(slots),
                    None,
                )
                .await?;
            }
            return Ok(());
        }
        self.unresolved(tenant, subscription).await
    }

    /// Says that no plan was found.
    pub(super) async fn unresolved(
        &self,
        tenant: &TenantId,
        subscription: &SubscriptionId,
    ) -> Result<()> {
        let named = self.named("plan_id");
        self.audit(
            AuditEvent::PlanUnresolved,
            tenant,
            Some(subscription),
            Some(json!({"plan_id": null, "device_limit": 0, "metadata_plan_id": named})),
            None,
        )
        .await?;
        self.flag(
            FlagKind::PlanUnresolved,
            tenant,
            Some(subscription),
            format!("{subscription} was paid, but no plan has its price or the name {named:?}"),
        )
        .await
    }

    pub(super) async fn audit(
        &self,
        event_type: AuditEvent,
        tenant: &TenantId,
        subscription: Option<&SubscriptionId>,
        new_state: Option<Value>,
        previous_state: Option<Value>,
    ) -> Result<()> {
        let entry = Entry {
            tenant: Some(tenant),
            subscription,
            stripe_event: self.event,
            previous_state,
            new_state,
            details: Some(self.details.clone()),
            ..Entry::new(event_type, self.actor, self.now)
        };
        audit::store::insert(self.tx, &entry).await
    }

    pub(super) async fn flag(
        &self,
        kind: FlagKind,
        tenant: &TenantId,
        subscription: Option<&SubscriptionId>,
        detail: String,
    ) -> Result<()> {
        let flag = Flag {
            kind: kind.into(),
            tenant: Some(tenant),
            subscription,
            stripe_event: self.event,
            subject: None,
            detail,
        };
        flags::store::raise(self.tx, &flag, self.now).await
    }
}
