//! A checkout of slots beside a MAIN: an ADDON of the same family (docs/events.md, "Add-ons").

use serde_json::json;

use super::checkout::{Known, Provisioning, Verdict, description};
use super::items;
use super::model::EventStatus;
use super::sale::Purchase;
use super::snapshot::Snapshot;
use super::stripe_state::grace_end;
use crate::base::fault;
use crate::base::fault::Point;
use crate::base::ids::{AddonOrderId, SubscriptionId, TenantId};
use crate::domain::addons::model::{Order, OrderStatus};
use crate::domain::allocations::model::SlotLimit;
use crate::domain::audit::model::AuditEvent;
use crate::domain::families::family::Family;
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::domain::{addons, allocations, families, outbox};
use crate::{Error, Result};

impl Provisioning<'_> {
    /// A paid checkout that names a parent: of an order of ours, else with a Stripe subscription of
    /// its own.
    pub(super) async fn addon(&self, known: Result<Option<Known<'_>>>) -> Result<Verdict> {
        match (self.metadata("addon_order_id"), &self.checkout.snapshot) {
            (Some(order), _) => self.ordered(&order).await,
            (None, Some(snapshot)) => self.with_its_own(snapshot, known).await,
            (None, None) => Err(unknown_order("none")),
        }
    }

    /// The payment of an order: the ADDON is what the order says, whatever else the checkout says.
    async fn ordered(&self, named: &str) -> Result<Verdict> {
        let id = AddonOrderId::parse(named).map_err(|_| unknown_order(named))?;
        let parent = addons::store::find(self.tx, &id)
            .await?
            .ok_or_else(|| unknown_order(named))?
            .quote
            .parent_subscription_id;
        let (tenant, _) = self.tenant_of_addon(None).await?;
        let family = self.parent(&parent, &tenant).await?;
        let mut order =
            addons::store::lock(self.tx, &id).await?.ok_or_else(|| unknown_order(named))?;
        self.refuse_other_payment(&order, &tenant)?;
        if order.status == OrderStatus::Paid {
            return Ok(Verdict {
                tenant: Some(tenant),
                ..Verdict::of(EventStatus::Applied, "already provisioned")
            });
        }
        not_ended(&family)?;
        // From when its days were counted, until the parent's present end, which a renewal may have
        // moved since.
        let term = family.root.term_of_addon((order.created_at, family.root.term_end));
        let slots: Vec<SlotLimit> = order
            .quote
            .lines
            .iter()
            .map(|line| SlotLimit { tier_id: line.tier_id, slot_limit: line.additional_slots })
            .collect();
        let id = families::rows::next_id(self.tx, self.now).await?;
        let new = Subscription {
            parent_subscription_id: Some(parent),
            device_limit: order.slots(),
            ..self.sale(None).bought(id, &tenant, SubscriptionType::Addon, term, &description(None))
        };
        self.insert_addon(None, &family, &new, &slots).await?;
        self.sale(None).warn_of_vain_payment(&new, None, Some(&family.root)).await?;
        let addon = new.subscription_id;
        let before = json!(order);
        (order.status, order.subscription_id, order.stripe_checkout_session_id) =
            (OrderStatus::Paid, Some(addon.clone()), Some(self.checkout.id.clone()));
        addons::store::close(self.tx, &order, self.now).await?;
        self.sale(None)
            .audit(
                AuditEvent::AddonOrderPaid,
                &tenant,
                Some(&addon),
                Some(json!(order)),
                Some(before),
            )
            .await?;
        let wake_outbox = outbox::insert_addon_quantity(self.tx, &family.root, self.now).await?;
        fault::point(Point::ApplyStepsInserted);
        Ok(Verdict {
            status: EventStatus::Applied,
            tenant: Some(tenant),
            wake_outbox,
            ..Verdict::default()
        })
    }

    /// An ADDON that Stripe charges for by itself: it follows its own Stripe subscription, never
    /// beyond its parent's term.
    async fn with_its_own<'a>(
        &self,
        snapshot: &'a Snapshot,
        known: Result<Option<Known<'a>>>,
    ) -> Result<Verdict> {
        let purchase = match self.purchase(snapshot, known).await? {
            Ok(purchase) => purchase,
            Err(verdict) => return Ok(verdict),
        };
        let named = self.metadata("parent_subscription_id").unwrap_or_default();
        let parent = SubscriptionId::parse(&named).map_err(|_| unknown_parent(&named))?;
        let (bought, status, state) = (&purchase.resolved, purchase.status, purchase.state()?);
        let (tenant, _) = self.tenant_of_addon(Some(&purchase)).await?;
        let family = self.parent(&parent, &tenant).await?;
        not_ended(&family)?;
        let term = family.root.term_of_addon(state.paid_term.unwrap_or(state.period));
        // With slots of its own, a plan that its metadata names is the parent's: its limits must
        // not count twice.
        let of_plan = bought.plan.as_ref().filter(|_| bought.slots.is_empty());
        let id = families::rows::next_id(self.tx, self.now).await?;
        let description = description(of_plan);
        let mut new = Subscription {
            parent_subscription_id: Some(parent),
            status,
            grace_end: grace_end(status, state.unpaid_since),
            device_limit: items::devices(&bought.slots),
            stripe: Some(state.link(&purchase.stripe_id, None)),
            ..self.sale(Some(&purchase)).bought(
                id,
                &tenant,
                SubscriptionType::Addon,
                term,
                &description,
            )
        };
        let slots = match of_plan {
            Some(plan) => {
                plan.give(&mut new, bought.quantity);
                allocations::store::plan_defaults(self.tx, &plan.plan_id, new.quantity).await?
            }
            None => bought.slots.clone(),
        };
        self.insert_addon(Some(&purchase), &family, &new, &slots).await?;
        self.sale(Some(&purchase))
            .warn_of_vain_payment(&new, state.invoice_paid, Some(&family.root))
            .await?;
        let addon = new.subscription_id;
        if of_plan.is_none() && bought.slots.is_empty() {
            self.sale(Some(&purchase)).unresolved(&tenant, &addon).await?;
        }
        fault::point(Point::ApplyStepsInserted);
        Ok(Verdict { status: EventStatus::Applied, tenant: Some(tenant), ..Verdict::default() })
    }

    /// No payment came: its order, if it is one of ours, is over.
    pub(super) async fn expired(&self) -> Result<Verdict> {
        let over = Verdict {
            closes_checkout: true,
            ..Verdict::of(EventStatus::Applied, "the checkout expired")
        };
        let Some(id) = self.metadata("addon_order_id").and_then(|id| AddonOrderId::parse(&id).ok())
        else {
            return Ok(Verdict { status: EventStatus::Ignored, ..over });
        };
        let Some(mut order) = addons::store::lock(self.tx, &id).await? else {
            return Ok(Verdict { status: EventStatus::Ignored, ..over });
        };
        let tenant = order.tenant_id.clone();
        if order.status == OrderStatus::Open
            && order
                .stripe_checkout_session_id
                .as_ref()
                .is_none_or(|session| *session == self.checkout.id)
        {
            let before = json!(order);
            (order.status, order.stripe_checkout_session_id) =
                (OrderStatus::Expired, Some(self.checkout.id.clone()));
            addons::store::close(self.tx, &order, self.now).await?;
            self.sale(None)
                .audit(
                    AuditEvent::AddonOrderExpired,
                    &tenant,
                    Some(&order.quote.parent_subscription_id),
                    Some(json!(order)),
                    Some(before),
                )
                .await?;
        }
        Ok(Verdict { tenant: Some(tenant), ..over })
    }

    /// Who paid. An add-on never makes a tenant: it must name one, or its customer must be known.
    async fn tenant_of_addon(&self, bought: Option<&Purchase<'_>>) -> Result<(TenantId, bool)> {
        if self.payer.is_none() && self.metadata("tenant_id").is_none() {
            return Err(Error::conflict(
                "unknown_tenant",
                "the paid add-on names no tenant, and nobody has its customer",
            ));
        }
        self.tenant(bought).await
    }

    /// The parent's family, locked.
    async fn parent(&self, id: &SubscriptionId, tenant: &TenantId) -> Result<Family> {
        let family =
            families::locks::lock(self.tx, id).await?.ok_or_else(|| unknown_parent(id.as_str()))?;
        if family.root.tenant_id != *tenant {
            let detail = format!(
                "the paid add-on is for {id} of tenant {}, but tenant {tenant} paid",
                family.root.tenant_id
            );
            return Err(Error::conflict("parent_of_another_tenant", detail));
        }
        if family.root.subscription_id != *id
            || family.root.subscription_type != SubscriptionType::Main
        {
            return Err(Error::conflict(
                "parent_not_main",
                format!("the paid add-on is for {id}, which is no MAIN"),
            ));
        }
        Ok(family)
    }

    /// That the money is this order's: its tenant's, through its own checkout, and exactly its
    /// amount.
    fn refuse_other_payment(&self, order: &Order, tenant: &TenantId) -> Result<()> {
        let id = &order.order_id;
        if order.tenant_id != *tenant {
            return Err(Error::conflict(
                "order_of_another_tenant",
                format!("tenant {tenant} paid for {id}, which tenant {} ordered", order.tenant_id),
            ));
        }
        if let Some(session) = order
            .stripe_checkout_session_id
            .as_ref()
            .filter(|session| **session != self.checkout.id)
        {
            return Err(Error::conflict(
                "order_of_another_checkout",
                format!("{} was paid for {id}, whose checkout is {session}", self.checkout.id),
            ));
        }
        let session = &self.checkout.session;
        let (amount, currency) =
            (session.amount_subtotal, session.currency.as_deref().unwrap_or_default());
        if amount != Some(order.quote.amount_cents) || currency != order.quote.currency.as_str() {
            let detail = format!(
                "{id} costs {} {}, and its checkout asked for {amount:?} {currency}",
                order.quote.amount_cents, order.quote.currency
            );
            return Err(Error::conflict("order_amount_differs", detail));
        }
        Ok(())
    }

    /// The ADDON with its slots. The family's root is locked.
    async fn insert_addon(
        &self,
        bought: Option<&Purchase<'_>>,
        family: &Family,
        new: &Subscription,
        slots: &[SlotLimit],
    ) -> Result<()> {
        self.sale(bought).insert(new, AuditEvent::StripeCheckoutCompleted).await?;
        fault::point(Point::ApplySubscriptionInserted);
        if !slots.is_empty() {
            let addon = &new.subscription_id;
            let (_, after) =
                allocations::set_slots(self.tx, family, addon, slots, self.now).await?;
            self.sale(bought)
                .audit(
                    AuditEvent::TierAllocationsSynced,
                    &new.tenant_id,
                    Some(addon),
                    Some(json!(after)),
                    None,
                )
                .await?;
        }
        fault::point(Point::ApplySlotsInserted);
        Ok(())
    }
}

/// A parent that is over cannot have what was paid for: an operator refunds it, or brings the
/// parent back and replays. One that is suspended has it, and its use once it is paid again.
fn not_ended(family: &Family) -> Result<()> {
    if family.root.status != Status::Expired {
        return Ok(());
    }
    let id = &family.root.subscription_id;
    Err(Error::conflict(
        "parent_not_live",
        format!(
            "the add-on is paid, but its parent {id} is over: refund it, or bring the parent back \
             and replay"
        ),
    ))
}

fn unknown_order(named: &str) -> Error {
    Error::conflict(
        "unknown_order",
        format!("the paid add-on names the order {named:?}, which does not exist"),
    )
}

fn unknown_parent(named: &str) -> Error {
    Error::conflict(
        "unknown_parent",
        format!("the paid add-on names the parent {named:?}, which does not exist"),
    )
}
