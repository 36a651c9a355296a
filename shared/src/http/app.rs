//! What every HTTP function keeps between requests: the database as the roles it acts in, who may
//! call, the time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::HeaderValue;

use super::auth::Verifier;
use crate::base::clock::Clock;
use crate::db::Db;
use crate::domain::tenants::payer::Till;
use crate::outside::aws;
use crate::outside::aws::SdkConfig;
use crate::outside::keycloak::Keycloak;
use crate::outside::queue::Queue;
use crate::outside::secrets::{Role, Secrets};
use crate::outside::stripe::Stripe;
use crate::process::config;
use crate::process::config::{AuthSettings, DatabaseSettings, Env, KeycloakSettings};
use crate::{Error, Result};

/// How long an instance may prepare itself.
const WARM_UP: Duration = Duration::from_secs(2);

/// The state of an HTTP function. Cloned freely.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    roles: Vec<(Role, Arc<Secrets>, Db)>,
    verifier: Verifier,
    clock: Clock,
    origins: Vec<HeaderValue>,
    keycloak: Option<Keycloak>,
    /// With the key that pages show its forms with.
    stripe: Option<(Stripe, String)>,
    events: Option<Events>,
}

/// Where Stripe's events are listed and queued, by the operators' secret.
struct Events {
    stripe: Stripe,
    reads_per_second: i32,
    aws: SdkConfig,
    queue_url: String,
    renewal_queue_url: Option<String>,
    /// Made at its first use: most requests of its function need none.
    queue: OnceLock<Queue>,
}

impl App {
    /// Reads the settings, and the secrets of the roles that the function acts in, all at once. An
    /// operators' function that is told where Keycloak is can also keep its users, one that is
    /// told the queue of Stripe's events can also fill it; a customers' function that is
    /// told Stripe's publishable key can also open checkouts.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    pub async fn start(env: &Env, clock: Clock, roles: &[Role]) -> Result<Self> {
        let database = DatabaseSettings::from_env(env)?;
        let verifier = Verifier::new(AuthSettings::from_env(env)?, clock.clone())?;
        let origins = config::allowed_origins(env)?;
        let aws = aws::config(env)?;
        let mut reading = Vec::new();
        for role in roles {
            let user = role
                .database_user()
                .ok_or_else(|| Error::Internal(format!("{} has no database user", role.name())))?;
            let (aws, database) = (&aws, database.clone());
            reading.push(async move {
                let secrets = Secrets::read(aws, env, *role).await?;
                Ok::<_, Error>((*role, secrets.clone(), Db::new(database, user, secrets)?))
            });
        }
        let roles = futures::future::try_join_all(reading).await?;
        let operator = roles.iter().find(|(role, ..)| *role == Role::Operator);
        let keycloak = match (env.optional("KEYCLOAK_URL")?, operator) {
            (Some(_), Some((_, secrets, _))) => {
                Some(Keycloak::new(KeycloakSettings::from_env(env)?, secrets.clone())?)
            }
            _ => None,
        };
        let customer = roles.iter().find(|(role, ..)| *role == Role::Customer);
        let stripe = match (config::stripe_publishable_key(env)?, customer) {
            (Some(publishable), Some((_, secrets, _))) => {
                let stripe = Stripe::new(config::stripe_api_base(env)?, secrets.clone())?;
                if stripe.livemode()? != publishable.starts_with("pk_live_") {
                    return Err(Error::Setting(
                        "STRIPE_PUBLISHABLE_KEY is of another mode than the \
                                               secret STRIPE_SECRET_KEY"
                            .to_owned(),
                    ));
                }
                Some((stripe, publishable))
            }
            _ => None,
        };
        let events = match (env.optional("STRIPE_QUEUE_URL")?, operator) {
            (Some(_), Some((_, secrets, _))) => Some(Events {
                stripe: Stripe::new(config::stripe_api_base(env)?, secrets.clone())?,
                reads_per_second: config::stripe_reads_per_second(env)?,
                queue_url: config::queue_url(env, "STRIPE_QUEUE_URL")?,
                renewal_queue_url: env
                    .optional("RENEWAL_QUEUE_URL")?
                    .map(|_| config::queue_url(env, "RENEWAL_QUEUE_URL"))
                    .transpose()?,
                queue: OnceLock::new(),
                aws,
            }),
            _ => None,
        };
        Ok(Self(Arc::new(Parts { roles, verifier, clock, origins, keycloak, stripe, events })))
    }

    /// Fetches, before the first event, what nearly every request needs: the issuer's keys, and a
    /// connection as the first of the roles (docs/adr/0012). What cannot be reached is left to
    /// the request that needs it.
    pub async fn warm(&self) {
        let connection = async {
            match self.0.roles.first() {
                Some((.., db)) => db.connection().await.map(drop),
                None => Ok(()),
            }
        };
        let both = futures::future::join(self.0.verifier.fetch_keys(), connection);
        let Ok((keys, connection)) = tokio::time::timeout(WARM_UP, both).await else {
            tracing::warn!("not prepared in time");
            return;
        };
        for error in [keys.err(), connection.err()].into_iter().flatten() {
            tracing::warn!(%error, "not prepared");
        }
    }

    /// The database as operators' role.
    ///
    /// # Errors
    /// `Internal` where the function was not started with it.
    pub fn operator_db(&self) -> Result<&Db> {
        self.role(Role::Operator).map(|(_, _, db)| db)
    }

    /// The database as customers' role: without a tenant it shows no row.
    ///
    /// # Errors
    /// As `operator_db`.
    pub fn tenant_db(&self) -> Result<&Db> {
        self.role(Role::Customer).map(|(_, _, db)| db)
    }

    /// Keycloak's users, by the operators' secret.
    ///
    /// # Errors
    /// `Internal` where the function was not told where it is.
    pub fn keycloak(&self) -> Result<&Keycloak> {
        self.0.keycloak.as_ref().ok_or_else(|| {
            Error::Internal("this function does not know where Keycloak is".to_owned())
        })
    }

    /// Stripe, by the customers' secret.
    ///
    /// # Errors
    /// `Internal` where the function was not told its publishable key.
    pub fn stripe(&self) -> Result<&Stripe> {
        self.stripe_with_key().map(|(stripe, _)| stripe)
    }

    /// The key that pages show Stripe's forms with.
    ///
    /// # Errors
    /// As `stripe`.
    pub fn publishable_key(&self) -> Result<&str> {
        self.stripe_with_key().map(|(_, key)| key.as_str())
    }

    fn stripe_with_key(&self) -> Result<&(Stripe, String)> {
        self.0.stripe.as_ref().ok_or_else(|| {
            Error::Internal("this function does not know Stripe's publishable key".to_owned())
        })
    }

    /// The queue of Stripe's events.
    ///
    /// # Errors
    /// `Internal` where the function was not told where it is.
    pub fn event_queue(&self) -> Result<&Queue> {
        let events = self.events()?;
        Ok(events.queue.get_or_init(|| Queue::new(&events.aws, events.queue_url.clone())))
    }

    /// The queue of requests for an hourly run.
    ///
    /// # Errors
    /// `Internal` where the function was not told where it is.
    pub fn renewal_queue(&self) -> Result<Queue> {
        let events = self.events()?;
        let url = events.renewal_queue_url.clone();
        url.map(|url| Queue::new(&events.aws, url)).ok_or_else(|| {
            Error::Internal("this function does not know where runs are asked for".to_owned())
        })
    }

    /// Stripe as the operators' secret reads it, and how often a second all functions together may.
    ///
    /// # Errors
    /// As `event_queue`.
    pub fn operator_stripe(&self) -> Result<(&Stripe, i32)> {
        self.events().map(|events| (&events.stripe, events.reads_per_second))
    }

    /// What selling needs, now.
    ///
    /// # Errors
    /// As `tenant_db` and `stripe`.
    pub fn till(&self) -> Result<Till<'_>> {
        Ok(Till {
            db: self.tenant_db()?,
            stripe: self.stripe()?,
            origins: self.origins(),
            now: self.clock().now(),
        })
    }

    fn events(&self) -> Result<&Events> {
        self.0.events.as_ref().ok_or_else(|| {
            Error::Internal(
                "this function does not know where the queue of Stripe's events is".to_owned(),
            )
        })
    }

    fn role(&self, role: Role) -> Result<&(Role, Arc<Secrets>, Db)> {
        let found = self.0.roles.iter().find(|(known, ..)| *known == role);
        found.ok_or_else(|| {
            Error::Internal(format!("this function does not act as {}", role.name()))
        })
    }

    /// Checks tokens.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The origins whose pages may call.
    #[must_use]
    pub fn origins(&self) -> &[HeaderValue] {
        &self.0.origins
    }
}
