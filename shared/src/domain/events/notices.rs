//! Events about a customer and not about a subscription: refunds, disputes, and the
//! customer's own data (docs/events.md, "Notices"). Access changes only when Stripe changes the
//! subscription.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{Envelope, EventStatus};
use super::{Applier, Outcome, kind, store};
use crate::Result;
use crate::base::ids::{StripeChargeId, StripeCustomerId, TenantId};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::flags::model::{Flag, FlagKind};
use crate::domain::tenants::model::Fit;
use crate::domain::{audit, flags, tenants};
use crate::outside::stripe;
use crate::outside::stripe::CustomerDetails;

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
        let charge = charge.ok_or_else(|| {
            stripe::unreadable("the event's object has neither customer nor charge")
        })?;
        applier.pace().await?;
        match applier.stripe.customer_of_charge(&StripeChargeId::parse(charge)?).await? {
            Some(customer) => customer,
            None => {
                return applier
                    .record(
                        event,
                        EventStatus::Ignored,
                        "not ours: the charge has no customer",
                        None,
                    )
                    .await;
            }
        }
    };
    // What it is now, and not what it was when the event was made.
    let details = if kind == kind::Notice::CustomerUpdated {
        applier.pace().await?;
        Some(applier.stripe.customer(&customer).await?)
    } else {
        None
    };
    let now = applier.clock.now();
    let mut db = applier.db.connection().await?;
    let tx = db.transaction().await?;
    if let Some(status) = store::claim_for_customer(&tx, event, Some(&customer), now)
        .await?
        .filter(|status| status.is_final())
    {
        return Ok(Outcome::quiet(status));
    }
    let Some(tenant) = tenants::store::find_by_customer(&tx, &customer).await? else {
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
        return Ok(Outcome::quiet(EventStatus::Waiting));
    };
    let notice = Notice { tx: &tx, event, tenant: &tenant, now };
    match (record(kind), details) {
        (Some(record), _) => notice.record(&customer, record).await?,
        (None, Some(details)) => notice.complete_profile(&customer, &details).await?,
        (None, None) => {}
    }
    store::finish(&tx, &event.id, EventStatus::Applied, None, Some(&tenant), now).await?;
    tx.commit().await?;
    Ok(Outcome::quiet(EventStatus::Applied))
}

/// One notice in its transaction.
struct Notice<'a> {
    tx: &'a Transaction<'a>,
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
            detail,
        };
        flags::store::raise(self.tx, &flag, self.now).await
    }

    /// Fills only what is empty: what people have written here stays, whatever is typed at Stripe.
    async fn complete_profile(
        &self,
        customer: &StripeCustomerId,
        details: &CustomerDetails,
    ) -> Result<()> {
        let Some(before) = tenants::store::lock(self.tx, self.tenant).await? else {
            return Ok(());
        };
        if before.is_deleted() || before.stripe_customer_id.as_ref() != Some(customer) {
            return Ok(());
        }
        let mut after = before.clone();
        let (profile, address) = (&mut after.profile, &details.address);
        let mut fit = Fit::default();
        if profile.billing_email.is_none() {
            profile.billing_email = fit.email("billing_email", details.email.as_deref());
        }
        for (name, field, given) in [
            ("phone", &mut profile.phone, &details.phone),
            ("address_line1", &mut profile.address_line1, &address.line1),
            ("address_line2", &mut profile.address_line2, &address.line2),
            ("city", &mut profile.city, &address.city),
            ("state_province", &mut profile.state_province, &address.state),
            ("postal_code", &mut profile.postal_code, &address.postal_code),
            ("country", &mut profile.country, &address.country),
        ] {
            if field.is_none() {
                *field = fit.line(name, given.as_deref());
            }
        }
        if after == before {
            return Ok(());
        }
        (after.version, after.updated_at) = (before.version + 1, self.now);
        tenants::store::save(self.tx, &after).await?;
        let states = (Some(json!(before)), Some(json!(after)));
        self.audit(AuditEvent::TenantUpdated, states.0, states.1, fit.details()).await
    }

    async fn audit(
        &self,
        event_type: AuditEvent,
        previous_state: Option<Value>,
        new_state: Option<Value>,
        details: Option<Value>,
    ) -> Result<()> {
        let entry = Entry {
            tenant: Some(self.tenant),
            stripe_event: Some(&self.event.id),
            previous_state,
            new_state,
            details,
            ..Entry::new(event_type, Actor::Stripe, self.now)
        };
        audit::store::insert(self.tx, &entry).await
    }
}
