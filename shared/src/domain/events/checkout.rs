//! A checkout at Stripe: who paid becomes a customer (docs/events.md, "Checkout").

use futures::{join, try_join};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kind::{CheckoutEvent, EventKind};
use super::model::{Envelope, EventStatus};
use super::resolve::{Resolved, resolve};
use super::sale::{Purchase, Sale, first_status};
use super::snapshot::Snapshot;
use super::{Applier, Outcome, currency, store};
use crate::base::fault::Point;
use crate::base::ids::{
    StripeCustomerId, StripePriceId, StripeSessionId, StripeSubscriptionId, TenantId,
};
use crate::base::{fault, fields};
use crate::db::Transaction;
use crate::domain::audit::model::{Actor, AuditEvent, StripeCause};
use crate::domain::families::subscription::Status;
use crate::domain::flags::model::FlagKind;
use crate::domain::plans::model::Plan;
use crate::domain::tenants::model::Tenant;
use crate::domain::{families, outbox, prices, tenants};
use crate::outside::keycloak;
use crate::outside::stripe;
use crate::outside::stripe::{CheckoutSession, Item, Metadata};
use crate::{Error, Result};

/// Why the events of a subscription change nothing that ended before its first payment.
pub(super) const NEVER_PAID: &str = "its Stripe subscription ended before it was paid";

/// What operators read of a subscription that a checkout made: with its plan, if it has one.
pub(super) fn description(plan: Option<&Plan>) -> String {
    let plan = plan.map(|plan| format!(" ({})", plan.plan_id)).unwrap_or_default();
    format!("Created via Stripe Checkout{plan}")
}

/// What Stripe says of the checkout now, all read before the transaction begins.
pub(super) struct Checkout {
    pub(super) id: StripeSessionId,
    pub(super) session: CheckoutSession,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) customer: Option<StripeCustomerId>,
    /// Whether it was paid, by itself or by an invoice of its subscription: where a bank debit
    /// fails, the next attempt is none of the session's.
    is_paid: bool,
    /// The session's, over the subscription's.
    metadata: Metadata,
}

impl Checkout {
    fn metadata(&self, key: &str) -> Option<String> {
        fields::filled(self.metadata.get(key).map(String::as_str))
    }
}

/// Applies `checkout.session.completed`, `async_payment_succeeded` and `async_payment_failed`
/// alike: what counts is whether the session is paid now.
/// Returns the customer as well, whose other events may have waited for it.
pub(super) async fn apply(
    applier: &Applier,
    event: &Envelope,
) -> Result<(Outcome, Option<StripeCustomerId>)> {
    let checkout = read(applier, event).await?;
    fault::point(Point::ApplyRead);
    let now = applier.clock.now();
    let tx = applier.db.begin().await?;
    let customer = checkout.customer.as_ref();
    let (claimed, payer, known) = join!(
        store::claim_for_customer(&tx, event, customer, now),
        async {
            match customer {
                Some(customer) => tenants::store::find_by_customer(&tx, customer).await,
                None => Ok(None),
            }
        },
        Known::read(&tx, &checkout)
    );
    // What ended unpaid can be paid all the same: an invoice stays open when its subscription ends.
    let is_over = |status: EventStatus| {
        status.is_final() && !(status == EventStatus::Ignored && checkout.is_paid)
    };
    if let Some(status) = claimed?.filter(|status| is_over(*status)) {
        return Ok((Outcome::quiet(status), None));
    }
    fault::point(Point::ApplyClaimed);
    let provisioning = Provisioning { tx: &tx, event, checkout: &checkout, payer: payer?, now };
    let verdict = provisioning.decide(known).await?;
    let tenant = verdict.tenant.as_ref();
    store::finish(&tx, &event.id, verdict.status, verdict.reason, tenant, now).await?;
    if verdict.status != EventStatus::Waiting {
        // Its own row is final by now; those of the same checkout that waited end with it.
        let others = if verdict.closes_checkout { EventStatus::Ignored } else { verdict.status };
        let reason = verdict.reason.map_or_else(
            || format!("by {}", event.id),
            |reason| format!("{reason} ({})", event.id),
        );
        store::finish_waiting_checkout(&tx, &checkout.id, others, &reason, tenant, now).await?;
        if let Some(snapshot) = checkout.snapshot.as_ref().filter(|_| verdict.closes_checkout) {
            store::finish_never_paid(&tx, &snapshot.subscription.id, NEVER_PAID, now).await?;
        }
    }
    fault::point(Point::ApplyFinished);
    tx.commit().await?;
    fault::point(Point::ApplyCommitted);
    tracing::Span::current().record("tenant.id", tenant.map(TenantId::as_str));
    let outcome = Outcome { status: verdict.status, wake_outbox: verdict.wake_outbox };
    Ok((outcome, checkout.customer))
}

async fn read(applier: &Applier, event: &Envelope) -> Result<Checkout> {
    let id = event
        .object_id()
        .ok_or_else(|| stripe::unreadable("the event's checkout session has no id"))?;
    let id = StripeSessionId::parse(id)?;
    applier.pace().await?;
    let session = applier.stripe.checkout_session(&id).await?;
    let mut is_paid = matches!(session.payment_status.as_str(), "paid" | "no_payment_required");
    let snapshot = match session.subscription()? {
        Some(id) => {
            let snapshot = applier.read_snapshot(&id).await?;
            is_paid = is_paid || applier.was_bought(&id, &snapshot).await?;
            Some(snapshot)
        }
        None => None,
    };
    let subscription = snapshot.as_ref().map(|snapshot| &snapshot.subscription);
    let of_subscription = subscription.map(stripe::Subscription::customer).transpose()?.flatten();
    let customer = session.customer()?.or(of_subscription).or_else(|| event.customer());
    let mut metadata =
        subscription.map(|subscription| subscription.metadata.clone()).unwrap_or_default();
    // Blank is absent: it must not hide what the subscription says.
    metadata.extend(
        session
            .metadata
            .iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    Ok(Checkout { id, session, snapshot, customer, is_paid, metadata })
}

/// What we know of what was bought.
pub(super) struct Known<'a> {
    /// The tenant of the subscription that was already made of it.
    made_for: Option<TenantId>,
    resolved: Resolved<'a>,
}

impl<'a> Known<'a> {
    async fn read(tx: &Transaction, checkout: &'a Checkout) -> Result<Option<Self>> {
        let Some(snapshot) = &checkout.snapshot else { return Ok(None) };
        let stripe_id = StripeSubscriptionId::parse(&snapshot.subscription.id)?;
        let named = checkout.metadata("plan_id");
        let (made_for, resolved) = try_join!(
            families::rows::find_made_by(tx, &checkout.id, &stripe_id),
            resolve(tx, &snapshot.subscription, named.as_deref())
        )?;
        Ok(Some(Self { made_for, resolved }))
    }
}

/// What becomes of the event.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) status: EventStatus,
    pub(super) reason: Option<&'static str>,
    pub(super) tenant: Option<TenantId>,
    pub(super) wake_outbox: bool,
    /// No money came, and none will: what waited for it is void.
    pub(super) closes_checkout: bool,
}

impl Verdict {
    pub(super) fn of(status: EventStatus, reason: &'static str) -> Self {
        Self { status, reason: Some(reason), ..Self::default() }
    }
}

/// One checkout in its transaction.
pub(super) struct Provisioning<'a> {
    pub(super) tx: &'a Transaction,
    event: &'a Envelope,
    pub(super) checkout: &'a Checkout,
    /// The tenant whose customer paid.
    pub(super) payer: Option<TenantId>,
    pub(super) now: Timestamp,
}

impl Provisioning<'_> {
    /// The sale of this, or of nothing that has a Stripe subscription.
    pub(super) fn sale<'b>(&'b self, bought: Option<&'b Purchase<'_>>) -> Sale<'b> {
        let cause = bought.map(Purchase::cause).unwrap_or_default();
        Sale {
            tx: self.tx,
            now: self.now,
            actor: Actor::Stripe(StripeCause { invoice: self.checkout.session.invoice(), ..cause }),
            event: Some(&self.event.id),
            session: Some(&self.checkout.id),
            metadata: &self.checkout.metadata,
            is_paid: self.checkout.is_paid
                && self.checkout.session.payment_status != "no_payment_required",
            details: json!({"checkout_session_id": self.checkout.id.as_str()}),
        }
    }

    async fn decide(&self, known: Result<Option<Known<'_>>>) -> Result<Verdict> {
        if let Some(verdict) = self.without_purchase().await? {
            return Ok(verdict);
        }
        if self.metadata("parent_subscription_id").is_some() {
            return self.addon(known).await;
        }
        let Some(snapshot) = &self.checkout.snapshot else {
            return Err(Error::conflict(
                "no_subscription",
                "the paid checkout has no Stripe subscription, so the term that was bought is \
                 unknown",
            ));
        };
        match self.purchase(snapshot, known).await? {
            Ok(purchase) => self.provision(purchase).await,
            Err(verdict) => Ok(verdict),
        }
    }

    /// What becomes of a checkout that is not paid, sells nothing or is not ours; none of others.
    async fn without_purchase(&self) -> Result<Option<Verdict>> {
        let session = &self.checkout.session;
        if session.status.as_deref() == Some("expired") {
            return self.expired().await.map(Some);
        }
        let ignored = |reason| Ok(Some(Verdict::of(EventStatus::Ignored, reason)));
        if session.mode == "setup" {
            return ignored("a checkout in setup mode sells nothing");
        }
        let ours = ["plan_id", "company_name", "tenant_id", "parent_subscription_id"]
            .iter()
            .any(|key| self.metadata(key).is_some());
        if !ours && prices::store::find(self.tx, &self.prices()?).await?.is_empty() {
            return ignored("not ours: neither our metadata nor one of our prices");
        }
        match session.payment_status.as_str() {
            _ if self.checkout.is_paid => Ok(None),
            "unpaid" => self.unpaid().await.map(Some),
            other => {
                Err(stripe::unreadable(format!("checkout payment_status {other:?} is unknown")))
            }
        }
    }

    /// What was bought; or what becomes of the event where there is nothing to provision, because
    /// it is incomplete at Stripe or was provisioned before.
    pub(super) async fn purchase<'a>(
        &self,
        snapshot: &'a Snapshot,
        known: Result<Option<Known<'a>>>,
    ) -> Result<std::result::Result<Purchase<'a>, Verdict>> {
        let Some(status) = first_status(&snapshot.subscription.status)? else {
            let reason = "the Stripe subscription is incomplete";
            return Ok(Err(Verdict::of(EventStatus::Waiting, reason)));
        };
        let stripe_id = StripeSubscriptionId::parse(&snapshot.subscription.id)?;
        let Some(Known { made_for, resolved }) = known? else {
            return Err(Error::Internal("a purchase of nothing".to_owned()));
        };
        if let Some(tenant) = made_for {
            // One that was adopted while its checkout was late is the checkout's after all.
            families::rows::set_session(self.tx, &stripe_id, &self.checkout.id).await?;
            return Ok(Err(Verdict {
                tenant: Some(tenant),
                ..Verdict::of(EventStatus::Applied, "already provisioned")
            }));
        }
        let purchase = Purchase { snapshot, stripe_id, status, resolved };
        let actor = self.sale(Some(&purchase)).actor;
        let read = &purchase.resolved.currencies;
        currency::keep(self.tx, read, actor, Some(&self.event.id), self.now).await?;
        Ok(Ok(purchase))
    }

    /// Makes a MAIN of it, with all that belongs to one.
    async fn provision(&self, purchase: Purchase<'_>) -> Result<Verdict> {
        let (tenant, is_new) = self.tenant(Some(&purchase)).await?;
        fault::point(Point::ApplyTenantInserted);
        let completed = AuditEvent::StripeCheckoutCompleted;
        let description = description(purchase.resolved.plan.as_ref());
        let sale = self.sale(Some(&purchase));
        sale.make_main(&purchase, (&tenant, is_new), &description, completed).await?;
        let status = purchase.status;
        // What ended before it was paid welcomes nobody.
        let wake_outbox = status != Status::Expired
            && (is_new || outbox::store::has_no_login(self.tx, &tenant).await?)
            && self.first_login(&tenant).await?;
        fault::point(Point::ApplyStepsInserted);
        Ok(Verdict {
            status: EventStatus::Applied,
            tenant: Some(tenant),
            wake_outbox,
            ..Verdict::default()
        })
    }

    /// Completed, but the money has not come: a bank debit takes days, and then succeeds or fails.
    /// One that failed is tried again as long as its subscription runs.
    async fn unpaid(&self) -> Result<Verdict> {
        let status = self.checkout.snapshot.as_ref().map(|it| it.subscription.status.as_str());
        let is_over = matches!(status, Some("canceled" | "incomplete_expired"));
        let closed =
            |status, reason| Ok(Verdict { closes_checkout: true, ..Verdict::of(status, reason) });
        match self.event.kind {
            // Stripe has said that it was paid: the read was too early.
            EventKind::Checkout(CheckoutEvent::PaymentSucceeded) => Err(Error::unavailable(
                crate::base::error::Service::Stripe,
                "the session is not paid yet, though its payment succeeded",
            )),
            _ if is_over => closed(EventStatus::Ignored, NEVER_PAID),
            EventKind::Checkout(CheckoutEvent::PaymentFailed) if status.is_none() => {
                closed(EventStatus::Applied, "its payment failed")
            }
            EventKind::Checkout(CheckoutEvent::PaymentFailed) => {
                let reason = "its payment failed, and Stripe may try again";
                Ok(Verdict::of(EventStatus::Waiting, reason))
            }
            _ if store::payment_failed(self.tx, &self.checkout.id).await? => {
                Ok(Verdict::of(EventStatus::Ignored, "its payment failed"))
            }
            _ => Ok(Verdict::of(EventStatus::Waiting, "its payment is still under way")),
        }
    }

    pub(super) fn metadata(&self, key: &str) -> Option<String> {
        self.checkout.metadata(key)
    }

    fn prices(&self) -> Result<Vec<StripePriceId>> {
        self.checkout
            .snapshot
            .iter()
            .flat_map(|snapshot| &snapshot.subscription.items.data)
            .map(Item::price)
            .collect()
    }

    /// The tenant that paid, locked, and whether it is new.
    pub(super) async fn tenant(&self, bought: Option<&Purchase<'_>>) -> Result<(TenantId, bool)> {
        let named = self.metadata("tenant_id");
        let Some(id) = named
            .as_deref()
            .map(|named| TenantId::parse(named).map_err(|_| unknown_tenant(named)))
            .transpose()?
            .or_else(|| self.payer.clone())
        else {
            return Ok((self.new_tenant(bought).await?, true));
        };
        if let (Some(customer), Some(other)) =
            (&self.checkout.customer, self.payer.as_ref().filter(|other| **other != id))
        {
            return Err(Error::conflict(
                "customer_of_another_tenant",
                format!(
                    "the checkout names tenant {id}, but its customer {customer} is tenant \
                     {other}'s"
                ),
            ));
        }
        let Some(tenant) = tenants::store::lock(self.tx, &id).await? else {
            return Err(unknown_tenant(id.as_str()));
        };
        if tenant.is_deleted() {
            return Err(Error::conflict(
                "tenant_deleted",
                format!("tenant {id}, which paid, is deleted"),
            ));
        }
        if let Some(customer) = &self.checkout.customer {
            self.sale(bought).link(&tenant, customer).await?;
        }
        Ok((id, false))
    }

    async fn new_tenant(&self, bought: Option<&Purchase<'_>>) -> Result<TenantId> {
        for id in tenants::model::candidate_ids(
            self.metadata("company_name").as_deref(),
            self.checkout.id.as_str(),
        ) {
            let (tenant, fit) = Tenant::from_checkout(
                id,
                &self.checkout.metadata,
                &self.checkout.session.customer_details,
                self.checkout.customer.clone(),
                self.now,
            );
            if tenants::store::insert(self.tx, &tenant).await? {
                outbox::store::insert_organization(self.tx, &tenant.tenant_id, self.now).await?;
                let state = json!({
                    "tenant_id": tenant.tenant_id,
                    "name": tenant.profile.name,
                    "status": tenant.status,
                    "stripe_customer_id": tenant.stripe_customer_id,
                });
                let id = tenant.tenant_id;
                let mut sale = self.sale(bought);
                if let (Value::Object(details), Some(Value::Object(lost))) =
                    (&mut sale.details, fit.details())
                {
                    details.extend(lost);
                }
                sale.audit(AuditEvent::TenantProvisioned, &id, None, Some(state), None).await?;
                return Ok(id);
            }
        }
        Err(Error::Internal(format!("no tenant id is free for checkout {}", self.checkout.id)))
    }

    /// Leaves the steps that make the admin's login. False where no mail address is known.
    async fn first_login(&self, tenant: &TenantId) -> Result<bool> {
        let typed = fields::filled(self.checkout.session.customer_details.email.as_deref());
        let Some(email) = self.metadata("admin_email").or(typed) else {
            self.sale(None)
                .flag(
                    FlagKind::NoAdminEmail,
                    tenant,
                    None,
                    "the checkout names no mail address, so there is no login yet".to_owned(),
                )
                .await?;
            return Ok(false);
        };
        let user = keycloak::NewAccount {
            email,
            first_name: self.metadata("admin_first_name"),
            last_name: self.metadata("admin_last_name"),
        };
        outbox::store::insert_first_login(
            self.tx,
            tenant,
            (&self.checkout.id, &self.event.id),
            &user,
            self.now,
        )
        .await?;
        Ok(true)
    }
}

fn unknown_tenant(named: &str) -> Error {
    Error::conflict(
        "unknown_tenant",
        format!("the paid checkout names tenant {named:?}, which does not exist"),
    )
}
