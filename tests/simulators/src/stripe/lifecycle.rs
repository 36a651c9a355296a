//! What happens during the life of a subscription: time, cards, and what customers and operators do
//! in the portal, in the Dashboard and at their bank.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::Simulator;

/// How a customer's way to pay behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Card {
    /// Every payment succeeds.
    #[default]
    Works,
    /// Every payment is refused.
    Declines,
    /// A payment without the cardholder present is refused until the cardholder confirms it. On the
    /// payment page, the cardholder confirms it.
    NeedsAction,
    /// The customer pays renewals by bank debit. Its outcome is known some days after the invoice
    /// was issued; until then the invoice is open and the subscription stays as it is.
    Debit {
        /// How long the bank takes.
        days: u16,
        /// Whether the money comes.
        succeeds: bool,
    },
}

/// How often a failed payment is retried, and what happens when the retries fail.
#[derive(Clone, Debug)]
pub struct Dunning {
    /// The day of each retry, counted from the first attempt.
    pub retry_days: Vec<u16>,
    /// What happens to the subscription when the last retry fails.
    pub then: GivenUp,
}

impl Default for Dunning {
    fn default() -> Self {
        Self { retry_days: vec![3, 5, 7], then: GivenUp::Canceled }
    }
}

/// What happens to a subscription when all retries of a payment have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The subscription ends.
    Canceled,
    /// The subscription becomes `unpaid` and renews with invoices that stay drafts.
    Unpaid,
    /// The subscription stays `past_due` and renews as before.
    PastDue,
}

impl Simulator {
    /// Advances the clock to an instant and stops it there. Applies everything that falls due on
    /// the way, in order: session expiry, trial ends, renewals, retries and scheduled
    /// cancellations. An earlier instant changes nothing.
    pub fn advance_to(&self, to: Timestamp) {
        self.state(|state| state.advance_to(to));
    }

    /// Sets how a customer's card behaves from now on.
    pub fn set_card(&self, customer: &str, card: Card) {
        self.state(|state| state.cards.insert(customer.to_owned(), card));
    }

    /// Sets how failed payments are handled from now on.
    pub fn set_dunning(&self, dunning: Dunning) {
        self.state(|state| state.dunning = dunning);
    }

    /// Sets whether renewal invoices stay drafts for an hour, as at Stripe. Off by default.
    pub fn set_drafts_wait(&self, wait: bool) {
        self.state(|state| state.drafts_wait = wait);
    }

    /// Pays every unpaid invoice of a subscription, oldest first, as the customer does on the
    /// invoice pages.
    ///
    /// # Errors
    /// When the subscription does not exist or the customer's card declines.
    pub fn pay_open_invoices(&self, subscription: &str) -> anyhow::Result<()> {
        Ok(self.state(|state| state.pay_open(subscription))?)
    }

    /// Subscribes a customer without Checkout, as the API and the Dashboard do. The subscription is
    /// `incomplete` until the first payment, and expires after 23 hours without it.
    ///
    /// # Errors
    /// When Stripe would reject the parameters.
    pub fn subscribe(&self, customer: &str, price: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.subscribe(customer, price))?)
    }

    /// Changes the price of a subscription's first item, as the portal does. Another interval
    /// starts a new period, paid in full.
    ///
    /// # Errors
    /// When the subscription or price does not exist, or the price does not fit the other items.
    pub fn change_plan(&self, subscription: &str, price: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.change_plan(subscription, price))?)
    }

    /// Sets how many units of a price a subscription has, as the Dashboard does without proration:
    /// adds its item, changes it, or removes it with `None`.
    ///
    /// # Errors
    /// When the subscription or price does not exist, or the price does not fit the other items.
    pub fn set_quantity(
        &self,
        subscription: &str,
        price: &str,
        quantity: Option<u64>,
    ) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.set_quantity(subscription, price, quantity))?)
    }

    /// Schedules a subscription to end with its period, or undoes that, as the API and the
    /// Dashboard do.
    ///
    /// # Errors
    /// When the subscription does not exist or has ended.
    pub fn cancel_at_period_end(&self, subscription: &str, cancel: bool) -> anyhow::Result<Value> {
        let params = json!({ "cancel_at_period_end": cancel.to_string() });
        Ok(self.state(|state| state.update_subscription(subscription, &params))?)
    }

    /// Pauses a subscription: its status is `paused`, and it does not renew.
    ///
    /// # Errors
    /// When the subscription does not exist or has ended.
    pub fn pause(&self, subscription: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.pause(subscription))?)
    }

    /// Resumes a paused subscription with a new period that starts now. It stays paused until that
    /// period is paid.
    ///
    /// # Errors
    /// When the subscription does not exist or is not paused.
    pub fn resume(&self, subscription: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.resume(subscription))?)
    }

    /// Schedules a subscription to end with its period, or undoes that, as customers do in the
    /// portal. Under flexible billing, this sets only `cancel_at`, not `cancel_at_period_end`.
    ///
    /// # Errors
    /// When the subscription does not exist or has ended.
    pub fn cancel_in_portal(&self, subscription: &str, cancel: bool) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.cancel_in_portal(subscription, cancel))?)
    }

    /// Pauses the collection of a subscription's invoices with a behavior (`keep_as_draft`,
    /// `mark_uncollectible` or `void`), or resumes it with `None`.
    ///
    /// # Errors
    /// When the subscription does not exist or has ended, or the behavior is unknown.
    pub fn pause_collection(
        &self,
        subscription: &str,
        behavior: Option<&str>,
    ) -> anyhow::Result<Value> {
        let pause = behavior.map_or(json!(""), |behavior| json!({ "behavior": behavior }));
        Ok(self.state(|state| {
            state.update_subscription(subscription, &json!({ "pause_collection": pause }))
        })?)
    }

    /// Refunds the charge with this id, or the charge of the session or invoice with this id:
    /// `amount` cents, or everything that is left.
    ///
    /// # Errors
    /// When the charge does not exist, or less than `amount` is left.
    pub fn refund(&self, id: &str, amount: Option<i64>) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.refund(id, amount))?)
    }

    /// Disputes the charge with this id, or the charge of the session or invoice with this id, and
    /// returns the dispute.
    ///
    /// # Errors
    /// When the charge does not exist.
    pub fn dispute(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.dispute(id))?)
    }

    /// Closes a dispute as won or lost.
    ///
    /// # Errors
    /// When the dispute does not exist.
    pub fn close_dispute(&self, id: &str, won: bool) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.close_dispute(id, won))?)
    }

    /// Voids an open invoice.
    ///
    /// # Errors
    /// When the invoice does not exist or is not open.
    pub fn void_invoice(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.write_off(id, "void"))?)
    }

    /// Marks an open invoice as uncollectible.
    ///
    /// # Errors
    /// When the invoice does not exist or is not open.
    pub fn mark_uncollectible(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.write_off(id, "uncollectible"))?)
    }

    /// Sets whether finalizing a customer's invoices fails from now on. An invoice that failed
    /// stays a draft.
    pub fn fail_finalization(&self, customer: &str, fail: bool) {
        self.state(|state| {
            let _ = if fail {
                state.unfinalizable.insert(customer.to_owned())
            } else {
                state.unfinalizable.remove(customer)
            };
        });
    }

    /// Changes a customer: `address`, `description`, `email`, `metadata`, `name`, `phone`.
    ///
    /// # Errors
    /// When the customer does not exist or a field is unknown.
    pub fn update_customer(&self, customer: &str, changes: &Value) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.update_customer(customer, changes))?)
    }

    /// Deletes a customer and ends its subscriptions.
    ///
    /// # Errors
    /// When the customer does not exist.
    pub fn delete_customer(&self, customer: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.delete_customer(customer))?)
    }
}
