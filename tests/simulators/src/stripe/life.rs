//! What a subscriber's life brings: time, cards, and what people do in the portal, the Dashboard
//! and at their bank.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::Simulator;

/// How a customer's card behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Card {
    /// Every payment succeeds.
    #[default]
    Works,
    /// Every payment is refused.
    Declines,
    /// A payment without its owner present is refused until the owner confirms it; on the payment
    /// page they do.
    NeedsAction,
}

/// How often a failed payment is tried again, and what follows when that does not help.
#[derive(Clone, Debug)]
pub struct Dunning {
    /// Days after the first attempt.
    pub retry_days: Vec<u16>,
    /// What becomes of the subscription.
    pub then: GivenUp,
}

impl Default for Dunning {
    fn default() -> Self {
        Self { retry_days: vec![3, 5, 7], then: GivenUp::Canceled }
    }
}

/// What becomes of a subscription that nobody pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It ends.
    Canceled,
    /// It goes on, with invoices that stay drafts.
    Unpaid,
    /// It goes on as it is.
    PastDue,
}

impl Simulator {
    /// Lets time pass, through everything that is due on the way and in its order: expiry of
    /// sessions, ends of trials, renewals, retries, scheduled ends. The clock stands still from
    /// then on; an earlier instant changes nothing.
    pub fn advance_to(&self, to: Timestamp) {
        self.state(|state| state.advance_to(to));
    }

    /// Sets how a customer's card behaves from now on.
    pub fn set_card(&self, customer: &str, card: Card) {
        self.state(|state| state.cards.insert(customer.to_owned(), card));
    }

    /// Sets what follows failed payments from now on.
    pub fn set_dunning(&self, dunning: Dunning) {
        self.state(|state| state.dunning = dunning);
    }

    /// Lets renewal invoices stay drafts for an hour, as Stripe does; off at first.
    pub fn set_drafts_wait(&self, wait: bool) {
        self.state(|state| state.drafts_wait = wait);
    }

    /// Pays every unpaid invoice of a subscription, oldest first, as its owner does on their pages.
    ///
    /// # Errors
    /// When there is no such subscription, or the customer's card declines.
    pub fn pay_open_invoices(&self, subscription: &str) -> anyhow::Result<()> {
        Ok(self.state(|state| state.pay_open(subscription))?)
    }

    /// Subscribes a customer without Checkout, as the API and the Dashboard do; `incomplete` until
    /// the first payment, and for 23 hours.
    ///
    /// # Errors
    /// Where Stripe would refuse the parameters.
    pub fn subscribe(&self, customer: &str, price: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.subscribe(customer, price))?)
    }

    /// Puts another price on a subscription's first item, as the portal does. Another interval
    /// starts a new period, paid in full.
    ///
    /// # Errors
    /// When there is no such subscription or price, or the price does not fit the other items.
    pub fn change_plan(&self, subscription: &str, price: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.change_plan(subscription, price))?)
    }

    /// Lets a subscription end with its period, or go on after all, as the API and the Dashboard
    /// do.
    ///
    /// # Errors
    /// When there is no such subscription.
    pub fn cancel_at_period_end(&self, subscription: &str, cancel: bool) -> anyhow::Result<Value> {
        let params = json!({ "cancel_at_period_end": cancel.to_string() });
        Ok(self.state(|state| state.update_subscription(subscription, &params))?)
    }

    /// Pauses a subscription: `paused`, without renewals.
    ///
    /// # Errors
    /// When there is no such subscription.
    pub fn pause(&self, subscription: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.pause(subscription))?)
    }

    /// Resumes a paused subscription by a new period from now on; it stays paused until that is
    /// paid.
    ///
    /// # Errors
    /// When there is no such paused subscription.
    pub fn resume(&self, subscription: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.resume(subscription))?)
    }

    /// Lets a subscription end with its period, or go on after all, as customers do in the portal:
    /// under flexible billing that sets `cancel_at` only, not `cancel_at_period_end`.
    ///
    /// # Errors
    /// When there is no such subscription.
    pub fn cancel_in_portal(&self, subscription: &str, cancel: bool) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.cancel_in_portal(subscription, cancel))?)
    }

    /// Pauses the collection of a subscription's invoices (`keep_as_draft`, `mark_uncollectible` or
    /// `void`), or goes on with it.
    ///
    /// # Errors
    /// When there is no such subscription or behaviour.
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

    /// Refunds a charge, or the one of a session or an invoice: `amount` cents, or all that is
    /// left.
    ///
    /// # Errors
    /// When there is no such charge, or less is left.
    pub fn refund(&self, id: &str, amount: Option<i64>) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.refund(id, amount))?)
    }

    /// Disputes a charge, or the one of a session or an invoice, and answers the dispute.
    ///
    /// # Errors
    /// When there is no such charge.
    pub fn dispute(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.dispute(id))?)
    }

    /// Decides a dispute.
    ///
    /// # Errors
    /// When there is no such dispute.
    pub fn close_dispute(&self, id: &str, won: bool) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.close_dispute(id, won))?)
    }

    /// Voids an open invoice.
    ///
    /// # Errors
    /// When there is no such open invoice.
    pub fn void_invoice(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.write_off(id, "void"))?)
    }

    /// Marks an open invoice uncollectible.
    ///
    /// # Errors
    /// When there is no such open invoice.
    pub fn mark_uncollectible(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.write_off(id, "uncollectible"))?)
    }

    /// Lets the finalization of a customer's invoices fail from now on, or succeed again; what
    /// failed stays a draft.
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
    /// When there is no such customer or field.
    pub fn update_customer(&self, customer: &str, changes: &Value) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.update_customer(customer, changes))?)
    }

    /// Deletes a customer, which ends its subscriptions.
    ///
    /// # Errors
    /// When there is no such customer.
    pub fn delete_customer(&self, customer: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.delete_customer(customer))?)
    }
}
