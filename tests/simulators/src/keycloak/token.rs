//! The realm's signing keys and the tokens that they sign.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use anyhow::Context as _;
use anyhow::ensure;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::rsa::KeySize;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::Jwk;
use serde_json::Value;
use serde_json::json;

use super::COMPOSITES;
use super::Core;
use super::PUBLIC_CLIENT;
use super::User;
use super::uuid;
use crate::server::lock;
use crate::server::now;

/// Lifetime of an access token in seconds: Keycloak's default.
pub(super) const LIFESPAN: i64 = 300;

/// An RSA key that signs tokens.
#[derive(Clone)]
pub(super) struct SigningKey {
    id: String,
    encoding: EncodingKey,
    jwk: Jwk,
}

impl SigningKey {
    /// Returns the process-wide key. Generating a key is the expensive part of starting a fake.
    fn shared() -> anyhow::Result<Self> {
        static KEY: OnceLock<SigningKey> = OnceLock::new();
        if let Some(key) = KEY.get() {
            return Ok(key.clone());
        }
        let key = Self::generate()?;
        Ok(KEY.get_or_init(|| key).clone())
    }

    /// Generates a new key.
    pub(super) fn generate() -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).context("no RSA key")?;
        let pkcs8 = pair.as_der().context("no DER")?;
        let encoding = EncodingKey::from_rsa_der(pkcs1(pkcs8.as_ref())?);
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::RS256)?;
        Ok(Self { id: uuid(), encoding, jwk })
    }

    fn jwk(&self) -> Value {
        let mut jwk = json!(self.jwk);
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::RS256) };
        Ok(jsonwebtoken::encode(&header, claims, &self.encoding)?)
    }

    fn verify(&self, token: &str) -> Option<Value> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_aud = false;
        let key = DecodingKey::from_jwk(&self.jwk).ok()?;
        Some(jsonwebtoken::decode::<Value>(token, &key, &validation).ok()?.claims)
    }
}

/// The realm's keys. The active one signs; earlier ones stay published, like Keycloak's passive
/// keys.
pub(super) struct Keys {
    active: SigningKey,
    passive: Vec<SigningKey>,
}

impl Keys {
    /// Returns the keys of a new fake: only the process-wide key.
    pub(super) fn shared() -> anyhow::Result<Self> {
        Ok(Self { active: SigningKey::shared()?, passive: Vec::new() })
    }

    /// Makes `key` the active key. The previous one stays published.
    pub(super) fn rotate(&mut self, key: SigningKey) {
        self.passive.insert(0, std::mem::replace(&mut self.active, key));
    }

    /// Removes all keys except the active one.
    pub(super) fn retire(&mut self) {
        self.passive.clear();
    }

    fn published(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.active).chain(&self.passive)
    }

    /// Returns the key set, as the certs endpoint serves it.
    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": self.published().map(SigningKey::jwk).collect::<Value>() })
    }

    /// Signs a token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        self.active.sign(claims)
    }

    /// Returns the claims of an unexpired token that a published key signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let id = jsonwebtoken::decode_header(token).ok()?.kid?;
        self.published().find(|key| key.id == id)?.verify(token)
    }
}

/// Returns the PKCS#1 key inside a PKCS#8 one: `SEQUENCE { version, algorithm, OCTET STRING }`.
fn pkcs1(pkcs8: &[u8]) -> anyhow::Result<&[u8]> {
    let (outer, _) = der_element(pkcs8)?;
    let (_, after_version) = der_element(outer)?;
    let (_, after_algorithm) = der_element(after_version)?;
    Ok(der_element(after_algorithm)?.0)
}

/// Returns the content of the first DER element, and the bytes after it.
fn der_element(der: &[u8]) -> anyhow::Result<(&[u8], &[u8])> {
    let &[_, first, ref rest @ ..] = der else { anyhow::bail!("DER ends early") };
    let long = if first < 0x80 { 0 } else { usize::from(first & 0x7F) };
    ensure!(long <= 4 && long <= rest.len(), "DER length");
    let (length, rest) = rest.split_at(long);
    let length = if long == 0 {
        usize::from(first)
    } else {
        length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    rest.split_at_checked(length).context("DER ends early")
}

/// Returns an access token for the backend's service account.
pub(super) fn for_service(core: &Core) -> anyhow::Result<String> {
    let client = &core.options.client_id;
    let mut claims = common_claims(core, client, &format!("service-account-{client}"));
    claims["realm_access"] = json!({ "roles": [default_role(core)] });
    let roles = ["manage-users", "view-users", "query-users"];
    claims["resource_access"] = json!({ "realm-management": { "roles": roles } });
    claims["preferred_username"] = json!(format!("service-account-{client}"));
    lock(&core.keys).sign(&claims)
}

/// Returns an access token for a user.
pub(super) fn for_user(core: &Core, user: &User) -> anyhow::Result<String> {
    lock(&core.keys).sign(&claims_of_user(core, user))
}

/// Returns the claims of a user's access token.
pub(super) fn claims_of_user(core: &Core, user: &User) -> Value {
    let mut claims = common_claims(core, PUBLIC_CLIENT, &user.id);
    claims["aud"] = json!(["pulse-api"]);
    claims["realm_access"] = json!({ "roles": effective_roles(core, user) });
    claims["preferred_username"] = json!(user.username);
    claims["email_verified"] = json!(user.email_verified);
    if let Some(email) = &user.email {
        claims["email"] = json!(email);
    }
    if let Some(tenant) = user.attributes.get("tenant_id").and_then(|values| values.first()) {
        claims["tenant_id"] = json!(tenant);
    }
    claims
}

/// Returns the user's own roles, the roles that these include, and the default role.
fn effective_roles(core: &Core, user: &User) -> BTreeSet<String> {
    let implied = COMPOSITES
        .iter()
        .filter(|(role, _)| user.roles.contains(*role))
        .map(|(_, implied)| (*implied).to_owned());
    user.roles.iter().cloned().chain(implied).chain([default_role(core)]).collect()
}

fn common_claims(core: &Core, client: &str, subject: &str) -> Value {
    let now = now().as_second();
    json!({
        "iss": core.issuer(), "sub": subject, "azp": client, "typ": "Bearer", "iat": now,
        "exp": now + LIFESPAN,
        "jti": uuid(), "scope": "email profile",
    })
}

fn default_role(core: &Core) -> String {
    format!("default-roles-{}", core.options.realm)
}
