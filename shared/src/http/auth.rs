//! Who calls: access tokens of the configured issuer, checked here although API Gateway checks them
//! too (docs/api.md, "Access").
//!
//! RS256 only, by the issuer's published keys. The keys are read at the first token, kept, and read
//! again at most once a minute: for a token of an unknown key, and when they are an hour old, so
//! that a withdrawn key ends.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::base::clock::Clock;
use crate::base::error::{Refusal, Service, with_causes};
use crate::base::ids::TenantId;
use crate::process::config::AuthSettings;
use crate::process::tls;
use crate::{Error, Result};

/// How old the keys may be before they are read again.
const KEYS_STALE: Duration = Duration::from_hours(1);

/// How far the issuer's clock may be ahead of ours. A token's end has no such tolerance.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// A checked token, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user's id at the issuer.
    pub subject: String,
    /// The realm's roles.
    pub roles: Vec<String>,
    /// The tenant of a customer.
    pub tenant: Option<TenantId>,
}

impl Claims {
    /// Whether one of the realm's roles is this.
    #[must_use]
    pub fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

/// Checks tokens of one issuer.
pub struct Verifier {
    settings: AuthSettings,
    http: reqwest::Client,
    validation: Validation,
    clock: Clock,
    refetch_after: Duration,
    keys: RwLock<Keys>,
    /// One request reads the issuer's keys; the others wait for its result.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Keys {
    known: Arc<Vec<(String, DecodingKey)>>,
    /// When the keys were last requested, successfully or not.
    asked: Option<Instant>,
    read: Option<Instant>,
}

#[derive(Deserialize)]
struct Payload {
    sub: String,
    typ: Option<String>,
    azp: Option<String>,
    exp: i64,
    nbf: Option<i64>,
    tenant_id: Option<String>,
    #[serde(default)]
    realm_access: RealmAccess,
}

#[derive(Deserialize, Default)]
struct RealmAccess {
    #[serde(default)]
    roles: Vec<String>,
}

impl Verifier {
    /// A verifier. Connects at the first token, or beforehand by `fetch_keys`.
    ///
    /// # Errors
    /// `Internal`.
    pub fn new(settings: AuthSettings, clock: Clock) -> Result<Self> {
        Self::with(settings, clock, Duration::from_mins(1))
    }

    /// The same with another minimum time between two reads of the keys.
    ///
    /// # Errors
    /// As `new`.
    pub fn with(settings: AuthSettings, clock: Clock, refetch_after: Duration) -> Result<Self> {
        let http = tls::http_client(Duration::from_secs(2), Duration::from_secs(5))?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // By our clock, below.
        validation.validate_exp = false;
        Ok(Self {
            settings,
            http,
            validation,
            clock,
            refetch_after,
            keys: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// The claims of this token.
    ///
    /// # Errors
    /// `Refused` as unauthenticated (`invalid_token`, `token_expired`); `Upstream` if the
    /// issuer's keys cannot be read.
    pub async fn verify(&self, token: &str) -> Result<Claims> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid())?;
        let (Algorithm::RS256, Some(kid)) = (header.alg, header.kid) else { return Err(invalid()) };
        let key = self.key(&kid).await?.ok_or_else(invalid)?;
        let payload = jsonwebtoken::decode::<Payload>(token, &key, &self.validation)
            .map_err(|_| invalid())?
            .claims;
        let now = self.clock.now();
        let at = |second: i64| Timestamp::from_second(second).map_err(|_| invalid());
        if at(payload.exp)? <= now {
            return Err(Error::refusal(
                Refusal::Unauthenticated,
                "token_expired",
                "The access token has expired.",
            ));
        }
        if let Some(from) = payload.nbf
            && at(from)? > now + CLOCK_SKEW
        {
            return Err(invalid());
        }
        // The realm signs ID tokens and others with the same keys. Keycloak writes `Bearer` into an
        // access token; RFC 9068 has it in the header.
        let is_access_token = payload.typ.as_deref() == Some("Bearer")
            || payload.typ.is_none()
                && header.typ.is_some_and(|typ| typ.eq_ignore_ascii_case("at+jwt"));
        let clients = &self.settings.clients;
        let is_of_client =
            clients.is_empty() || payload.azp.is_some_and(|azp| clients.contains(&azp));
        if payload.sub.is_empty() || !is_access_token || !is_of_client {
            return Err(invalid());
        }
        // A malformed tenant id counts as none: the caller is then no tenant's customer.
        let tenant = payload.tenant_id.and_then(|id| TenantId::parse(&id).ok());
        Ok(Claims { subject: payload.sub, roles: payload.realm_access.roles, tenant })
    }

    /// Reads the issuer's keys, unless they are known.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn fetch_keys(&self) -> Result<()> {
        self.key("").await.map(drop)
    }

    async fn key(&self, kid: &str) -> Result<Option<DecodingKey>> {
        let held = self.held();
        let found = held.find(kid);
        let fresh = held.read.is_some_and(|read| read.elapsed() < KEYS_STALE);
        if (found.is_some() && fresh) || !held.may_ask(self.refetch_after) {
            return Ok(found);
        }
        let _one_at_a_time = self.fetching.lock().await;
        let now = self.held();
        if now.asked != held.asked {
            // Another request has tried while this one waited. Without keys, it has failed.
            let unread =
                || Error::unavailable(Service::Issuer, "the issuer's keys could not be read");
            return if now.read.is_some() { Ok(now.find(kid)) } else { Err(unread()) };
        }
        self.replace(Keys { asked: Some(Instant::now()), ..held });
        match self.fetch().await {
            Ok(known) => self.replace(Keys {
                known: Arc::new(known),
                asked: Some(Instant::now()),
                read: Some(Instant::now()),
            }),
            // The known keys stay in use: an unreachable issuer must not stop every caller.
            Err(error) if found.is_some() => {
                tracing::warn!(%error, "the issuer's keys could not be read again");
            }
            Err(error) => return Err(error),
        }
        Ok(self.held().find(kid))
    }

    fn held(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    async fn fetch(&self) -> Result<Vec<(String, DecodingKey)>> {
        let unreadable = |error: reqwest::Error| {
            Error::unavailable(
                Service::Issuer,
                format!("the issuer's keys: {}", with_causes(&error)),
            )
        };
        let answer = self
            .http
            .get(&self.settings.jwks_url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(unreadable)?;
        let set: JwkSet = answer.json().await.map_err(unreadable)?;
        let signing = set.keys.iter().filter(|key| {
            matches!(key.algorithm, AlgorithmParameters::RSA(_))
                && key
                    .common
                    .public_key_use
                    .as_ref()
                    .is_none_or(|usage| *usage == PublicKeyUse::Signature)
        });
        Ok(signing
            .filter_map(|key| Some((key.common.key_id.clone()?, DecodingKey::from_jwk(key).ok()?)))
            .collect())
    }
}

impl Keys {
    fn find(&self, kid: &str) -> Option<DecodingKey> {
        self.known.iter().find(|(known, _)| known == kid).map(|(_, key)| key.clone())
    }

    /// Whether the keys may be requested now. Until a first success every token may.
    fn may_ask(&self, after: Duration) -> bool {
        self.read.is_none() || self.asked.is_none_or(|asked| asked.elapsed() >= after)
    }
}

fn invalid() -> Error {
    Error::refusal(Refusal::Unauthenticated, "invalid_token", "The access token is not valid here.")
}
