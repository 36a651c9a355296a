//! A Stripe subscription that was begun without a checkout of ours becomes a MAIN of the tenant that
//! pays for it: because an operator asks for it, or by itself (docs/events.md, "Adoption";
//! docs/adr/0016-adopting-a-stripe-subscription.md).

use jiff::SignedDuration;
use serde_json::json;

use super::resolve::resolve;
use super::sale::{Purchase, Sale, first_status};
use super::snapshot::Snapshot;
use super::{Applier, currency, store};
use crate::base::caller::Person;
use crate::base::fields;
use crate::base::ids::{StripeCustomerId, StripeEventId, StripeSubscriptionId, TenantId};
use crate::domain::audit::model::{Actor, AuditEvent};
use crate::domain::events::model::Adoption;
use crate::domain::families::subscription::{Status, Subscription};
use crate::domain::flags::model::{About, FlagKind};
use crate::domain::idempotency::model::Key;
use crate::domain::{families, flags, idempotency, tenants};
use crate::outside::stripe;
use crate::{Error, Result};

/// How long the events of a checkout may take before its subscription is missed.
pub(super) const ARRIVAL: SignedDuration = SignedDuration::from_hours(1);

/// The metadata of a subscription that a checkout of ours, or of our site, began.
const OF_A_CHECKOUT: [&str; 4] = ["plan_id", "company_name", "tenant_id", "additional"];

/// The code of a refusal because it is one of ours already.
const KNOWN: &str = "stripe_subscription_known";

/// Who pays for a Stripe subscription that is not known here, as far as was said.
pub(super) struct Payer<'a> {
    pub(super) customer: Option<StripeCustomerId>,
    /// The tenant in its metadata.
    pub(super) named: Option<&'a str>,
}

/// Why it is adopted.
enum Cause<'a> {
    /// This person asks for it.
    Operator(&'a Person, Option<&'a Key>),
    /// Nothing but what Stripe says: by an event, or by Stripe's list.
    Itself(Option<&'a StripeEventId>),
}

impl Cause<'_> {
    fn actor<'a>(&'a self, purchase: &'a Purchase<'_>) -> Actor<'a> {
        match self {
            Self::Operator(person, _) => Actor::Operator(person),
            Self::Itself(_) => Actor::Stripe(purchase.cause()),
        }
    }
}

impl Applier {
    /// Adopts a Stripe subscription for an operator, who says whose it is.
    ///
    /// # Errors
    /// `stripe_subscription_not_found`, `tenant_not_found`; `Conflict`: those of `docs/events.md`,
    /// "Adoption"; `Upstream`; those of the key.
    pub async fn adopt_for(
        &self,
        by: &Person,
        key: Option<&Key>,
        new: &Adoption,
    ) -> Result<Subscription> {
        let id = &new.stripe_subscription_id;
        {
            // A repetition is answered without Stripe.
            let tx = self.db.begin().await?;
            if let Some(made) = idempotency::earlier(&tx, key, self.clock.now()).await? {
                return Ok(made);
            }
        }
        self.pace().await?;
        let found = self.stripe.find_subscription(id).await?.ok_or_else(|| {
            let detail = format!("Stripe knows no subscription '{id}'");
            Error::not_found("stripe_subscription_not_found", detail)
        })?;
        let snapshot = self.complete_snapshot(id, found).await?;
        self.adopt(id, &snapshot, &new.tenant_id, &Cause::Operator(by, key)).await
    }

    /// Adopts a Stripe subscription whose tenant is known by itself. True if it is one of ours now;
    /// what cannot be adopted is left to an operator.
    pub(super) async fn adopt_by_itself(
        &self,
        id: &StripeSubscriptionId,
        payer: &Payer<'_>,
        event: Option<&StripeEventId>,
    ) -> Result<bool> {
        // Most subscriptions that are not known here are not ours: those are not even read.
        let Some(tenant) = self.tenant_of(payer).await? else { return Ok(false) };
        let adopted = async {
            let snapshot = self.read_snapshot(id).await?;
            if !self.was_bought(id, &snapshot).await? {
                let detail = format!("nothing was paid yet for Stripe subscription '{id}'");
                return Err(Error::conflict("stripe_subscription_unpaid", detail));
            }
            self.adopt(id, &snapshot, &tenant, &Cause::Itself(event)).await
        };
        match adopted.await {
            Ok(made) => {
                tracing::info!(subscription.id = %made.subscription_id, tenant.id = %tenant,
                    "Stripe subscription adopted");
                Ok(true)
            }
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                tracing::info!(tenant.id = %tenant, code = error.code(),
                    "Stripe subscription not adopted");
                Ok(error.code() == KNOWN)
            }
        }
    }

    /// The tenant that the metadata names, else the customer's.
    async fn tenant_of(&self, payer: &Payer<'_>) -> Result<Option<TenantId>> {
        let named = payer.named.filter(|named| !named.trim().is_empty());
        let tx = self.db.begin().await?;
        if let Some(named) = named {
            let Ok(id) = TenantId::parse(named) else { return Ok(None) };
            return Ok(tenants::store::find(&tx, &id).await?.map(|tenant| tenant.tenant_id));
        }
        match &payer.customer {
            Some(customer) => tenants::store::find_by_customer(&tx, customer).await,
            None => Ok(None),
        }
    }

    async fn adopt(
        &self,
        id: &StripeSubscriptionId,
        snapshot: &Snapshot,
        tenant: &TenantId,
        cause: &Cause<'_>,
    ) -> Result<Subscription> {
        let now = self.clock.now();
        let (event, key) = match *cause {
            Cause::Operator(_, key) => (None, key),
            Cause::Itself(event) => (event, None),
        };
        let listed = &snapshot.subscription;
        let customer = listed
            .customer()?
            .ok_or_else(|| stripe::unreadable(format!("subscription {id} has no customer")))?;
        let tx = self.db.begin().await?;
        if let Some(made) = idempotency::earlier(&tx, key, now).await? {
            return Ok(made);
        }
        // A checkout of it holds the same lock: whichever comes second finds what the first made.
        tenants::store::lock_customers(&tx, tenant, Some(&customer)).await?;
        if let Some((own, _)) = families::rows::find_synced(&tx, id).await? {
            return Err(Error::conflict(
                KNOWN,
                format!("Stripe subscription '{id}' already pays for {own}"),
            ));
        }
        let named = |key: &str| fields::filled(listed.metadata.get(key).map(String::as_str));
        let is_young = listed.created().is_none_or(|created| created > now - ARRIVAL);
        let is_of_checkout = OF_A_CHECKOUT.iter().any(|key| named(key).is_some());
        let is_automatic = matches!(cause, Cause::Itself(_));
        let may_come = is_young && (is_automatic || is_of_checkout);
        if may_come || store::has_open_checkout(&tx, id).await? {
            return Err(Error::conflict(
                "checkout_under_way",
                format!(
                    "Stripe subscription '{id}' is left to its checkout, whose event waits, has \
                     failed, or may take an hour. Replay the event if it failed."
                ),
            ));
        }
        if named("parent_subscription_id").is_some() {
            return Err(Error::conflict(
                "stripe_subscription_of_addon",
                format!(
                    "Stripe subscription '{id}' pays for an ADDON, and only its checkout makes \
                         one: replay that"
                ),
            ));
        }
        let status = first_status(&listed.status)?.ok_or_else(|| {
            let detail = format!("Stripe subscription '{id}' waits for its first payment");
            Error::conflict("stripe_subscription_incomplete", detail)
        })?;
        if status == Status::Expired || (is_automatic && !status.is_live()) {
            let detail = format!("Stripe subscription '{id}' is {} at Stripe", listed.status);
            return Err(Error::conflict("stripe_subscription_ended", detail));
        }
        let owner =
            tenants::store::lock(&tx, tenant).await?.ok_or_else(tenants::model::not_found)?;
        if owner.is_deleted() {
            return Err(tenants::model::deleted(tenant));
        }
        let other = match named("tenant_id").and_then(|named| TenantId::parse(&named).ok()) {
            Some(other) => tenants::store::find(&tx, &other).await?.map(|other| other.tenant_id),
            None => None,
        };
        let others = [tenants::store::find_by_customer(&tx, &customer).await?, other];
        if let Some(other) = others.into_iter().flatten().find(|other| other != tenant) {
            return Err(Error::conflict(
                "customer_of_another_tenant",
                format!(
                    "Stripe subscription '{id}' is tenant '{other}'s, by its customer {customer} \
                     or its metadata"
                ),
            ));
        }
        let resolved = resolve(&tx, listed, named("plan_id").as_deref()).await?;
        if is_automatic && !resolved.by_price {
            let detail = format!("Stripe subscription '{id}' pays no plan's price");
            return Err(Error::conflict("no_plans_price", detail));
        }
        let purchase = Purchase { snapshot, stripe_id: id.clone(), status, resolved };
        let actor = cause.actor(&purchase);
        currency::keep(&tx, &purchase.resolved.currencies, actor, event, now).await?;
        let sale = Sale {
            tx: &tx,
            now,
            actor,
            event,
            session: None,
            metadata: &listed.metadata,
            is_paid: false,
            details: json!({"stripe_subscription_id": id, "stripe_customer_id": customer}),
        };
        sale.link(&owner, &customer).await?;
        let adopted = AuditEvent::StripeSubscriptionAdopted;
        let made = sale.make_main(&purchase, (tenant, false), "Begun at Stripe", adopted).await?;
        let kinds = [FlagKind::NeverMatched, FlagKind::StripeSubscriptionUnknown];
        let note = format!("Adopted as {}", made.subscription_id);
        flags::settle(&tx, &kinds, About::Subject(id.as_str()), &note, actor, now).await?;
        idempotency::keep(&tx, key, &made, now).await?;
        tx.commit().await?;
        Ok(made)
    }
}
