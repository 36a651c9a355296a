//! Events about a customer and not about a subscription: refunds, disputes, and the
//! customer's own data (docs/events.md, "Notices"). Access changes only when Stripe changes the
//! subscription.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{Envelope, EventStatus};
use super::{Applier, Outcome, kind, store};
use crate::base::error::Service;
use crate::base::ids::{StripeChargeId, StripeCustomerId, TenantId};
use crate::db::Transaction;
use crate::domain::audit::model::{Actor, AuditEvent, Entry, StripeCause};
use crate::domain::flags::model::{Flag, FlagKind};
use crate::domain::outbox::model::CustomerField;
use crate::domain::tenants::model::Fit;
use crate::domain::{audit, flags, outbox, tenants};
use crate::outside::stripe;
use crate::outside::stripe::CustomerDetails;
use crate::{Error, Result};

/// How often a customer is read at Stripe for one event, before the event is tried again later.
const READS: usize = 3;

/// What is recorded of a notice: the audit's event type and the flag's kind.
fn record(notice: kind::Notice) -> Option<(AuditEvent, FlagKind)> {
    Some(match notice {
        kind::Notice::Refunded => (AuditEvent::StripeChargeRefunded, FlagKind::Refunded),
        kind::Notice::Disputed => (AuditEvent::StripeDisputeCreated, FlagKind::Disputed),
        kind::Notice::DisputeClosed => (AuditEvent::StripeDisputeClosed, FlagKind::DisputeClosed),
        kind::Notice::CustomerDeleted => {
            (AuditEvent::StripeCustomerDeleted, FlagKind::CustomerDeleted)
        }
        kind::Notice::CustomerUpdated => return None,
    })
}

/// Applies a notice: to the tenant whose customer it is; one that we do not know yet waits for its
/// checkout.
pub(super) async fn apply(
    applier: &Applier,
    event: &Envelope,
    kind: kind::Notice,
) -> Result<Outcome> {
    let customer = if let Some(customer) = event.customer() {
        customer
    } else {
        let charge =
            event.object["charge"].as_str().or_else(|| event.object["charge"]["id"].as_str());
        let Some(charge) = charge else {
            // By null Stripe says that there is none; a field that is missing says nothing.
            let is_null = |field| event.object.get(field).is_some_and(Value::is_null);
            if is_null("customer") || is_null("charge") {
                return applier.ignore(event, "not ours: it has no customer").await;
            }
            return Err(stripe::unreadable("the event's object has neither customer nor charge"));
        };
        applier.pace().await?;
        match applier.stripe.customer_of_charge(&StripeChargeId::parse(charge)?).await? {
            Some(customer) => customer,
            None => return applier.ignore(event, "not ours: the charge has no customer").await,
        }
    };
    for _ in 0..READS {
        let details = match kind {
            kind::Notice::CustomerUpdated => Some(read_customer(applier, &customer).await?),
            _ => None,
        };
        if let Some(status) = try_apply(applier, event, kind, &customer, details).await? {
            return Ok(Outcome::quiet(status));
        }
    }
    let detail = format!("the tenant of {customer} is changing faster than Stripe can be read");
    Err(Error::unavailable(Service::Stripe, detail))
}

/// What Stripe says of a customer now, and not what it said when the event was made.
struct CustomerRead {
    details: CustomerDetails,
    /// The tenant's version before the read: another one now is newer than what was read.
    version: Option<i64>,
    /// What is older at Stripe than here, before the read.
    unwritten: Vec<CustomerField>,
}

async fn read_customer(applier: &Applier, customer: &StripeCustomerId) -> Result<CustomerRead> {
    let (mut version, mut unwritten) = (None, Vec::new());
    {
        let db = applier.db.connection().await?;
        if let Some(tenant) = tenants::store::find_by_customer(&db, customer).await? {
            version = tenants::store::find(&db, &tenant).await?.map(|tenant| tenant.version);
            unwritten = outbox::store::unwritten_customer_fields(&db, &tenant).await?;
        }
    }
    applier.pace().await?;
    Ok(CustomerRead { details: applier.stripe.customer(customer).await?, version, unwritten })
}

/// None where the tenant has changed since Stripe was read.
async fn try_apply(
    applier: &Applier,
    event: &Envelope,
    kind: kind::Notice,
    customer: &StripeCustomerId,
    read: Option<CustomerRead>,
) -> Result<Option<EventStatus>> {
    let now = applier.clock.now();
    let tx = applier.db.begin().await?;
    if let Some(status) = store::claim_for_customer(&tx, event, Some(customer), now)
        .await?
        .filter(|status| status.is_final())
    {
        return Ok(Some(status));
    }
    let Some(tenant) = tenants::store::find_by_customer(&tx, customer).await? else {
        store::finish(
            &tx,
            &event.id,
            EventStatus::Waiting,
            Some("its Stripe customer is not known here yet"),
            None,
            now,
        )
        .await?;
        tx.commit().await?;
        return Ok(Some(EventStatus::Waiting));
    };
    let notice = Notice { tx: &tx, event, tenant: &tenant, now };
    if let Some(record) = record(kind) {
        notice.record(customer, record).await?;
    }
    if let Some(read) = read
        && !notice.complete_profile(customer, &read).await?
    {
        return Ok(None);
    }
    store::finish(&tx, &event.id, EventStatus::Applied, None, Some(&tenant), now).await?;
    tx.commit().await?;
    Ok(Some(EventStatus::Applied))
}

/// One notice in its transaction.
struct Notice<'a> {
    tx: &'a Transaction,
    event: &'a Envelope,
    tenant: &'a TenantId,
    now: Timestamp,
}

impl Notice<'_> {
    /// Audits and flags it.
    async fn record(
        &self,
        customer: &StripeCustomerId,
        (event_type, kind): (AuditEvent, FlagKind),
    ) -> Result<()> {
        let object = &self.event.object;
        let details = json!({"stripe_customer_id": customer, "object": object["id"],
            "amount": object["amount"], "amount_refunded": object["amount_refunded"],
                             "status": object["status"], "reason": object["reason"]});
        // What this kind of object does not have says nothing.
        let details: Value = details
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        self.audit(event_type, None, None, Some(details)).await?;
        let detail = format!("Stripe: {} of customer {customer}", self.event.event_type);
        let flag = Flag {
            kind: kind.into(),
            tenant: Some(self.tenant),
            subscription: None,
            stripe_event: Some(&self.event.id),
            subject: None,
            detail,
        };
        flags::store::raise(self.tx, &flag, self.now).await
    }

    /// Fills only what is empty: what people have written here stays, whatever is typed at Stripe,
    /// and what they have cleared too, until Stripe knows of it. False where the tenant has changed
    /// since the read.
    async fn complete_profile(
        &self,
        customer: &StripeCustomerId,
        read: &CustomerRead,
    ) -> Result<bool> {
        let Some(before) = tenants::store::lock(self.tx, self.tenant).await? else {
            return Ok(true);
        };
        if before.is_deleted() || before.stripe_customer_id.as_ref() != Some(customer) {
            return Ok(true);
        }
        if read.version != Some(before.version) {
            return Ok(false);
        }
        let mut after = before.clone();
        let (profile, address) = (&mut after.profile, &read.details.address);
        let mut fit = Fit::default();
        let news = |field| !read.unwritten.contains(&field);
        if profile.billing_email.is_none() && news(CustomerField::Email) {
            profile.billing_email = fit.email("billing_email", read.details.email.as_deref());
        }
        for (of, name, field, given) in [
            (CustomerField::Phone, "phone", &mut profile.phone, &read.details.phone),
            (CustomerField::Address, "address_line1", &mut profile.address_line1, &address.line1),
            (CustomerField::Address, "address_line2", &mut profile.address_line2, &address.line2),
            (CustomerField::Address, "city", &mut profile.city, &address.city),
            (CustomerField::Address, "state_province", &mut profile.state_province, &address.state),
            (CustomerField::Address, "postal_code", &mut profile.postal_code, &address.postal_code),
            (CustomerField::Address, "country", &mut profile.country, &address.country),
        ] {
            if field.is_none() && news(of) {
                *field = fit.line(name, given.as_deref());
            }
        }
        if after == before {
            return Ok(true);
        }
        (after.version, after.updated_at) = (before.version + 1, self.now);
        tenants::store::save(self.tx, &after).await?;
        let states = (Some(json!(before)), Some(json!(after)));
        self.audit(AuditEvent::TenantUpdated, states.0, states.1, fit.details()).await?;
        Ok(true)
    }

    async fn audit(
        &self,
        event_type: AuditEvent,
        previous_state: Option<Value>,
        new_state: Option<Value>,
        details: Option<Value>,
    ) -> Result<()> {
        // A charge names its invoice before API 2025-03-31.
        let invoice = self.event.object["invoice"].as_str();
        let actor = Actor::Stripe(StripeCause { invoice, ..StripeCause::default() });
        let entry = Entry {
            tenant: Some(self.tenant),
            stripe_event: Some(&self.event.id),
            previous_state,
            new_state,
            details,
            ..Entry::new(event_type, actor, self.now)
        };
        audit::store::insert(self.tx, &entry).await
    }
}
