//! What a price belongs to, and what something costs in which currency.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::error::FieldFault;
use crate::base::fields::Cents;
use crate::base::ids::{Currency, PlanId, StripePriceId};
use crate::outside::stripe;
use crate::{Error, Result, request, words};

/// What a price is mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceOf {
    /// The plan itself.
    Plan(PlanId),
    /// Slots of this tier.
    Tier(i32),
}

/// A price, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its id at Stripe.
    pub price: StripePriceId,
    /// What is paid by it.
    pub of: PriceOf,
    /// How often.
    pub interval: Interval,
    /// Whether it is sold, and no former price.
    pub is_current: bool,
}

/// What became of a price that was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// It was mapped so before.
    Kept,
    /// It was not mapped before.
    New,
    /// It was another plan's, or paid by another interval.
    Moved(Mapping),
}

/// A price whose currency was not the one that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Correction {
    pub of: PriceOf,
    pub taken_for: Currency,
    /// Whether something is sold by it.
    pub is_sold: bool,
}

words! {
    /// How often a price is paid.
    pub enum Interval {
        /// Per month.
        Month = "month",
        /// Per year.
        Year = "year",
    }
}

/// What a plan, or a slot of a tier, costs in one currency and by one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Price {
    /// What its cents are in.
    pub currency: Currency,
    /// How often it is paid.
    pub interval: Interval,
    /// The present price at Stripe; former ones still resolve.
    pub stripe_price_id: Option<StripePriceId>,
    /// What is shown, in the currency's smallest unit.
    pub cents: Option<i64>,
}

/// The same as customers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OfferedPrice {
    /// What its cents are in.
    pub currency: Currency,
    /// How often it is paid.
    pub interval: Interval,
    /// In the currency's smallest unit.
    pub cents: Option<i64>,
}

request! {
    /// What a plan, or a slot of a tier, costs in one currency and by one interval.
    pub struct NewPrice {
        /// The code of one of Stripe's currencies.
        currency: Currency,
        interval: Interval,
        /// The Stripe price. Optional in the default currency only.
        stripe_price_id: Option<StripePriceId> = None,
        /// What is shown, in the currency's smallest unit.
        cents: Option<Cents> = None,
    }
}

impl From<NewPrice> for Price {
    fn from(new: NewPrice) -> Self {
        let NewPrice { currency, interval, stripe_price_id, cents } = new;
        Self { currency, interval, stripe_price_id, cents: cents.map(Cents::get) }
    }
}

impl From<Price> for OfferedPrice {
    fn from(Price { currency, interval, cents, .. }: Price) -> Self {
        Self { currency, interval, cents }
    }
}

/// Everything that something costs: what is in the default currency has fields of its own beside
/// the list, the Stripe price and the cents by each interval.
pub(crate) struct Prices<'a> {
    pub default: &'a Currency,
    pub month: (&'a mut Option<StripePriceId>, &'a mut Option<i64>),
    pub year: (&'a mut Option<StripePriceId>, &'a mut Option<i64>),
    pub all: &'a mut Vec<Price>,
}

impl Prices<'_> {
    /// Puts these in the place of all; without any, lists what the fields say by now.
    pub(crate) fn set(self, listed: Option<Vec<Price>>) {
        match listed {
            Some(list) => self.replace(list),
            None => self.list(None),
        }
    }

    fn replace(self, list: Vec<Price>) {
        let fields = [(Interval::Month, self.month), (Interval::Year, self.year)];
        for (interval, (id, cents)) in fields {
            let own = price_in(&list, self.default, interval);
            *id = own.and_then(|own| own.stripe_price_id.clone());
            *cents = own.and_then(|own| own.cents);
        }
        *self.all = ordered(self.default, list);
    }

    /// Lists what the fields say beside these in further currencies, or those that were listed.
    pub(crate) fn list(self, further: Option<Vec<Price>>) {
        let mut list = further.unwrap_or_else(|| std::mem::take(self.all));
        list.retain(|price| price.currency != *self.default);
        for (interval, (id, cents)) in [(Interval::Month, self.month), (Interval::Year, self.year)]
        {
            let (currency, stripe_price_id, cents) = (self.default.clone(), id.clone(), *cents);
            if stripe_price_id.is_some() || cents.is_some() {
                list.push(Price { currency, interval, stripe_price_id, cents });
            }
        }
        *self.all = ordered(self.default, list);
    }
}

/// Those in the default currency first, then by code; the month's before the year's.
fn ordered(default: &Currency, mut list: Vec<Price>) -> Vec<Price> {
    list.sort_by(|a, b| {
        let place = |price: &Price| (price.currency != *default, price.currency.clone());
        (place(a), a.interval).cmp(&(place(b), b.interval))
    });
    list
}

/// The price in a currency by an interval.
#[must_use]
pub(crate) fn price_in<'p>(
    prices: &'p [Price],
    currency: &Currency,
    interval: Interval,
) -> Option<&'p Price> {
    prices.iter().find(|price| price.currency == *currency && price.interval == interval)
}

/// Takes a list of prices that replaces what there is. `has_own`: the request names fields of
/// single prices as well.
///
/// # Errors
/// `Invalid`, naming each.
pub(crate) fn checked(
    list: Vec<NewPrice>,
    default: &Currency,
    has_own: bool,
) -> Result<Vec<Price>> {
    let mut faults = Vec::new();
    let mut fault = |field: String, message: String| faults.push(FieldFault { field, message });
    if has_own {
        let message = "cannot stand beside the fields of single prices: it has those too";
        fault("prices".to_owned(), message.to_owned());
    }
    let (mut places, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for (index, price) in list.iter().enumerate() {
        let currency = &price.currency;
        if !stripe::is_known_currency(currency) {
            let message = "is not a currency of Stripe's".to_owned();
            fault(format!("prices[{index}].currency"), message);
        }
        if !places.insert((currency, price.interval)) {
            let by = price.interval.as_str();
            fault(format!("prices[{index}]"), format!("is the second in {currency} by the {by}"));
        }
        match &price.stripe_price_id {
            None if currency != default => fault(
                format!("prices[{index}].stripe_price_id"),
                format!("is required: outside Stripe everything is paid in {default}"),
            ),
            Some(id) if !ids.insert(id) => {
                fault(format!("prices[{index}].stripe_price_id"), "is listed twice".to_owned());
            }
            _ => {}
        }
    }
    if faults.is_empty() {
        return Ok(list.into_iter().map(Into::into).collect());
    }
    Err(Error::Invalid(faults))
}

/// A code as people write it.
#[must_use]
pub(crate) fn shown(currency: &Currency) -> String {
    currency.as_str().to_uppercase()
}

/// The tier for whose slots a price is, according to `known`.
#[must_use]
pub(crate) fn tier_of(price: &StripePriceId, known: &[(StripePriceId, PriceOf)]) -> Option<i32> {
    known.iter().find_map(|(id, of)| match of {
        PriceOf::Tier(tier) if id == price => Some(*tier),
        PriceOf::Tier(_) | PriceOf::Plan(_) => None,
    })
}
