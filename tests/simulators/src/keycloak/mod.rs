//! An embedded Keycloak with just the calls in use, for machines without a JDK and for faults at
//! the socket.
//!
//! One realm, its backend client (a service account that manages users), the public client
//! [`PUBLIC_CLIENT`], four realm roles and one declared user attribute, `tenant_id`; undeclared
//! attributes are dropped without an error, as Keycloak's user profile does. Not here: sessions,
//! refresh, browser log-in, groups, anything of other realms.

mod http;
mod pages;
mod token;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use crate::server::Faults;
use crate::server::Server;
use crate::server::basic;
use crate::server::lock;
use token::Keys;
use token::SigningKey;

/// The public client of the password grant.
pub const PUBLIC_CLIENT: &str = "pulse-cli";

/// The realm's roles.
pub const ROLES: [&str; 4] = ["customer", "operator", "operator_admin", "service"];

/// Composite roles, and the role that each brings with it.
const COMPOSITES: [(&str, &str); 1] = [("operator_admin", "operator")];

/// How to start a [`Fake`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The realm's name.
    pub realm: String,
    /// The backend's client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Where mail is sent to in plain SMTP; without it mails are only counted.
    pub smtp: Option<SocketAddr>,
}

/// A user of the realm.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// A UUID.
    pub id: String,
    /// In lower case.
    pub username: String,
    /// In lower case.
    pub email: Option<String>,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// May log in.
    pub enabled: bool,
    /// Set by following a mailed link.
    pub email_verified: bool,
    /// Declared attributes only.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// For example `UPDATE_PASSWORD`.
    pub required_actions: BTreeSet<String>,
    /// In clear: it is a fake.
    pub password: Option<String>,
    /// Some of [`ROLES`].
    pub roles: BTreeSet<String>,
    /// Action mails sent so far.
    pub mails_sent: u32,
    /// The link of the last one.
    pub last_link: Option<String>,
    /// In milliseconds; 0 for one that a test added.
    pub created: i64,
}

/// A mailed link that still works.
struct Link {
    user_id: String,
    expires: i64,
}

#[derive(Default)]
struct Realm {
    users: Vec<User>,
    /// Wrong passwords since the last log-in, by user id. They are counted only: nobody is locked
    /// out.
    failures: HashMap<String, u32>,
    links: HashMap<String, Link>,
}

/// What the handle and the server share.
struct Core {
    base_url: String,
    options: Options,
    basic: String,
    keys: Mutex<Keys>,
    /// Role name and id.
    roles: Vec<(&'static str, String)>,
    realm: Mutex<Realm>,
}

impl Core {
    fn issuer(&self) -> String {
        format!("{}/realms/{}", self.base_url, self.options.realm)
    }
}

fn uuid() -> String {
    let random = || RandomState::new().hash_one(0);
    let (a, b) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xFFFF,
        a & 0xFFF,
        b >> 52,
        b & 0xFFFF_FFFF_FFFF
    )
}

/// A running fake; clones are one and the same, and the socket closes with the last of them.
#[derive(Clone)]
pub struct Fake {
    core: Arc<Core>,
    faults: Arc<Faults>,
    server: Arc<Server>,
}

impl Fake {
    /// Starts a fake.
    ///
    /// # Errors
    /// When the address cannot be bound or no key can be made.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let (listener, address) = Server::bind(options.listen).await?;
        let core = Arc::new(Core {
            base_url: format!("http://{address}"),
            basic: basic(&options.client_id, &options.client_secret),
            options,
            keys: Mutex::new(Keys::shared()?),
            roles: ROLES.iter().map(|role| (*role, uuid())).collect(),
            realm: Mutex::default(),
        });
        let faults = Faults::new("/login-actions/", http::fault);
        let app = http::router(Arc::clone(&core));
        let server = Arc::new(Server::serve(listener, address, app, Arc::clone(&faults)));
        Ok(Self { core, faults, server })
    }

    /// Keycloak's base address, without a trailing slash: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.core.base_url.clone()
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.core.issuer()
    }

    /// Closes the socket.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Serves again on the same port with everything remembered.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.server.restart().await
    }

    /// Every user, oldest first.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        lock(&self.core.realm).users.clone()
    }

    /// Adds a user as it is given, also a half-made one, and answers its id. An empty id gets a
    /// fresh one.
    #[must_use]
    pub fn add_user(&self, mut user: User) -> String {
        if user.id.is_empty() {
            user.id = uuid();
        }
        let id = user.id.clone();
        lock(&self.core.realm).users.push(user);
        id
    }

    /// Changes a user as somebody in Keycloak's own console would.
    ///
    /// # Panics
    /// Where there is no such user.
    pub fn update_user(&self, id: &str, change: impl FnOnce(&mut User)) {
        change(
            lock(&self.core.realm)
                .users
                .iter_mut()
                .find(|user| user.id == id)
                .expect("a user of this id"),
        );
    }

    /// Makes a new key that signs from now on. The ones before it stay in the key set, so that
    /// their tokens stay good.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn rotate_key(&self) -> anyhow::Result<()> {
        let key = SigningKey::generate()?;
        lock(&self.core.keys).rotate(key);
        Ok(())
    }

    /// Removes every key but the present one from the key set.
    pub fn retire_old_keys(&self) {
        lock(&self.core.keys).retire();
    }

    /// What the access token of a user with these realm roles and this tenant says. Each call is
    /// another user, unknown to the admin API.
    #[must_use]
    pub fn claims(&self, roles: &[&str], tenant: Option<&str>) -> Value {
        let id = uuid();
        let email = format!("{id}@pulse.example");
        let user = User {
            id,
            username: email.clone(),
            email: Some(email),
            email_verified: true,
            attributes: tenant
                .map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()]))
                .into_iter()
                .collect(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..User::default()
        };
        token::claims_of_user(&self.core, &user)
    }

    /// A token with any claims, signed by the present key.
    ///
    /// # Errors
    /// When the claims cannot be signed.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        lock(&self.core.keys).sign(claims)
    }

    /// Delays every answer.
    pub fn set_latency(&self, latency: Duration) {
        self.faults.set_latency(latency);
    }

    /// Answers the next `n` requests with `status`, undone.
    pub fn fail_next(&self, n: usize, status: u16) {
        self.faults.fail("", n, status, false);
    }

    /// Like [`Fake::fail_next`], for requests whose path contains `path_part`.
    pub fn fail_next_on(&self, path_part: &str, n: usize, status: u16) {
        self.faults.fail(path_part, n, status, false);
    }

    /// Carries out the next request whose path contains `path_part`, then loses its answer.
    pub fn lose_answer_on(&self, path_part: &str, status: u16) {
        self.faults.fail(path_part, 1, status, true);
    }

    /// Method and path of every request so far, the pages for people excepted.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, String)> {
        self.faults.requests()
    }
}
