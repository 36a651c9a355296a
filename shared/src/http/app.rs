//! The states of HTTP functions. Each has what its handlers use and no more, so a handler that
//! needs Keycloak or Stripe does not compile into a function that has none.
//!
//! [`OperatorApp`] and [`CustomerApp`] are an [`App`] with the database as one role. A function
//! that needs more puts them into a state of its own (`functions/tenants/src/app.rs`), from which
//! axum's `FromRef` takes the part that a handler asks for.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use jiff::Timestamp;

use super::auth::Verifier;
use crate::Result;
use crate::base::clock::Clock;
use crate::db::Db;
use crate::outside::aws;
use crate::outside::aws::SdkConfig;
use crate::outside::secrets::{Role, Secrets};
use crate::process::config;
use crate::process::config::{AuthSettings, DatabaseSettings, Env};

/// How long an instance may prepare itself.
const WARM_UP: Duration = Duration::from_secs(2);

/// The state of an HTTP function.
pub trait AppState: Clone + Send + Sync + 'static {
    /// Reads the settings and the secrets.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    fn start(env: &Env, clock: Clock) -> impl Future<Output = Result<Self>>;

    /// What every function has.
    fn app(&self) -> &App;

    /// The database as the role that most requests act in.
    fn db(&self) -> &Db;
}

/// What every HTTP function has: who may call, the time, and the clients' settings.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    verifier: Verifier,
    clock: Clock,
    origins: Vec<HeaderValue>,
    aws: SdkConfig,
}

impl App {
    /// Reads the settings.
    ///
    /// # Errors
    /// `Setting`.
    pub fn new(env: &Env, clock: Clock) -> Result<Self> {
        // An issuer's tokens are of the machine's time, whatever the time of the business is.
        let verifier = Verifier::new(AuthSettings::from_env(env)?, Clock::system())?;
        let origins = config::allowed_origins(env)?;
        Ok(Self(Arc::new(Parts { verifier, clock, origins, aws: aws::config(env)? })))
    }

    /// Checks access tokens.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// What shows the time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The origins whose pages may call.
    #[must_use]
    pub fn origins(&self) -> &[HeaderValue] {
        &self.0.origins
    }

    /// The settings of AWS's clients.
    #[must_use]
    pub fn aws(&self) -> &SdkConfig {
        &self.0.aws
    }
}

/// Makes the state of a function that acts in one role of the database.
macro_rules! role_app {
    ($(#[doc = $doc:literal])* $name:ident, $role:expr, $user:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone)]
        pub struct $name {
            app: App,
            db: Arc<Db>,
            secrets: Arc<Secrets>,
        }

        impl $name {
            /// Reads the role's secret; connects at the first use.
            ///
            /// # Errors
            /// `Setting`, `Upstream`.
            pub async fn new(app: App, env: &Env) -> Result<Self> {
                let settings = DatabaseSettings::from_env(env)?;
                let secrets = Secrets::read(app.aws(), env, $role).await?;
                let db = Arc::new(Db::new(settings, $user, secrets.clone())?);
                Ok(Self { app, db, secrets })
            }

            /// The database as this role.
            #[must_use]
            pub fn db(&self) -> &Arc<Db> {
                &self.db
            }

            /// The time.
            #[must_use]
            pub fn now(&self) -> Timestamp {
                self.app.now()
            }

            /// What shows the time.
            #[must_use]
            pub fn clock(&self) -> &Clock {
                self.app.clock()
            }

            /// The secret of the role.
            #[must_use]
            pub fn secrets(&self) -> &Arc<Secrets> {
                &self.secrets
            }
        }

        impl AppState for $name {
            async fn start(env: &Env, clock: Clock) -> Result<Self> {
                Self::new(App::new(env, clock)?, env).await
            }

            fn app(&self) -> &App {
                &self.app
            }

            fn db(&self) -> &Db {
                &self.db
            }
        }
    };
}

role_app! {
    /// Operators' routes: the database as a role that sees every tenant.
    OperatorApp, Role::Operator, "pulse_operator"
}

role_app! {
    /// Customers' routes: the database as a role that sees no row until a transaction has its
    /// tenant (`tenants::session::begin`).
    CustomerApp, Role::Customer, "pulse_app"
}

/// Fetches before the first event what nearly every request needs: the issuer's keys and a
/// connection (docs/adr/0012). What cannot be reached is left to the request that needs it.
pub async fn warm(state: &impl AppState) {
    let both = futures::future::join(state.app().verifier().fetch_keys(), state.db().connection());
    let Ok((keys, connection)) = tokio::time::timeout(WARM_UP, both).await else {
        tracing::warn!("warm-up timed out");
        return;
    };
    if let Err(error) = keys {
        tracing::warn!(%error, "issuer's keys not read at the start");
    }
    if let Err(error) = connection {
        tracing::warn!(%error, "database not connected at the start");
    }
}
