//! Connections to `PostgreSQL`: TLS, one role a function, and a password that may have been
//! rotated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{
    GenericClient, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
    Timeouts, Transaction,
};
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::RwLock;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::base::error::{Refusal, Service, with_causes};
use crate::base::ids::TenantId;
use crate::base::paging::Page;
use crate::outside::secrets::Secrets;
use crate::process::config::DatabaseSettings;
use crate::process::tls;
use crate::{Error, Result};

/// How many rows one transaction tidies away.
pub const TIDIED_AT_ONCE: i64 = 2_000;

/// How long to wait for a connection, made or given back.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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

    /// Ends work on the database that does not come to a word within `budget`; a transaction in it
    /// is rolled back. Its connection may hang for ever, and those that were made beside it as
    /// well: the next use makes new ones.
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
        Err(Error::unavailable(Service::Database, format!("no word within {} s", budget.as_secs())))
    }
}

/// Begins a transaction that sees, as customers' role, this tenant's rows and no other's. The
/// setting ends with the transaction.
///
/// # Errors
/// `Refused` as forbidden (`tenant_deleted`) where the tenant is gone, or never was; `Database`.
pub async fn begin<'a>(connection: &'a mut Object, tenant: &TenantId) -> Result<Transaction<'a>> {
    let tx = connection.transaction().await?;
    let set = tx.prepare_cached("SELECT set_config('app.tenant_id', $1, true)");
    let find = tx.prepare_cached("SELECT FROM tenants WHERE tenant_id = $1 AND status = 'ACTIVE'");
    let (set, find) = futures::future::try_join(set, find).await?;
    let tenant = tenant.as_str();
    // In one round trip. The first is sent first, and the second, which sees nothing without it,
    // runs after it.
    let (_, found) =
        futures::future::try_join(tx.execute(&set, &[&tenant]), tx.query_opt(&find, &[&tenant]))
            .await?;
    if found.is_some() {
        return Ok(tx);
    }
    Err(Error::refusal(
        Refusal::Forbidden,
        "tenant_deleted",
        "The access token's tenant does not exist, or no longer does.",
    ))
}

/// Runs a statement that is parsed once a connection, and is one round trip each time after that.
/// (One given as text is two.) Not for those whose best plan depends on their values: lists by
/// filters that may be absent, what is due of a whole table.
///
/// # Errors
/// The database's.
pub async fn query(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query(&statement, params).await
}

/// The same by one key or many: `sql` is given the condition, `= $1` or `= ANY($1)`. For an array
/// `PostgreSQL` expects ten keys, finds a plan for the one at hand cheaper, and so plans the
/// statement anew each time.
///
/// # Errors
/// The database's.
pub async fn query_keys(
    db: &impl GenericClient,
    sql: impl Fn(&str) -> String,
    keys: &[&str],
) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
    let sql = for_keys(sql, keys);
    match keys {
        [key] => query(db, &sql, &[key]).await,
        _ => query(db, &sql, &[&keys]).await,
    }
}

/// Parses what `query_keys` then sends as soon as it is polled: before whatever is polled after it,
/// which `PostgreSQL` runs after it.
///
/// # Errors
/// The database's.
pub async fn prepare_keys(
    db: &impl GenericClient,
    sql: impl Fn(&str) -> String,
    keys: &[&str],
) -> std::result::Result<(), tokio_postgres::Error> {
    db.prepare_cached(&for_keys(sql, keys)).await.map(drop)
}

fn for_keys(sql: impl Fn(&str) -> String, keys: &[&str]) -> String {
    sql(if keys.len() == 1 { "= $1" } else { "= ANY($1)" })
}

/// The same for at most one row.
///
/// # Errors
/// The database's.
pub async fn query_opt(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Option<Row>, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query_opt(&statement, params).await
}

/// The same for exactly one row.
///
/// # Errors
/// The database's.
pub async fn query_one(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Row, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query_one(&statement, params).await
}

/// The same for what answers no rows: how many it changed.
///
/// # Errors
/// The database's.
pub async fn execute(
    db: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> std::result::Result<u64, tokio_postgres::Error> {
    let statement = db.prepare_cached(sql).await?;
    db.execute(&statement, params).await
}

/// Repeats a chunk of work until one finds nothing or `budget` is used up; the rest is for the next
/// time. Returns how many all found.
///
/// # Errors
/// The chunk's: those before it are done.
pub async fn in_chunks<F: Future<Output = Result<u64>>>(
    budget: Duration,
    chunk: impl Fn() -> F,
) -> Result<u64> {
    let (began, mut all) = (Instant::now(), 0);
    while began.elapsed() < budget {
        let found = chunk().await?;
        all += found;
        if found == 0 {
            break;
        }
    }
    Ok(all)
}

/// A value of a condition, with its type: what is planned for its values is sent with both.
pub trait Value: ToSql + Sync + Send + 'static {
    /// The column's.
    const TYPE: Type;
}

impl Value for String {
    const TYPE: Type = Type::TEXT;
}

impl Value for &'static str {
    const TYPE: Type = Type::TEXT;
}

impl Value for i32 {
    const TYPE: Type = Type::INT4;
}

impl Value for i64 {
    const TYPE: Type = Type::INT8;
}

impl Value for Timestamp {
    const TYPE: Type = Type::TIMESTAMPTZ;
}

/// A connection, or a transaction on one, that plans a statement for its values: one round trip,
/// and nothing of it is kept.
pub trait Planner: GenericClient {
    /// The rows.
    fn query_planned(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> impl Future<Output = std::result::Result<Vec<Row>, tokio_postgres::Error>> + Send;
}

impl Planner for Object {
    async fn query_planned(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
        self.query_typed(sql, params).await
    }
}

impl Planner for Transaction<'_> {
    async fn query_planned(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
        self.query_typed(sql, params).await
    }
}

/// What a list lets through: only the conditions that are asked for, so that each has its index.
#[derive(Default)]
pub struct Conditions {
    sql: Vec<String>,
    params: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Conditions {
    /// Adds a condition on no value.
    pub fn plain(&mut self, sql: &str) {
        self.sql.push(sql.to_owned());
    }

    /// Adds a condition on one value, which stands for its `?`.
    pub fn and<V: Value>(&mut self, sql: &str, value: V) {
        let sql = sql.replacen('?', &self.place(value), 1);
        self.sql.push(sql);
    }

    /// The same with two.
    pub fn and_two(&mut self, sql: &str, first: impl Value, second: impl Value) {
        let sql = sql.replacen('?', &self.place(first), 1).replacen('?', &self.place(second), 1);
        self.sql.push(sql);
    }

    /// The column is this, where something is asked for.
    pub fn equal(&mut self, column: &str, value: Option<impl Value>) {
        if let Some(value) = value {
            self.and(&format!("{column} = ?"), value);
        }
    }

    fn place<V: Value>(&mut self, value: V) -> String {
        self.params.push((Box::new(value), V::TYPE));
        format!("${}", self.params.len())
    }

    /// The page of what `select` reads, in this order, and one row more. One on no value, of a
    /// usual length, has that length written out, and its plan is kept. Any other is planned
    /// for its values each time: one tenant has half of all rows, another none, and of a plan for
    /// all of them, which a prepared statement has from its sixth time on, the great one's page
    /// would cost all of its rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn page<K>(
        self,
        db: &impl Planner,
        select: &str,
        order: &str,
        page: &Page<K>,
    ) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
        let clause = if self.sql.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.sql.join(" AND "))
        };
        let sql = format!("{select} {clause} ORDER BY {order} LIMIT {}", page.fetch());
        if self.params.is_empty() && page.is_usual() {
            return query(db, &sql, &[]).await;
        }
        let params: Vec<_> = self
            .params
            .iter()
            .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
            .collect();
        db.query_planned(&format!("{sql} OFFSET {}", page.offset), &params).await
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
