//! A company that pays Stripe by the month or year. Its world's clock is stopped, and moved with
//! Stripe's.

use aws_lambda_events::sqs::SqsEvent;
use jiff::Timestamp;
use serde_json::Value;
use simulators::stripe::CheckoutParams;

use crate::{World, payer, text};

/// A company that has checked out, and what it is called at Stripe.
pub struct Company {
    /// The functions, whose clocks are this company's.
    pub world: World,
    /// Its Stripe customer.
    pub customer: String,
    /// Its Stripe subscription.
    pub stripe: String,
    /// Ours of that.
    pub id: String,
    seen: usize,
}

/// When it checks out: on the last day of a month.
pub const START: &str = "2026-01-31T10:00:00Z";

impl Company {
    /// One that pays for pro by the month since [`START`].
    pub async fn new() -> Self {
        Self::with(CheckoutParams::subscription("price_pro_month")).await
    }

    /// One that checks out with these parameters.
    ///
    /// # Panics
    /// Where that does not come to a subscription.
    pub async fn with(params: CheckoutParams) -> Self {
        let world = Box::pin(World::new()).await;
        let start: Timestamp = START.parse().expect("an instant");
        world.stripe.set_now(start);
        world.clock.stop_at(start);
        let metadata = [
            ("company_name".to_owned(), "Acme".to_owned()),
            ("admin_email".to_owned(), "jane@acme.example".to_owned()),
        ]
        .into();
        let session = world
            .stripe
            .create_checkout(CheckoutParams { metadata, ..params })
            .expect("a checkout");
        let paid = world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        let mut company = Self {
            world,
            customer: text(&paid["customer"]),
            stripe: text(&paid["subscription"]),
            id: String::new(),
            seen: 0,
        };
        Box::pin(company.deliver()).await;
        company.id = text(&company.row("subscription_id").await["subscription_id"]);
        company
    }

    /// Lets days pass at Stripe and here, and delivers what happened.
    ///
    /// # Panics
    /// Where one stays.
    pub async fn pass(&mut self, days: i64) {
        let now = self.world.clock.pass(days * 86_400);
        self.world.stripe.advance_to(now);
        self.deliver().await;
    }

    /// Delivers all new events, one batch after the other.
    ///
    /// # Panics
    /// Where one stays.
    pub async fn deliver(&mut self) {
        let new = self.new_events();
        for batch in new.chunks(10) {
            assert!(self.hand_over(batch).await, "nothing stays");
        }
    }

    /// All events since the last call, of whatever type.
    #[must_use]
    pub fn new_events(&mut self) -> Vec<Value> {
        let events = self.world.stripe.events();
        let new = events[self.seen..].to_vec();
        self.seen = events.len();
        new
    }

    /// One batch; whether nothing of it stays.
    pub async fn hand_over(&self, events: &[Value]) -> bool {
        let mut batch = SqsEvent::default();
        batch.records = events
            .iter()
            .map(|event| crate::sqs_message(&event.to_string(), &self.customer))
            .collect();
        self.world.events.handle(batch).await.batch_item_failures.is_empty()
    }

    /// Columns of its subscription.
    pub async fn row(&self, columns: &str) -> Value {
        self.world
            .row(&format!(
                "SELECT {columns} FROM subscriptions WHERE stripe_subscription_id = '{}'",
                self.stripe
            ))
            .await
    }

    /// Its subscription's status.
    pub async fn status(&self) -> String {
        text(&self.row("status").await["status"])
    }

    /// Slots by tier.
    pub async fn slots(&self) -> Value {
        let sql = "SELECT jsonb_object_agg(tier_id, slot_limit) AS slots
                   FROM subscription_tier_allocations WHERE subscription_id";
        self.world.row(&format!("{sql} = '{}'", self.id)).await["slots"].clone()
    }

    /// The audit's names since the checkout, oldest first.
    pub async fn trail(&self) -> Vec<String> {
        let sql = "SELECT event_type FROM subscription_audit WHERE tenant_id = 'acme'
                   AND event_type LIKE 'STRIPE%' AND event_type <> 'STRIPE_CHECKOUT_COMPLETED'";
        self.world
            .rows(&format!("{sql} ORDER BY id"))
            .await
            .iter()
            .map(|row| text(&row["event_type"]))
            .collect()
    }

    /// Kinds of all flags, oldest first.
    pub async fn flags(&self) -> Vec<String> {
        self.world
            .rows("SELECT kind FROM flags ORDER BY flag_id")
            .await
            .iter()
            .map(|row| text(&row["kind"]))
            .collect()
    }

    /// Puts a device on a subscription, and counts it.
    ///
    /// # Panics
    /// Where it is there already.
    pub async fn device(&self, id: &str, on: &str, tier: Option<i32>) {
        let sql = "INSERT INTO devices (tenant_id, device_id, subscription_id, tier_id,
                   registered_at) VALUES ('acme', $1, $2, $3, now())";
        self.world.db.execute(sql, &[&id, &on, &tier]).await.expect("a device");
        self.world
            .db
            .execute(
                "UPDATE subscriptions SET active_device_count = active_device_count + 1
                      WHERE subscription_id = $1",
                &[&on],
            )
            .await
            .expect("counted");
        let sql = "UPDATE subscription_tier_allocations SET slots_used = slots_used + 1
                   WHERE subscription_id = $1 AND tier_id = $2";
        self.world.db.execute(sql, &[&on, &tier]).await.expect("counted");
    }
}
