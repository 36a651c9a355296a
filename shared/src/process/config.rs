//! Settings from the environment. The only place that reads it; a bad setting is one line that
//! names it (docs/configuration.md).

use std::collections::HashMap;

use lettre::Address;
use lettre::message::Mailbox;

use crate::base::fields::is_on;
use crate::base::ids::Currency;
use crate::{Error, Result};

/// Where settings come from.
pub struct Env(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Env {
    /// The process's environment.
    #[must_use]
    pub fn process() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        Self(Box::new(|name| std::env::var(name).ok()))
    }

    /// A fixed set.
    #[must_use]
    pub fn of(settings: HashMap<String, String>) -> Self {
        Self::from_fn(move |name| settings.get(name).cloned())
    }

    /// Settings by any lookup.
    pub fn from_fn(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Box::new(lookup))
    }

    /// A required setting.
    ///
    /// # Errors
    /// `Setting` if it is missing or empty.
    pub fn required(&self, name: &str) -> Result<String> {
        self.optional(name)?.ok_or_else(|| Error::Setting(format!("{name} is not set")))
    }

    /// An optional setting. An empty one is an error, because it is a mistake of the deployment.
    ///
    /// # Errors
    /// `Setting` if it is empty.
    pub fn optional(&self, name: &str) -> Result<Option<String>> {
        match (self.0)(name) {
            Some(value) if value.trim().is_empty() => {
                Err(Error::Setting(format!("{name} is empty")))
            }
            value => Ok(value.map(|v| v.trim().to_owned())),
        }
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        name: &str,
        what: &str,
        default: Option<T>,
    ) -> Result<T> {
        match (self.optional(name)?, default) {
            (Some(text), _) => {
                text.parse().map_err(|_| Error::Setting(format!("{name} is not {what}: {text:?}")))
            }
            (None, Some(default)) => Ok(default),
            (None, None) => Err(Error::Setting(format!("{name} is not set"))),
        }
    }

    fn url(&self, name: &str) -> Result<String> {
        let text = self.required(name)?;
        is_url(&text)
            .then(|| text.clone())
            .ok_or_else(|| Error::Setting(format!("{name} is not an http(s) URL: {text:?}")))
    }
}

fn is_url(text: &str) -> bool {
    reqwest::Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// How to reach `PostgreSQL`. The password is a secret and not here.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `DATABASE_HOST`.
    pub host: String,
    /// `DATABASE_PORT`, 5432 by default.
    pub port: u16,
    /// `DATABASE_NAME`.
    pub name: String,
    /// `DATABASE_SSLMODE`: `verify-full` (the default), or `disable` for a database on this
    /// machine.
    pub tls: bool,
    /// `DATABASE_CA_FILE`: a PEM file of more roots to trust, as RDS needs for direct connections.
    pub ca_file: Option<String>,
    /// `DATABASE_POOL_SIZE`: 1 by default, because an instance serves one request at a time.
    pub pool_size: usize,
}

impl DatabaseSettings {
    /// Reads `DATABASE_*`.
    ///
    /// # Errors
    /// `Setting`.
    pub fn from_env(env: &Env) -> Result<Self> {
        let tls = match env.optional("DATABASE_SSLMODE")?.as_deref() {
            None | Some("verify-full") => true,
            Some("disable") => false,
            Some(other) => {
                return Err(Error::Setting(format!(
                    "DATABASE_SSLMODE is not verify-full or disable: {other:?}"
                )));
            }
        };
        let pool_size = env.parsed("DATABASE_POOL_SIZE", "a number of connections", Some(1))?;
        if pool_size == 0 {
            return Err(Error::Setting(
                "DATABASE_POOL_SIZE is not a number of connections: \"0\"".to_owned(),
            ));
        }
        Ok(Self {
            host: env.required("DATABASE_HOST")?,
            port: env.parsed("DATABASE_PORT", "a port", Some(5432))?,
            name: env.required("DATABASE_NAME")?,
            tls,
            ca_file: env.optional("DATABASE_CA_FILE")?,
            pool_size,
        })
    }
}

/// How to reach Keycloak's admin API. The client secret is a secret and not here.
#[derive(Clone, Debug)]
pub struct KeycloakSettings {
    /// `KEYCLOAK_URL`, without the realm.
    pub url: String,
    /// `KEYCLOAK_REALM`.
    pub realm: String,
    /// `KEYCLOAK_CLIENT_ID`: the service account's client.
    pub client_id: String,
    /// Where the last page of a welcome mail leads, if anywhere.
    pub landing: Option<Landing>,
}

/// The product, as the last page of a welcome mail leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// `WELCOME_REDIRECT_URI`: one that the client allows.
    pub redirect_uri: String,
    /// `WELCOME_CLIENT_ID`: the product's client, `pulse-web` by default.
    pub client_id: String,
}

impl Landing {
    fn from_env(env: &Env) -> Result<Option<Self>> {
        let client_id = env.optional("WELCOME_CLIENT_ID")?;
        if env.optional("WELCOME_REDIRECT_URI")?.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            redirect_uri: env.url("WELCOME_REDIRECT_URI")?,
            client_id: client_id.unwrap_or_else(|| "pulse-web".to_owned()),
        }))
    }
}

impl KeycloakSettings {
    /// Reads `KEYCLOAK_*` and `WELCOME_*`.
    ///
    /// # Errors
    /// `Setting`.
    pub fn from_env(env: &Env) -> Result<Self> {
        Ok(Self {
            url: env.url("KEYCLOAK_URL")?.trim_end_matches('/').to_owned(),
            realm: env.required("KEYCLOAK_REALM")?,
            client_id: env.required("KEYCLOAK_CLIENT_ID")?,
            landing: Landing::from_env(env)?,
        })
    }
}

/// `KEYCLOAK_ORGANIZATIONS`: whether tenants are organizations in Keycloak; true by default.
///
/// # Errors
/// `Setting` if it is neither `true` nor `false`.
pub fn has_organizations(env: &Env) -> Result<bool> {
    env.parsed("KEYCLOAK_ORGANIZATIONS", "true or false", Some(true))
}

/// How mail is sent. The password is a secret and not here.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// `SMTP_HOST`.
    pub host: String,
    /// `SMTP_PORT`, 587 by default.
    pub port: u16,
    /// `SMTP_USER`; without it there is no login.
    pub user: Option<String>,
    /// `SMTP_FROM`: `Pulse Billing <billing@pulse.example>`.
    pub from: Mailbox,
    /// `SMTP_TLS`.
    pub tls: SmtpTls,
    /// `SMTP_CA_FILE`: a PEM file of more roots to trust, for a private mail server.
    pub ca_file: Option<String>,
    /// `OPERATOR_DIGEST_TO`: the reader of the digest, if there is one.
    pub digest_to: Option<Address>,
}

/// How the connection to the mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// `starttls`: required, before any other command.
    StartTls,
    /// `tls`: from the first byte.
    Wrapped,
    /// `disable`: not encrypted, for a mail sink on this machine.
    Disabled,
}

impl SmtpSettings {
    /// Reads `SMTP_*` and `OPERATOR_DIGEST_TO`.
    ///
    /// # Errors
    /// `Setting`.
    pub fn from_env(env: &Env) -> Result<Self> {
        let tls = match env.optional("SMTP_TLS")?.as_deref() {
            None | Some("starttls" | "true") => SmtpTls::StartTls,
            Some("tls") => SmtpTls::Wrapped,
            Some("disable" | "false") => SmtpTls::Disabled,
            Some(other) => {
                return Err(Error::Setting(format!(
                    "SMTP_TLS is not starttls (or true), tls, or disable (or false): {other:?}"
                )));
            }
        };
        let digest_to = env.optional("OPERATOR_DIGEST_TO")?;
        Ok(Self {
            host: env.required("SMTP_HOST")?,
            port: env.parsed("SMTP_PORT", "a port", Some(587))?,
            user: env.optional("SMTP_USER")?,
            from: env.parsed(
                "SMTP_FROM",
                "a sender, such as Pulse Billing <billing@example.com>",
                None,
            )?,
            tls,
            ca_file: env.optional("SMTP_CA_FILE")?,
            digest_to: digest_to
                .map(|_| env.parsed("OPERATOR_DIGEST_TO", "a mail address", None))
                .transpose()?,
        })
    }
}

/// Which access tokens are valid.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// `JWT_ISSUER`: the `iss` of every token, as Keycloak writes it: its address and realm.
    pub issuer: String,
    /// `JWT_AUDIENCE`: must be among a token's `aud`.
    pub audience: String,
    /// `JWT_CLIENTS`, separated by commas: one must be a token's `azp`; where there are none, any
    /// client's tokens count.
    pub clients: Vec<String>,
    /// `JWT_JWKS_URL`: where the issuer's keys are, by default where Keycloak has them.
    pub jwks_url: String,
}

impl AuthSettings {
    /// Reads `JWT_*`.
    ///
    /// # Errors
    /// `Setting`.
    pub fn from_env(env: &Env) -> Result<Self> {
        let issuer = env.url("JWT_ISSUER")?;
        let jwks_url = match env.optional("JWT_JWKS_URL")? {
            Some(_) => env.url("JWT_JWKS_URL")?,
            None => format!("{issuer}/protocol/openid-connect/certs"),
        };
        let clients = env.optional("JWT_CLIENTS")?.unwrap_or_default();
        let clients = clients.split(',').map(|client| client.trim().to_owned());
        Ok(Self {
            issuer,
            audience: env.required("JWT_AUDIENCE")?,
            clients: clients.filter(|client| !client.is_empty()).collect(),
            jwks_url,
        })
    }
}

/// `ALLOWED_ORIGINS`: the origins, separated by commas, whose pages may call and to which a
/// customer may return.
///
/// # Errors
/// `Setting` if one of them is not an origin.
pub fn allowed_origins(env: &Env) -> Result<Vec<axum::http::HeaderValue>> {
    let origin = |text: &str| {
        let parsed = reqwest::Url::parse(text)
            .ok()
            .filter(|url| is_url(text) && url.origin().ascii_serialization() == text);
        let header = parsed.and_then(|_| axum::http::HeaderValue::from_str(text).ok());
        header.ok_or_else(|| {
            Error::Setting(format!(
                "ALLOWED_ORIGINS: {text:?} is no origin, such as https://app.example.com"
            ))
        })
    };
    env.required("ALLOWED_ORIGINS")?.split(',').map(|text| origin(text.trim())).collect()
}

/// `BILLING_RETURN_URL`: where Stripe's pages lead back to where a request does not say; by default
/// the first of `ALLOWED_ORIGINS`.
///
/// # Errors
/// `Setting` if it is on none of the allowed origins.
pub fn billing_return_url(env: &Env) -> Result<String> {
    let origins = allowed_origins(env)?;
    let mut origins = origins.iter().filter_map(|origin| origin.to_str().ok());
    if env.optional("BILLING_RETURN_URL")?.is_none() {
        return Ok(format!("{}/", origins.next().unwrap_or_default()));
    }
    let url = env.url("BILLING_RETURN_URL")?;
    if origins.any(|origin| is_on(origin, &url)) {
        return Ok(url);
    }
    Err(Error::Setting(format!("BILLING_RETURN_URL is on none of ALLOWED_ORIGINS: {url:?}")))
}

/// `BILLING_CURRENCY`: what everything is in that names no currency; the database keeps it.
///
/// # Errors
/// `Setting` if it is not the code of a currency.
pub fn billing_currency(env: &Env) -> Result<Option<Currency>> {
    let Some(text) = env.optional("BILLING_CURRENCY")? else { return Ok(None) };
    Currency::parse(&text).map(Some).map_err(|_| {
        let what = "the code of a currency in lower case, such as eur";
        Error::Setting(format!("BILLING_CURRENCY is not {what}: {text:?}"))
    })
}

/// `STRIPE_API_BASE` if set (the local simulator), else Stripe's own address. Without a trailing
/// slash or version.
///
/// # Errors
/// `Setting` if it is not a URL.
pub fn stripe_api_base(env: &Env) -> Result<String> {
    if env.optional("STRIPE_API_BASE")?.is_none() {
        return Ok("https://api.stripe.com".to_owned());
    }
    Ok(env.url("STRIPE_API_BASE")?.trim_end_matches('/').to_owned())
}

/// `STRIPE_READS_PER_SECOND`: how often all functions together may read Stripe; 15 by default, 0
/// for no limit.
///
/// # Errors
/// `Setting` if it is not a number up to 100, the most that Stripe accepts.
pub fn stripe_reads_per_second(env: &Env) -> Result<i32> {
    let Some(text) = env.optional("STRIPE_READS_PER_SECOND")? else { return Ok(15) };
    let rate = text.parse().ok().filter(|rate| (0..=100).contains(rate));
    rate.ok_or_else(|| {
        Error::Setting(format!("STRIPE_READS_PER_SECOND is not a number from 0 to 100: {text:?}"))
    })
}

/// Whether `STAGE` is `local` or `test`: nothing is real there, so a run may write as of another
/// time. In any other stage, and without one, it may not.
///
/// # Errors
/// `Setting` if it is empty.
pub fn is_rehearsal(env: &Env) -> Result<bool> {
    Ok(matches!(env.optional("STAGE")?.as_deref(), Some("local" | "test")))
}

/// `STRIPE_PUBLISHABLE_KEY`: what pages show Stripe's forms with. It is not secret.
///
/// # Errors
/// `Setting` if it is missing or not a publishable key: a secret one would be public.
pub fn stripe_publishable_key(env: &Env) -> Result<String> {
    let key = env.required("STRIPE_PUBLISHABLE_KEY")?;
    if ["pk_test_", "pk_live_"].iter().any(|prefix| key.starts_with(prefix)) {
        return Ok(key);
    }
    // Not quoted: it may be a secret that was put into the wrong place.
    Err(Error::Setting("STRIPE_PUBLISHABLE_KEY is not a key that starts with pk_".to_owned()))
}

/// The URL of a queue.
///
/// # Errors
/// `Setting` if it is missing or not a URL.
pub fn queue_url(env: &Env, name: &str) -> Result<String> {
    env.url(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(settings: &[(&str, &str)]) -> Env {
        Env::of(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn message<T>(result: Result<T>) -> String {
        result.err().expect("refused").to_string()
    }

    #[test]
    fn a_bad_setting_is_one_line_that_names_it() {
        let base = [("DATABASE_HOST", "localhost"), ("DATABASE_NAME", "pulse")];
        let with = |extra: (&'static str, &'static str)| env(&[base.as_slice(), &[extra]].concat());
        assert_eq!(message(DatabaseSettings::from_env(&env(&[]))), "DATABASE_HOST is not set");
        assert_eq!(
            message(DatabaseSettings::from_env(&env(&[("DATABASE_HOST", " ")]))),
            "DATABASE_HOST is empty"
        );
        assert_eq!(
            message(DatabaseSettings::from_env(&with(("DATABASE_PORT", "x")))),
            "DATABASE_PORT is not a port: \"x\""
        );
        assert_eq!(
            message(DatabaseSettings::from_env(&with(("DATABASE_SSLMODE", "prefer")))),
            "DATABASE_SSLMODE is not verify-full or disable: \"prefer\""
        );
        assert_eq!(
            message(DatabaseSettings::from_env(&with(("DATABASE_POOL_SIZE", "0")))),
            "DATABASE_POOL_SIZE is not a number of connections: \"0\""
        );
        assert_eq!(
            message(queue_url(&env(&[("STRIPE_QUEUE_URL", "queue")]), "STRIPE_QUEUE_URL")),
            "STRIPE_QUEUE_URL is not an http(s) URL: \"queue\""
        );
        assert_eq!(
            message(KeycloakSettings::from_env(&env(&[("KEYCLOAK_URL", "ftp://x")]))),
            "KEYCLOAK_URL is not an http(s) URL: \"ftp://x\""
        );
        assert_eq!(
            message(billing_currency(&env(&[("BILLING_CURRENCY", "EUR")]))),
            "BILLING_CURRENCY is not the code of a currency in lower case, such as eur: \"EUR\""
        );
    }

    #[test]
    fn mail_is_encrypted_unless_switched_off_by_name() {
        let base = [("SMTP_HOST", "h"), ("SMTP_FROM", "Pulse Billing <billing@pulse.example>")];
        let with = |extra: &[(&str, &str)]| {
            SmtpSettings::from_env(&env(&[base.as_slice(), extra].concat()))
        };
        let settings = with(&[]).expect("read");
        assert_eq!(
            (settings.tls, settings.port, settings.from.email.domain()),
            (SmtpTls::StartTls, 587, "pulse.example")
        );
        assert_eq!((settings.user, settings.digest_to), (None, None));
        for (text, tls) in [
            ("disable", SmtpTls::Disabled),
            ("false", SmtpTls::Disabled),
            ("true", SmtpTls::StartTls),
            ("tls", SmtpTls::Wrapped),
        ] {
            assert_eq!(with(&[("SMTP_TLS", text)]).expect("read").tls, tls, "{text}");
        }
        assert_eq!(
            message(with(&[("SMTP_TLS", "none")])),
            "SMTP_TLS is not starttls (or true), tls, or disable (or false): \"none\""
        );
        assert_eq!(
            message(with(&[("OPERATOR_DIGEST_TO", "ops")])),
            "OPERATOR_DIGEST_TO is not a mail address: \"ops\""
        );
        let nobody =
            "SMTP_FROM is not a sender, such as Pulse Billing <billing@example.com>: \"Pulse\"";
        assert_eq!(
            message(SmtpSettings::from_env(&env(&[("SMTP_HOST", "h"), ("SMTP_FROM", "Pulse")]))),
            nobody
        );
    }

    #[test]
    fn a_secret_key_is_never_published_nor_quoted() {
        let of = |key: &str| stripe_publishable_key(&env(&[("STRIPE_PUBLISHABLE_KEY", key)]));
        assert_eq!(of("pk_test_1").expect("read"), "pk_test_1");
        assert_eq!(
            message(of("sk_test_1")),
            "STRIPE_PUBLISHABLE_KEY is not a key that starts with pk_"
        );
        assert_eq!(message(of(" ")), "STRIPE_PUBLISHABLE_KEY is empty");
    }

    #[test]
    fn tls_is_on_unless_switched_off_by_name() {
        let settings =
            DatabaseSettings::from_env(&env(&[("DATABASE_HOST", "h"), ("DATABASE_NAME", "n")]))
                .expect("read");
        assert!(settings.tls);
        assert_eq!((settings.port, settings.pool_size), (5432, 1));
    }
}
