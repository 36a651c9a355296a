//! Connections to `PostgreSQL`: TLS, one role a function, and a password that may have been
//! rotated.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
    Timeouts,
};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::RwLock;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::transaction::{Line, Transaction};
use crate::base::error::{Service, with_causes};
use crate::outside::secrets::Secrets;
use crate::process::config::DatabaseSettings;
use crate::process::tls;
use crate::{Error, Result};

/// How many rows one transaction tidies away.
pub const TIDIED_AT_ONCE: i64 = 2_000;

/// How long to wait for a connection, made or given back.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that has rested for so long is tried before it is used: the server ends those of
/// an instance that was frozen (`idle_session_timeout`, functions/migrate), which may not know yet.
const RESTED: Duration = Duration::from_mins(1);

/// The database as one role. Connects at the first use.
pub struct Db {
    settings: DatabaseSettings,
    user: String,
    secrets: Arc<Secrets>,
    roots: Option<Arc<ClientConfig>>,
    pool: RwLock<Pool>,
}

impl Db {
    /// Prepares the pool; no connection is made.
    ///
    /// # Errors
    /// `Setting` where the password or `DATABASE_CA_FILE` is missing or malformed.
    pub fn new(
        settings: DatabaseSettings,
        user: impl Into<String>,
        secrets: Arc<Secrets>,
    ) -> Result<Self> {
        let roots = settings.tls.then(|| client_config(settings.ca_file.as_deref())).transpose()?;
        let user = user.into();
        let pool = pool(&settings, &user, &secrets.database_password()?, roots.as_ref())?;
        Ok(Self { settings, user, secrets, roots, pool: RwLock::new(pool) })
    }

    /// A connection. After a refused password the secret is read again, once.
    ///
    /// # Errors
    /// `Database` or `Upstream`.
    pub async fn connection(&self) -> Result<Object> {
        let refused = match self.pool.read().await.get().await {
            Err(PoolError::Backend(error)) if error.code() == Some(&SqlState::INVALID_PASSWORD) => {
                error
            }
            other => return other.map_err(pool_error),
        };
        if !self.secrets.refresh().await? {
            return Err(refused.into());
        }
        let fresh = pool(
            &self.settings,
            &self.user,
            &self.secrets.database_password()?,
            self.roots.as_ref(),
        )?;
        *self.pool.write().await = fresh.clone();
        fresh.get().await.map_err(pool_error)
    }

    /// A transaction on a connection of its own.
    ///
    /// # Errors
    /// As `connection`; those of BEGIN are its first statement's.
    pub async fn begin(&self) -> Result<Transaction> {
        self.begin_with(async |_| Ok(())).await
    }

    /// The same with first statements that every other one depends on: where they fail, so does
    /// the first that is polled after them.
    ///
    /// # Errors
    /// As `begin`.
    pub(crate) async fn begin_with<F: Future<Output = Result<()>> + Send + 'static>(
        &self,
        enter: impl FnOnce(Arc<Line>) -> F,
    ) -> Result<Transaction> {
        Ok(Transaction::new(self.connection().await?, enter))
    }

    /// Aborts database work that does not finish within `budget`, and rolls its transaction back.
    /// Its connection may hang for ever, and so may the others of the pool: the next use makes new
    /// ones.
    ///
    /// # Errors
    /// Those of `work`; `Upstream` at the end of the budget.
    pub async fn bounded<T>(
        &self,
        budget: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Ok(result) = tokio::time::timeout(budget, work).await {
            return result;
        }
        self.pool.read().await.retain(|_, _| false);
        Err(Error::unavailable(
            Service::Database,
            format!("no answer within {} s", budget.as_secs()),
        ))
    }
}

fn pool_error(error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) => error.into(),
        other => Error::unavailable(Service::Database, with_causes(&other)),
    }
}

fn pool(
    settings: &DatabaseSettings,
    user: &str,
    password: &str,
    roots: Option<&Arc<ClientConfig>>,
) -> Result<Pool> {
    let mut config = Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .dbname(&settings.name)
        .user(user)
        .password(password);
    config
        .application_name("pulse")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(Duration::from_secs(15));
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match roots {
        Some(roots) => {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            Manager::from_config(
                config,
                MakeRustlsConnect::new(ClientConfig::clone(roots)),
                recycling,
            )
        }
        None => Manager::from_config(config, NoTls, recycling),
    };
    let timeouts = Timeouts {
        wait: Some(CONNECT_TIMEOUT),
        create: Some(CONNECT_TIMEOUT),
        recycle: Some(CONNECT_TIMEOUT),
    };
    let pool = Pool::builder(manager)
        .pre_recycle(Hook::async_fn(|client, metrics| {
            let rested = metrics.last_used() > RESTED;
            Box::pin(async move {
                if rested {
                    client.simple_query("").await.map_err(HookError::Backend)?;
                }
                Ok(())
            })
        }))
        .max_size(settings.pool_size)
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .build();
    pool.map_err(|error| Error::Internal(format!("connection pool: {error}")))
}

/// Trusts the public roots, and those of `ca_file`; the host name is always checked.
fn client_config(ca_file: Option<&str>) -> Result<Arc<ClientConfig>> {
    let mut roots = tls::roots();
    if let Some(path) = ca_file {
        let malformed = |why: String| Error::Setting(format!("DATABASE_CA_FILE {path:?}: {why}"));
        let mut found = false;
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| malformed(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| malformed(error.to_string()))?;
            roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
            found = true;
        }
        if !found {
            return Err(malformed("no certificate in it".to_owned()));
        }
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
