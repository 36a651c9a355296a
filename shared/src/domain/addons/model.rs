//! Slots that a customer adds to a MAIN: the request, the price, and the order.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::proration;
use super::proration::{PaidBy, Share};
use crate::base::fields::{Int, List, ReturnUrl, TierId};
use crate::base::ids::{
    AddonOrderId, Currency, StripePriceId, StripeSessionId, SubscriptionId, TenantId,
};
use crate::domain::families::subscription::{Subscription, SubscriptionType};
use crate::domain::prices::model::{Interval, Price, price_in, shown};
use crate::domain::tiers::model::Tier;
use crate::{Error, Result, request, words};

/// How long an order's checkout stays open. Stripe refuses less than 30 minutes from when it is
/// asked: the rest is for a repetition of the request, which must say the same.
pub const CHECKOUT_TIME: SignedDuration = SignedDuration::from_mins(35);

/// What Stripe charges at most in one payment, in a currency's smallest unit ("Minimum and maximum
/// charge amounts").
const MOST_CENTS: i64 = 99_999_999;

/// What it charges at least, and never less than 50 of the unit: less is no order.
fn least_cents(currency: &Currency) -> i64 {
    match currency.as_str() {
        "bgn" => 100,
        "aed" | "myr" | "pln" | "ron" => 200,
        "dkk" => 250,
        "nok" | "sek" => 300,
        "hkd" => 400,
        "mxn" | "thb" => 1_000,
        "czk" => 1_500,
        "huf" => 17_500,
        _ => 50,
    }
}

request! {
    /// More slots of a tier.
    pub struct Addition {
        tier_id: TierId,
        additional_slots: Int<1, 100_000>,
    }

    /// Slots to buy until the parent's term ends.
    pub struct NewAddonCheckout {
        /// The own live MAIN that gets them.
        parent_subscription_id: SubscriptionId,
        /// Each tier once.
        additions: List<Addition, 20>,
        /// Where Stripe sends the payer after, on one of the allowed origins; a page of the product
        /// where it is absent.
        success_url: Option<ReturnUrl> = None,
        /// And where without a payment; as absent.
        cancel_url: Option<ReturnUrl> = None,
    }
}

words! {
    /// How far an order has come.
    pub enum OrderStatus {
        /// Not paid yet, or Stripe's event is under way.
        Open = "open",
        /// Paid, and an ADDON.
        Paid = "paid",
        /// Its checkout closed without a payment.
        Expired = "expired",
    }
}

/// What slots cost until the parent's term ends, before tax, and how that was calculated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quote {
    /// The MAIN that gets them.
    pub parent_subscription_id: SubscriptionId,
    /// When its term, and so theirs, ends.
    pub term_end: Timestamp,
    /// Whose price of a slot counts.
    pub interval: Interval,
    /// UTC days until then, today included.
    pub remaining_days: i64,
    /// Days that the price of a slot is for.
    pub period_days: i64,
    /// By tier.
    pub lines: Vec<QuoteLine>,
    /// In all, in the currency's smallest unit: what is charged.
    pub amount_cents: i64,
    /// That of the MAIN, which all amounts here are in.
    pub currency: Currency,
}

/// Slots of one tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct QuoteLine {
    pub tier_id: i32,
    pub name: String,
    pub display_name: String,
    pub additional_slots: i32,
    /// Of one slot, for a whole interval.
    pub slot_price_cents: i64,
    /// Slots × price × remaining days / days of the period, half a cent rounded up.
    pub amount_cents: i64,
    /// The same, to be read by people.
    pub calculation: String,
}

/// What an order of slots came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddonCheckout {
    /// Stripe's page to pay on; none for a dry run.
    pub url: Option<String>,
    /// For reading the checkout's status; none for a dry run.
    pub session_id: Option<StripeSessionId>,
    /// What it costs.
    #[serde(flatten)]
    pub quote: Quote,
}

/// An order: slots at the price that was shown. What is paid for is this, whatever a checkout's
/// metadata says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the columns of docs/data.md")]
pub struct Order {
    pub order_id: AddonOrderId,
    pub tenant_id: TenantId,
    #[serde(flatten)]
    pub quote: Quote,
    pub stripe_checkout_session_id: Option<StripeSessionId>,
    pub status: OrderStatus,
    /// The ADDON that it became.
    pub subscription_id: Option<SubscriptionId>,
    /// When its checkout closes.
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
}

impl Order {
    /// All slots of it.
    #[must_use]
    pub fn slots(&self) -> i32 {
        self.quote.lines.iter().map(|line| line.additional_slots).fold(0, i32::saturating_add)
    }
}

/// Refuses a list that names no tier, or one twice.
///
/// # Errors
/// `Invalid`, naming each.
pub fn each_tier_once(additions: &[Addition]) -> Result<()> {
    if additions.is_empty() {
        return Err(Error::invalid("additions", "must not be empty"));
    }
    let twice = additions.iter().enumerate().filter(|(index, wanted)| {
        additions[..*index].iter().any(|earlier| earlier.tier_id == wanted.tier_id)
    });
    let faults: Vec<_> =
        twice.map(|(index, _)| tier_field(index, "is listed twice".to_owned())).collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::unfit("invalid", faults)) }
}

fn tier_field(index: usize, message: String) -> (String, String) {
    (format!("additions[{index}].tier_id"), message)
}

/// Refuses a parent that cannot have slots of its own.
///
/// # Errors
/// `parent_not_main`, `parent_not_live`, `subscription_held`.
pub fn check_parent(parent: &Subscription) -> Result<()> {
    if parent.subscription_type != SubscriptionType::Main {
        return Err(Error::malformed("parent_not_main", "Parent must be MAIN subscription"));
    }
    if !parent.status.is_live() {
        return Err(Error::malformed(
            "parent_not_live",
            format!("Parent subscription is {}", parent.status.as_str()),
        ));
    }
    if parent.hold.is_some() {
        // Its term is an operator's and its payments are Stripe's: neither shows what slots would
        // cost, and until when.
        let detail = format!(
            "{} is being looked after by our staff. Contact support to add slots.",
            parent.subscription_id
        );
        return Err(Error::conflict("subscription_held", detail));
    }
    Ok(())
}

/// The periods by which a parent is paid. `interval` is that of the Stripe price that it is paid
/// by, where we know that.
#[must_use]
pub fn paid_by(parent: &Subscription, interval: Option<Interval>) -> PaidBy {
    if parent.stripe.is_none() {
        return PaidBy::Outside;
    }
    let long =
        parent.term_end.duration_since(parent.term_start) > SignedDuration::from_hours(183 * 24);
    PaidBy::Stripe(interval.unwrap_or(if long { Interval::Year } else { Interval::Month }))
}

/// What the additions cost from `now` until the parent's term ends, in the currency that the parent
/// is paid in. `tiers` are theirs, in the same order.
///
/// # Errors
/// `renewal_near`; `Unfit`: `tier_not_sold`, `amount_too_small`, `amount_too_large`.
pub fn quote(
    parent: &Subscription,
    (paid_by, currency): (PaidBy, &Currency),
    additions: &[Addition],
    tiers: &[Tier],
    now: Timestamp,
) -> Result<Quote> {
    if parent.term_end <= now + CHECKOUT_TIME {
        let detail = format!(
            "The term of {} ends at {}, before a payment could be made. Add slots to its next \
             term.",
            parent.subscription_id, parent.term_end
        );
        return Err(Error::conflict("renewal_near", detail));
    }
    let share = proration::share((parent.term_start, parent.term_end), paid_by, now);
    let too_much = || {
        Error::unfit(
            "amount_too_large",
            [(
                "additions".to_owned(),
                "come to more than can be paid at once: order less, or contact sales".to_owned(),
            )],
        )
    };
    let mut lines = Vec::new();
    let mut not_sold = Vec::new();
    for (index, (wanted, tier)) in additions.iter().zip(tiers).enumerate() {
        let price = price_in(&tier.prices, currency, share.interval);
        let Some(slot_price_cents) = price.and_then(|price| slot_price(price, paid_by)) else {
            not_sold.push(tier_field(
                index,
                format!(
                    "is not sold by the {} in {}, as {} is paid: contact sales",
                    share.interval.as_str(),
                    shown(currency),
                    parent.subscription_id
                ),
            ));
            continue;
        };
        let slots = wanted.additional_slots;
        let amount_cents =
            proration::line_cents(slots.get(), slot_price_cents, &share).ok_or_else(too_much)?;
        let Share { remaining_days, period_days, .. } = share;
        lines.push(QuoteLine {
            tier_id: tier.tier_id,
            name: tier.name.clone(),
            display_name: tier.display_name.clone(),
            additional_slots: slots.get_i32(),
            slot_price_cents,
            amount_cents,
            calculation: format!(
                "{} × {slot_price_cents} × {remaining_days} / {period_days} = {amount_cents}",
                slots.get()
            ),
        });
    }
    if !not_sold.is_empty() {
        return Err(Error::unfit("tier_not_sold", not_sold));
    }
    let amount_cents = lines
        .iter()
        .try_fold(0_i64, |sum, line| sum.checked_add(line.amount_cents))
        .ok_or_else(too_much)?;
    let least = least_cents(currency);
    if amount_cents < least {
        let message = format!(
            "come to {amount_cents} {} cents until the term ends; the least that can be paid is \
             {least}",
            shown(currency)
        );
        return Err(Error::unfit("amount_too_small", [("additions".to_owned(), message)]));
    }
    if amount_cents > MOST_CENTS {
        return Err(too_much());
    }
    Ok(Quote {
        parent_subscription_id: parent.subscription_id.clone(),
        term_end: parent.term_end,
        interval: share.interval,
        remaining_days: share.remaining_days,
        period_days: share.period_days,
        lines,
        amount_cents,
        currency: currency.clone(),
    })
}

/// Of one slot. Where Stripe renews it, Stripe must have a price for it too.
fn slot_price(price: &Price, paid_by: PaidBy) -> Option<i64> {
    price.cents.filter(|_| paid_by == PaidBy::Outside || price.stripe_price_id.is_some())
}

/// What a line is called on Stripe's page and on the invoice.
#[must_use]
pub fn line_name(line: &QuoteLine, quote: &Quote) -> String {
    let (slots, name, until) =
        (line.additional_slots, &line.display_name, quote.term_end.strftime("%Y-%m-%d"));
    format!(
        "{slots} extra {name} slots until {until} ({} of {} days)",
        quote.remaining_days, quote.period_days
    )
}

/// How many slots of a tier the family's renewing ADDONs have, and what Stripe has them paid by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewingSlots {
    /// The tier of the slots.
    pub tier: i32,
    /// In all; 0 where none renews any more.
    pub slots: i64,
    /// The present price of a slot by the parent's interval, in its currency.
    pub price: Option<StripePriceId>,
}
