//! One customer: what it does at Stripe.

use jiff::SignedDuration;
use serde_json::Value;
use shared::base::ids::{AddonOrderId, Currency, StripeCustomerId, SubscriptionId, TenantId};
use shared::outside::stripe::NewPayment;
use simulators::stripe::{Card, CheckoutParams, Simulator};
use stripe_events::StripeEvents;
use tests::{Luck, TestClock, payer, text};

use super::side::Side;

/// The price of a standard slot.
pub(super) const SLOT: &str = "price_standard_slot_month";

/// The prices of a life in euros end so; the others are in dollars.
pub(super) const EUROS: &str = "_eur";

pub(super) const PLANS: [(&str, &str, i32); 3] = [
    ("price_starter_month", "starter", 30),
    ("price_pro_month", "pro", 260),
    ("price_enterprise_month", "enterprise", 5000),
];

/// One customer, at Stripe and in time.
pub(super) struct Life<'a> {
    pub(super) luck: Luck,
    pub(super) stripe: &'a Simulator,
    pub(super) clock: TestClock,
    pub(super) name: String,
    /// What it pays in: a customer has one currency.
    pub(super) currency: &'static str,
    pub(super) customer: Option<String>,
    pub(super) subscription: Option<String>,
    pub(super) paying_later: Option<String>,
    /// Whether it has paid by bank debit: how long grace is after one that failed depends on when
    /// that was read.
    pub(super) debits: bool,
    /// Checkouts of slots that are open.
    pub(super) orders: Vec<String>,
    pub(super) seen: usize,
}

impl Life<'_> {
    pub(super) fn pass(&mut self, days: usize) {
        let seconds = i64::try_from(days).expect("days") * 86_400
            + i64::try_from(self.luck.below(86_400)).expect("seconds");
        let now = self.clock.pass(seconds);
        self.stripe.advance_to(now);
    }

    pub(super) fn status(&self) -> String {
        let subscription = self.subscription.as_ref().and_then(|id| self.stripe.object(id));
        subscription.map_or_else(String::new, |subscription| text(&subscription["status"]))
    }

    fn plan_price(&self) -> String {
        let subscription = self.subscription.as_ref().and_then(|id| self.stripe.object(id));
        let price = |subscription: Value| text(&subscription["items"]["data"][0]["price"]["id"]);
        subscription.map_or_else(String::new, price)
    }

    /// The same price in what it pays in.
    fn priced(&self, price: &str) -> String {
        let suffix = if self.currency == "eur" { EUROS } else { "" };
        format!("{price}{suffix}")
    }

    fn any_plan(&mut self) -> String {
        let plan = self.luck.below(3);
        self.priced(PLANS[plan].0)
    }

    /// Checks out, for the first time or again.
    pub(super) fn subscribe(&mut self) {
        let price = self.any_plan();
        let mut params = CheckoutParams {
            customer: self.customer.clone(),
            ..CheckoutParams::subscription(&price)
        };
        let metadata = [
            ("company_name", self.name.clone()),
            ("admin_email", format!("{}@lives.example", self.name)),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        if self.luck.percent(50) {
            params.metadata = metadata;
        } else {
            params.subscription_metadata = metadata;
        }
        if self.luck.percent(20) {
            params.quantity = 1 + self.luck.below(4) as u64;
        }
        if self.luck.percent(15) {
            params.also = vec![(self.priced(SLOT), 1 + self.luck.below(5) as u64)];
        }
        params.trial_period_days = self.luck.percent(30).then_some(14);
        let session = self.stripe.create_checkout(params).expect("a checkout");
        let payer = payer(&format!("{}@lives.example", self.name));
        let later = self.luck.percent(15);
        let paid = if later {
            self.stripe.pay_async(&session, payer)
        } else {
            self.stripe.pay(&session, payer)
        };
        // A card that declines leaves the session open.
        let Ok(paid) = paid else { return };
        (self.customer, self.subscription) =
            (Some(text(&paid["customer"])), Some(text(&paid["subscription"])));
        self.paying_later = later.then_some(session);
    }

    /// Something happens. What Stripe refuses does not.
    pub(super) fn step(&mut self) -> &'static str {
        let (stripe, subscription) = (self.stripe, self.subscription.clone().unwrap_or_default());
        let customer = self.customer.clone().unwrap_or_default();
        match self.luck.below(26) {
            0 => {
                stripe.set_card(&customer, Card::Declines);
                "the card declines"
            }
            20 | 21 => {
                let days = u16::try_from(1 + self.luck.below(14)).expect("few");
                let succeeds = self.luck.percent(60);
                stripe.set_card(&customer, Card::Debit { days, succeeds });
                self.debits = true;
                "by bank debit from now on"
            }
            22 | 23 => {
                let price = self.plan_price();
                let quantity = Some(1 + self.luck.below(4) as u64);
                drop(stripe.set_quantity(&subscription, &price, quantity));
                "another quantity"
            }
            24 | 25 => {
                let quantity = self.luck.percent(70).then(|| 1 + self.luck.below(6) as u64);
                drop(stripe.set_quantity(&subscription, &self.priced(SLOT), quantity));
                "slots are changed at Stripe"
            }
            1 | 2 => {
                stripe.set_card(&customer, Card::Works);
                "the card works"
            }
            3 => {
                drop(stripe.pay_open_invoices(&subscription));
                "open invoices are paid"
            }
            4 | 5 => {
                let plan = self.any_plan();
                drop(stripe.change_plan(&subscription, &plan));
                "another plan"
            }
            6 => {
                drop(stripe.cancel_at_period_end(&subscription, true));
                "ends with its period"
            }
            7 => {
                drop(stripe.cancel_in_portal(&subscription, self.luck.percent(50)));
                "ends or renews, by the portal"
            }
            8 if self.status() == "paused" => {
                // Grace after a suspension depends on what came first, by the rule itself.
                stripe.set_card(&customer, Card::Works);
                drop(stripe.resume(&subscription));
                "resumed"
            }
            8 if self.status() == "active" => {
                drop(stripe.pause(&subscription));
                "paused"
            }
            9 => {
                let behavior =
                    [None, Some("void"), Some("keep_as_draft"), Some("mark_uncollectible")]
                        [self.luck.below(4)];
                drop(stripe.pause_collection(&subscription, behavior));
                "collection paused or not"
            }
            10 => {
                drop(stripe.cancel(&subscription));
                "cancelled"
            }
            11 | 12 if ["", "canceled", "unpaid", "past_due"].contains(&self.status().as_str()) => {
                self.subscribe();
                "subscribed again"
            }
            13 => {
                if let Some(invoice) = stripe
                    .object(&subscription)
                    .and_then(|found| found["latest_invoice"].as_str().map(str::to_owned))
                {
                    drop(if self.luck.percent(50) {
                        stripe.refund(&invoice, None)
                    } else {
                        stripe.dispute(&invoice)
                    });
                }
                "refunded or disputed"
            }
            14 if self.paying_later.is_some() => {
                let session = self.paying_later.take().unwrap_or_default();
                drop(if self.luck.percent(60) {
                    stripe.settle(&session)
                } else {
                    stripe.fail_async(&session)
                });
                "the bank answers"
            }
            15 | 16 if !self.orders.is_empty() => {
                let session = self.orders.swap_remove(self.luck.below(self.orders.len()));
                drop(stripe.pay(&session, payer(&format!("{}@lives.example", self.name))));
                "slots are paid"
            }
            _ => {
                let days = 1 + self.luck.below(40);
                self.pass(days);
                "time passes"
            }
        }
    }

    /// Orders slots for the MAIN, by an order of ours or as a Stripe subscription of their own.
    /// False where there is none to order for.
    pub(super) async fn order(
        &mut self,
        functions: &StripeEvents,
        in_order: &Side,
        disorder: &Side,
    ) -> bool {
        let now = self.clock.now();
        let (Some(stripe), Some(customer)) = (&self.subscription, &self.customer) else {
            return false;
        };
        let Some((parent, tenant)) = in_order.main(stripe, now).await else { return false };
        let other = disorder.main(stripe, now).await.expect("both have heard all");
        if other.0 != parent {
            // It was adopted on one side: no order can name both.
            return false;
        }
        let slots = 1 + self.luck.below(4);
        if self.luck.percent(40) {
            let metadata = [("tenant_id", tenant), ("parent_subscription_id", parent)]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
            let own = CheckoutParams {
                metadata,
                quantity: slots as u64,
                customer: Some(customer.clone()),
                ..CheckoutParams::subscription(&self.priced(SLOT))
            };
            self.orders.push(self.stripe.create_checkout(own).expect("a checkout"));
            return true;
        }
        let order = format!("ord_{:032x}", u128::from(self.luck.0));
        let count = i32::try_from(slots).expect("few");
        for side in [in_order, disorder] {
            side.order(&order, (&tenant, &parent), (count, self.currency), now).await;
        }
        let new = NewPayment {
            tenant: &TenantId::parse(&tenant).expect("an id"),
            customer: &StripeCustomerId::parse(customer).expect("an id"),
            parent: &SubscriptionId::parse(&parent).expect("an id"),
            order: &AddonOrderId::parse(&order).expect("an id"),
            lines: &[("Slots".to_owned(), 300 * i64::from(count))],
            currency: &Currency::parse(self.currency).expect("a code"),
            expires_at: now + SignedDuration::from_mins(35),
            success_url: "https://app.pulse.example/",
            cancel_url: "https://app.pulse.example/",
        };
        let opened = functions.applier.stripe.create_payment_session(&new, &order).await;
        self.orders.push(opened.expect("a checkout").id.to_string());
        true
    }
}
