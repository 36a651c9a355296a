//! A shop of slots: tenants with a MAIN that is paid by the month, by the year or outside Stripe,
//! and what they order.

use serde_json::{Value, json};
use simulators::stripe::{Interval, Price};

use crate::api::{Api, Reply, Who};
use crate::{World, payer, text};

/// Where slots are ordered.
pub const ADDON_CHECKOUT: &str = "/api/v1/customer/billing/addon-checkout";

/// The instant of [`Shop::at_noon`]: in no month's or year's way, and far from a midnight.
const NOON: &str = "2026-06-10T12:00:00Z";

/// A world with the tenants `acme` and `bolt`, and Stripe's prices of slots.
pub struct Shop {
    /// Its functions but those of HTTP.
    pub world: World,
    /// Those of HTTP.
    pub api: Api,
}

impl Shop {
    /// A shop in which no tenant has anything.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub async fn new() -> Self {
        let world = World::new().await;
        world
            .db
            .execute(
                "INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme'), ('bolt', 'Bolt')",
                &[],
            )
            .await
            .expect("tenants");
        for (tier, cents) in [("basic", 100), ("standard", 300), ("premium", 900)] {
            for (word, interval, unit_amount) in
                [("month", Interval::Month, cents), ("year", Interval::Year, 10 * cents)]
            {
                let id = format!("price_{tier}_slot_{word}");
                world.stripe.add_price(Price {
                    product: format!("prod_{tier}_slot"),
                    currency: "usd".to_owned(),
                    unit_amount,
                    interval,
                    nickname: id.clone(),
                    id,
                });
            }
        }
        let api = world.api().await;
        Self { world, api }
    }

    /// The same at noon of 10 June 2026: a price is one of whole days, and must not depend on when
    /// a test runs.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub async fn at_noon() -> Self {
        let shop = Self::new().await;
        let noon = NOON.parse().expect("an instant");
        shop.world.clock.run_from(noon);
        shop.world.stripe.set_now(noon);
        shop
    }

    /// A MAIN of the plan pro, paid at Stripe by this interval: its id and its Stripe
    /// subscription's.
    ///
    /// # Panics
    /// Where it is not provisioned.
    pub async fn paid_main(&self, tenant: &str, interval: &str) -> (String, String) {
        let session = self.world.checkout(
            &format!("price_pro_{interval}"),
            &[("tenant_id", tenant), ("plan_id", "pro")],
        );
        self.world.stripe.pay(&session, payer(&format!("jane@{tenant}.example"))).expect("paid");
        self.world.receive(&[&self.world.event("checkout.session.completed")]).await;
        let sql = format!(
            "SELECT subscription_id, stripe_subscription_id FROM subscriptions
             WHERE stripe_checkout_session_id = '{session}'"
        );
        let row = self.world.row(&sql).await;
        (text(&row["subscription_id"]), text(&row["stripe_subscription_id"]))
    }

    /// A MAIN that an operator made, for so many days.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn outside_main(&self, tenant: &str, days: i64) -> String {
        let new = json!({"tenant_id": tenant, "subscription_type": "MAIN", "device_limit": 5,
        "term_days": days});
        text(&self.api.create_subscription(new).await["subscription_id"])
    }

    /// Moves the term of a subscription: from and to so many days from today's beginning, UTC.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn move_term(&self, id: &str, from: i32, to: i32) {
        let sql = "UPDATE subscriptions SET term_start = (today + $2::integer) AT TIME ZONE 'UTC',
                   term_end = (today + $3::integer) AT TIME ZONE 'UTC'
                   FROM (SELECT ($4::timestamptz AT TIME ZONE 'UTC')::date AS today) day
                   WHERE subscription_id = $1";
        assert_eq!(
            self.world
                .db
                .execute(sql, &[&id, &from, &to, &self.world.clock.now()])
                .await
                .expect("moved"),
            1
        );
    }

    /// An order of slots, `[(tier, slots)]`.
    #[must_use]
    pub fn wanted(parent: &str, additions: &[(i32, i32)]) -> Value {
        let additions: Vec<_> = additions
            .iter()
            .map(|(tier, slots)| json!({"tier_id": tier, "additional_slots": slots}))
            .collect();
        let success_url = "https://app.pulse.example/done?session={CHECKOUT_SESSION_ID}";
        json!({"parent_subscription_id": parent, "additions": additions, "success_url": success_url,
            "cancel_url": "https://app.pulse.example/slots"})
    }

    /// Asks for a checkout, by no key.
    pub async fn order(&self, tenant: &str, body: Value) -> Reply {
        self.api.send(Who::Customer(tenant), "POST", ADDON_CHECKOUT, &[], Some(body)).await
    }

    /// The same by a key.
    pub async fn order_as(&self, key: &str, body: Value) -> Reply {
        self.api
            .send(
                Who::Customer("acme"),
                "POST",
                ADDON_CHECKOUT,
                &[("idempotency-key", key)],
                Some(body),
            )
            .await
    }

    /// Asks for a price.
    pub async fn price(&self, tenant: &str, body: Value) -> Reply {
        self.api
            .send(
                Who::Customer(tenant),
                "POST",
                &format!("{ADDON_CHECKOUT}?dry_run=true"),
                &[],
                Some(body),
            )
            .await
    }

    /// Opens a checkout of slots for acme, and answers its session.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn open(&self, parent: &str, additions: &[(i32, i32)]) -> String {
        text(&self.order("acme", Self::wanted(parent, additions)).await.expect(200)["session_id"])
    }

    /// Pays a session, and answers the event that says so.
    ///
    /// # Panics
    /// Where it cannot be paid.
    #[must_use]
    pub fn pay(&self, session: &str) -> Value {
        self.world.stripe.pay(session, payer("jane@acme.example")).expect("paid");
        self.world.event("checkout.session.completed")
    }

    /// Opens, pays and applies, and answers the ADDON.
    ///
    /// # Panics
    /// Where that fails.
    pub async fn buy(&self, parent: &str, additions: &[(i32, i32)]) -> String {
        let session = self.open(parent, additions).await;
        let event = self.pay(&session);
        self.world.receive(&[&event]).await;
        let addon = self
            .world
            .row(&format!(
                "SELECT subscription_id FROM subscriptions
             WHERE stripe_checkout_session_id = '{session}'"
            ))
            .await;
        text(&addon["subscription_id"])
    }

    /// The items of a Stripe subscription next to its plan, as price and quantity.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn items(&self, stripe_subscription: &str) -> Vec<(String, i64)> {
        let subscription = self.world.stripe.object(stripe_subscription).expect("a subscription");
        let items = subscription["items"]["data"].as_array().expect("items");
        items
            .iter()
            .skip(1)
            .map(|item| {
                (text(&item["price"]["id"]), item["quantity"].as_i64().expect("a quantity"))
            })
            .collect()
    }
}
