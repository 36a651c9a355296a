//! What Stripe says that a price is in, which counts more than what it was taken for
//! (docs/catalogue.md, "Currencies").

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use crate::Result;
use crate::base::ids::{Currency, StripeEventId, StripePriceId};
use crate::db::Transaction;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::flags::model::{Flag, FlagKind};
use crate::domain::prices::model::{PriceOf, shown};
use crate::domain::{audit, flags, plans, prices, tiers};

/// Keeps what the prices of a snapshot are in, once each. What was taken for another currency is
/// audited and flagged: an operator must look at what is shown as its price.
pub(super) async fn keep(
    tx: &Transaction,
    read: &BTreeMap<StripePriceId, Currency>,
    actor: Actor<'_>,
    event: Option<&StripeEventId>,
    now: Timestamp,
) -> Result<()> {
    for (price, currency) in read {
        let Some(corrected) = prices::store::save_read_currency(tx, price, currency).await? else {
            continue;
        };
        let state = |currency: &Currency| json!({"stripe_price_id": price, "currency": currency});
        let entry = Entry {
            stripe_event: event,
            previous_state: Some(state(&corrected.taken_for)),
            new_state: Some(state(currency)),
            ..Entry::new(AuditEvent::PriceCurrencyCorrected, actor, now)
        };
        audit::store::insert(tx, &entry).await?;
        if !corrected.is_sold {
            continue;
        }
        let of = match &corrected.of {
            PriceOf::Plan(plan) => {
                plans::store::touch(tx, plan, now).await?;
                format!("plan '{plan}'")
            }
            PriceOf::Tier(tier) => {
                tiers::store::touch(tx, *tier, now).await?;
                format!("slots of tier {tier}")
            }
        };
        let detail = format!(
            "Stripe price {price} of {of} is in {}, and was taken for {}: look at its prices",
            shown(currency),
            shown(&corrected.taken_for)
        );
        let flag = Flag {
            kind: FlagKind::PriceCurrency.into(),
            tenant: None,
            subscription: None,
            stripe_event: event,
            subject: Some(price.to_string()),
            detail,
        };
        flags::store::raise_while_open(tx, &flag, now).await?;
    }
    Ok(())
}
