//! What follows a tenant's profile elsewhere: its organization in Keycloak, and its Stripe customer.

use jiff::Timestamp;

use super::model::{Profile, Tenant};
use crate::Result;
use crate::db::Transaction;
use crate::domain::outbox;
use crate::domain::outbox::model::CustomerField;
use crate::outside::stripe::{AddressChange, CustomerChange};

/// The most characters of a customer's phone at Stripe.
const STRIPE_PHONE_LENGTH: usize = 20;

/// Leaves the steps that write elsewhere what an update of the profile changed: to the organization,
/// and to the Stripe customer if there is one.
pub(crate) async fn follow(
    tx: &Transaction,
    before: &Tenant,
    after: &Tenant,
    now: Timestamp,
) -> Result<()> {
    if before.profile.name != after.profile.name {
        outbox::store::insert_organization(tx, &after.tenant_id, now).await?;
    }
    let fields: Vec<_> = CustomerField::ALL
        .iter()
        .copied()
        .filter(|field| {
            customer_change(&before.profile, &[*field])
                != customer_change(&after.profile, &[*field])
        })
        .collect();
    if after.stripe_customer_id.is_none() || fields.is_empty() {
        return Ok(());
    }
    outbox::store::insert_stripe_customer(tx, &after.tenant_id, &fields, now).await
}

/// These fields of the tenant's Stripe customer, as they are here.
pub(crate) fn customer_change<'a>(
    profile: &'a Profile,
    fields: &[CustomerField],
) -> CustomerChange<'a> {
    let text = |value: &'a Option<String>| value.as_deref().unwrap_or_default();
    let mut change = CustomerChange::default();
    for field in fields {
        match field {
            CustomerField::Name => change.name = Some(&profile.name),
            CustomerField::Email => change.email = Some(text(&profile.billing_email)),
            CustomerField::Phone => {
                let phone = text(&profile.phone);
                // Beyond that Stripe refuses the whole change, and a part is another's number.
                let fits = phone.chars().count() <= STRIPE_PHONE_LENGTH;
                change.phone = Some(if fits { phone } else { "" });
            }
            CustomerField::Address => {
                change.address = Some(AddressChange {
                    line1: text(&profile.address_line1),
                    line2: text(&profile.address_line2),
                    city: text(&profile.city),
                    state: text(&profile.state_province),
                    postal_code: text(&profile.postal_code),
                    country: text(&profile.country),
                });
            }
        }
    }
    change
}
