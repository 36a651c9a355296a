//! The state of this function.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use axum::extract::FromRef;
use shared::Result;
use shared::base::clock::Clock;
use shared::db::Db;
use shared::domain::events::Applier;
use shared::domain::events::backfill::Backfiller;
use shared::http::app::{App, AppState, OperatorApp};
use shared::outside::queue::Queue;
use shared::outside::stripe::Stripe;
use shared::process::config;
use shared::process::config::Env;

/// Operators' routes, Stripe to list events and to adopt subscriptions, and the queues of events and of hourly runs.
#[derive(Clone)]
pub struct OperationsApp {
    /// The database.
    pub operator: OperatorApp,
    outside: Arc<Outside>,
}

struct Outside {
    applier: Applier,
    event_queue_url: String,
    renewal_queue_url: String,
    /// Made at its first use: most requests need none.
    event_queue: OnceLock<Queue>,
    /// When the database last answered a monitor.
    healthy: Mutex<Option<Instant>>,
}

impl OperationsApp {
    /// Reads the settings of Stripe and of the queues; connects at the first use.
    ///
    /// # Errors
    /// `Setting`.
    pub fn new(operator: OperatorApp, env: &Env) -> Result<Self> {
        let applier = Applier {
            db: operator.db().clone(),
            stripe: Stripe::new(config::stripe_api_base(env)?, operator.secrets().clone())?,
            reads_per_second: config::stripe_reads_per_second(env)?,
            clock: operator.app().clock().clone(),
        };
        let outside = Outside {
            applier,
            event_queue_url: config::queue_url(env, "STRIPE_QUEUE_URL")?,
            renewal_queue_url: config::queue_url(env, "RENEWAL_QUEUE_URL")?,
            event_queue: OnceLock::new(),
            healthy: Mutex::new(None),
        };
        Ok(Self { operator, outside: Arc::new(outside) })
    }

    /// When the database last answered a monitor.
    #[must_use]
    pub fn healthy(&self) -> &Mutex<Option<Instant>> {
        &self.outside.healthy
    }

    /// The queue of Stripe's events.
    #[must_use]
    pub fn event_queue(&self) -> &Queue {
        let Outside { event_queue, event_queue_url, .. } = &*self.outside;
        event_queue.get_or_init(|| Queue::new(self.app().aws(), event_queue_url.clone()))
    }

    /// The queue of requests for an hourly run.
    #[must_use]
    pub fn renewal_queue(&self) -> Queue {
        Queue::new(self.app().aws(), self.outside.renewal_queue_url.clone())
    }

    /// What queues the events that Stripe lists.
    #[must_use]
    pub fn backfiller(&self) -> Backfiller<'_> {
        let Applier { db, stripe, reads_per_second, .. } = self.applier();
        Backfiller { db, queue: self.event_queue(), stripe, reads_per_second: *reads_per_second }
    }

    /// What adopts Stripe subscriptions.
    #[must_use]
    pub fn applier(&self) -> &Applier {
        &self.outside.applier
    }
}

impl AppState for OperationsApp {
    async fn start(env: &Env, clock: Clock) -> Result<Self> {
        Self::new(OperatorApp::start(env, clock).await?, env)
    }

    fn app(&self) -> &App {
        self.operator.app()
    }

    fn db(&self) -> &Db {
        self.operator.db()
    }
}

impl FromRef<OperationsApp> for OperatorApp {
    fn from_ref(app: &OperationsApp) -> Self {
        app.operator.clone()
    }
}
