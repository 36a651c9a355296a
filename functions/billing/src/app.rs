//! The state of this function.

use std::sync::Arc;

use axum::extract::FromRef;
use shared::base::clock::Clock;
use shared::db::Db;
use shared::domain::tenants::payer::Till;
use shared::http::app::{App, AppState, CustomerApp};
use shared::outside::stripe::Stripe;
use shared::process::config;
use shared::process::config::Env;
use shared::{Error, Result};

/// Customers' routes, and Stripe to sell with.
#[derive(Clone)]
pub struct BillingApp {
    /// The database.
    pub customer: CustomerApp,
    /// By customers' secret.
    pub stripe: Arc<Stripe>,
    /// The key that pages show Stripe's forms with.
    pub publishable_key: Arc<str>,
    /// Where Stripe's pages lead back to where a request does not say.
    pub return_url: Arc<str>,
}

impl BillingApp {
    /// Reads the settings of Stripe; connects at the first use.
    ///
    /// # Errors
    /// `Setting`, also if the two keys are of different modes.
    pub fn new(customer: CustomerApp, env: &Env) -> Result<Self> {
        let publishable_key = config::stripe_publishable_key(env)?;
        let stripe = Stripe::new(config::stripe_api_base(env)?, customer.secrets().clone())?;
        // While the secret one is not filled in there is nothing to compare, and nothing is sold.
        let live = customer.secrets().stripe_secret_key().map(|key| key.contains("_live_"));
        if live.is_ok_and(|live| live != publishable_key.starts_with("pk_live_")) {
            return Err(Error::Setting(
                "STRIPE_PUBLISHABLE_KEY is of another mode than the secret STRIPE_SECRET_KEY"
                    .to_owned(),
            ));
        }
        let return_url = config::billing_return_url(env)?;
        Ok(Self {
            customer,
            stripe: Arc::new(stripe),
            publishable_key: publishable_key.into(),
            return_url: return_url.into(),
        })
    }

    /// What selling needs, now.
    #[must_use]
    pub fn till(&self) -> Till<'_> {
        Till {
            db: self.customer.db(),
            stripe: &self.stripe,
            origins: self.app().origins(),
            return_url: &self.return_url,
            now: self.customer.now(),
        }
    }
}

impl AppState for BillingApp {
    async fn start(env: &Env, clock: Clock) -> Result<Self> {
        Self::new(CustomerApp::start(env, clock).await?, env)
    }

    fn app(&self) -> &App {
        self.customer.app()
    }

    fn db(&self) -> &Db {
        self.customer.db()
    }
}

impl FromRef<BillingApp> for CustomerApp {
    fn from_ref(app: &BillingApp) -> Self {
        app.customer.clone()
    }
}
