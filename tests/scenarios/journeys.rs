//! Journeys through time (docs/adr/0018-business-time.md): whichever way a business is led through
//! the same days, the same rows are there in the end.

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use journey::{Business, Journey};
use serde_json::{Value, json};
use simulators::stripe::{Card, CheckoutParams, Dunning, GivenUp};
use tests::api::{Api, Who};
use tests::{World, payer, text};
use tokio_postgres::Client;

const START: &str = "2027-01-31T09:12:13Z";
const DAYS: i64 = 9;

/// A world of four companies, whose time is led.
struct Led {
    world: World,
    api: Api,
    /// How many of Stripe's events were delivered.
    seen: usize,
    /// After so many calls whoever leads is killed.
    fuse: Option<usize>,
    runs: usize,
}

impl Led {
    /// A trial whose card is declined, one that cancels its trial, one that pays, and one that pays
    /// by wire and forgets it.
    async fn new() -> Self {
        let world = World::new().await;
        let start: Timestamp = START.parse().expect("an instant");
        // Those of the seed are of another time.
        world.db.execute("UPDATE subscriptions SET status = 'EXPIRED'", &[]).await.expect("ended");
        world.clock.stop_at(start);
        let clock = world.clock.clone();
        world.stripe.follow(move || clock.now());
        let dunning = Dunning { retry_days: vec![1, 2, 3], then: GivenUp::Canceled };
        world.stripe.set_dunning(dunning);
        let api = world.api().await;
        let mut led = Self { world, api, seen: 0, fuse: None, runs: 0 };
        for (name, trial) in [("Trial", Some(4)), ("Quits", Some(6)), ("Card", None)] {
            led.world.clock.pass(61);
            led.check_out(name, trial);
        }
        led.settle().await.expect("settled");
        let wire = [
            ("/api/v1/operator/tenants", json!({"tenant_id": "wire", "name": "Wire"})),
            (
                "/api/v1/operator/subscriptions",
                json!({"tenant_id": "wire", "subscription_type": "MAIN", "plan_id": "pro",
                       "device_limit": 5, "term_days": 5}),
            ),
        ];
        for (path, body) in wire {
            led.api.send(Who::Admin, "POST", path, &[], Some(body)).await.expect(201);
        }
        led
    }

    fn check_out(&self, name: &str, trial_period_days: Option<u32>) {
        let email = format!("jane@{name}.example").to_lowercase();
        let metadata = [("company_name", name), ("plan_id", "pro"), ("admin_email", &email)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let params = CheckoutParams {
            metadata,
            trial_period_days,
            ..CheckoutParams::subscription("price_pro_month")
        };
        let session = self.world.stripe.create_checkout(params).expect("a checkout");
        let paid = self.world.stripe.pay(&session, payer(&email)).expect("paid");
        let (customer, subscription) = (text(&paid["customer"]), text(&paid["subscription"]));
        match name {
            "Trial" => self.world.stripe.set_card(&customer, Card::Declines),
            "Quits" => {
                drop(self.world.stripe.cancel_at_period_end(&subscription, true).expect("it is"));
            }
            _ => {}
        }
    }

    /// Leads it to the end, and starts again where whoever leads is killed.
    async fn lead(mut self, every_hour: bool, kill_after: Option<usize>) -> Self {
        let start: Timestamp = START.parse().expect("an instant");
        let to = start + SignedDuration::from_hours(DAYS * 24) - SignedDuration::from_secs(733);
        let mut kills = 0;
        loop {
            self.fuse = kill_after;
            let at = self.world.clock.now();
            let led = journey::lead(&mut self, Journey { to, every_hour }, at, |_, _| {}).await;
            match led {
                Ok(()) => break,
                Err(error) => assert_eq!(error.to_string(), "killed", "{error:#}"),
            }
            kills += 1;
        }
        assert_eq!(kills > 0, kill_after.is_some(), "{kills}");
        assert_eq!(self.world.clock.now(), to);
        self
    }

    fn burn(&mut self) -> Result<()> {
        if let Some(fuse) = &mut self.fuse {
            ensure!(*fuse > 0, "killed");
            *fuse -= 1;
        }
        Ok(())
    }

    /// What has become of everyone. Ids are other ones in each world.
    async fn rows(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        for sql in [
            "SELECT tenant_id, subscription_type, status, stripe_status, term_start, term_end,
                    grace_end, stripe_paid_until, version, updated_at
             FROM subscriptions WHERE plan_id = 'pro' AND created_at >= '2027-01-31'
             ORDER BY tenant_id",
            "SELECT tenant_id, event_type, event_timestamp, actor_type, details->>'mail' AS mail
             FROM subscription_audit WHERE event_timestamp >= '2027-01-31'
             ORDER BY event_timestamp, tenant_id, event_type, details->>'mail'",
            "SELECT tenant_id, kind, status, attempts, created_at, updated_at, payload->>'mail' AS m
             FROM outbox_steps WHERE created_at >= '2027-01-31'
             ORDER BY created_at, tenant_id, kind, payload->>'mail'",
            "SELECT kind, tenant_id, created_at FROM flags ORDER BY created_at, kind, tenant_id",
            "SELECT event_type, status, created_at, updated_at FROM stripe_events
             ORDER BY created_at, event_type, updated_at, status",
        ] {
            rows.extend(self.world.rows(sql).await);
        }
        rows
    }
}

impl Business for Led {
    fn database(&self) -> &Client {
        &self.world.db
    }

    async fn hold(&mut self, at: Timestamp) -> Result<()> {
        self.burn()?;
        ensure!(at >= self.world.clock.now(), "back to {at}");
        self.world.clock.stop_at(at);
        self.burn()?;
        self.world.stripe.advance_to(at);
        Ok(())
    }

    async fn next_at_stripe(&mut self) -> Result<Option<Timestamp>> {
        self.burn()?;
        Ok(self.world.stripe.next_due())
    }

    async fn settle(&mut self) -> Result<()> {
        self.burn()?;
        let news = tests::new_events(&self.world.stripe, &mut self.seen);
        if !news.is_empty() {
            self.world.receive(&news.iter().collect::<Vec<_>>()).await;
        }
        self.burn()
    }

    async fn run_hourly(&mut self) -> Result<Value> {
        self.burn()?;
        self.runs += 1;
        let summary = self.world.renewals.handle(json!({})).await?;
        self.burn()?;
        Ok(serde_json::to_value(summary)?)
    }

    async fn run_minutely(&mut self) -> Result<Value> {
        self.burn()?;
        let summary = self.world.outbox().await;
        self.burn()?;
        Ok(summary)
    }
}

#[tokio::test]
async fn every_way_through_the_same_days_ends_in_the_same_rows() {
    let straight = Box::pin(Led::new().await.lead(false, None)).await;
    let rows = straight.rows().await;
    let status = "SELECT jsonb_object_agg(tenant_id, status) AS of FROM subscriptions
                  WHERE tenant_id IN ('trial', 'card', 'quits', 'wire')";
    assert_eq!(
        straight.world.row(status).await["of"],
        json!({"trial": "EXPIRED", "card": "ACTIVE", "quits": "EXPIRED", "wire": "GRACE"})
    );
    for (way, every_hour, kill_after) in
        [("by every hour", true, None), ("killed again and again", false, Some(11))]
    {
        let led = Box::pin(Led::new().await.lead(every_hour, kill_after)).await;
        let other = led.rows().await;
        let first = rows.iter().zip(&other).find(|(one, other)| one != other);
        assert!(rows == other, "{way}: {} and {} rows: {first:#?}", rows.len(), other.len());
        let runs =
            if every_hour { usize::try_from(DAYS * 24).expect("hours") } else { straight.runs };
        assert!(led.runs >= runs, "{way}: {} runs of {runs}", led.runs);
    }
}
