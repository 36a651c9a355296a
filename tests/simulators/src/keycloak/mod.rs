//! An embedded Keycloak with only the calls that are in use. It runs on machines without a JDK and
//! can inject faults at the socket.
//!
//! It has one realm, the backend's client (a service account that manages users), the public client
//! [`PUBLIC_CLIENT`], four realm roles and one declared user attribute, `tenant_id`. Undeclared
//! attributes are dropped without an error, as in Keycloak's user profile. Its organizations are
//! switched on. A browser logs in by the client [`WEB_CLIENT`]. Not simulated: sessions that end by
//! themselves, groups and other realms.

mod browser;
mod http;
mod organizations;
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

pub use self::browser::WEB_CLIENT;
pub use self::organizations::Organization;
use self::token::Keys;
use self::token::SigningKey;
use crate::server::Faults;
use crate::server::Server;
use crate::server::basic;
use crate::server::lock;

/// The id of the public client, which uses the password grant.
pub const PUBLIC_CLIENT: &str = "pulse-cli";

/// The realm's roles.
pub const ROLES: [&str; 4] = ["customer", "operator", "operator_admin", "service"];

/// Composite roles, each with the role that it includes.
const COMPOSITES: [(&str, &str); 1] = [("operator_admin", "operator")];

/// How to start a [`Fake`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on. Port 0 picks a free port.
    pub listen: SocketAddr,
    /// The realm's name.
    pub realm: String,
    /// The id of the backend's client.
    pub client_id: String,
    /// The secret of the backend's client.
    pub client_secret: String,
    /// The SMTP server that mail is sent to, without TLS. With `None`, mails are only counted.
    pub smtp: Option<SocketAddr>,
    /// The origins of the pages from which a browser may log in.
    pub origins: Vec<String>,
}

/// A user of the realm.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// A UUID.
    pub id: String,
    /// The username, in lower case.
    pub username: String,
    /// The email address, in lower case.
    pub email: Option<String>,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Whether the user may log in.
    pub enabled: bool,
    /// Whether the address is verified. Completing the actions of a mailed link verifies it.
    pub email_verified: bool,
    /// Values of the declared attributes.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// What the user must do before logging in, for example `UPDATE_PASSWORD`.
    pub required_actions: BTreeSet<String>,
    /// The password in clear text, because this is a fake.
    pub password: Option<String>,
    /// The assigned realm roles, out of [`ROLES`].
    pub roles: BTreeSet<String>,
    /// The number of action mails sent so far.
    pub mails_sent: u32,
    /// The link in the last action mail.
    pub last_link: Option<String>,
    /// Creation time in Unix milliseconds; 0 for a user that a test added.
    pub created: i64,
}

/// A mailed link that was not used yet.
struct Link {
    user_id: String,
    /// Unix seconds.
    expires: i64,
}

#[derive(Default)]
struct Realm {
    users: Vec<User>,
    /// Wrong passwords since the last log-in, by user id. They are only counted: no user is locked
    /// out.
    failures: HashMap<String, u32>,
    links: HashMap<String, Link>,
    /// The user of each browser's session, by its id, which is its refresh token too.
    sessions: HashMap<String, String>,
    codes: HashMap<String, browser::Code>,
    refuses_names: bool,
    organizations: Vec<Organization>,
    has_no_organizations: bool,
}

/// State shared by the handle and the server.
struct Core {
    base_url: String,
    options: Options,
    basic: String,
    keys: Mutex<Keys>,
    /// Name and id of each role.
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

/// A running fake. Clones share it, and the socket closes when the last one is dropped.
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
    /// When the address cannot be bound or no key can be generated.
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

    /// Returns Keycloak's base URL, without a trailing slash: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.core.base_url.clone()
    }

    /// Returns the issuer: the `iss` claim of the tokens.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.core.issuer()
    }

    /// Closes the socket.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Serves again on the same port with the same state.
    ///
    /// # Errors
    /// When the port is no longer free.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.server.restart().await
    }

    /// Returns all users, oldest first.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        lock(&self.core.realm).users.clone()
    }

    /// Adds a user as given, complete or not, and returns its id. An empty id is replaced by a new
    /// one.
    #[must_use]
    pub fn add_user(&self, mut user: User) -> String {
        if user.id.is_empty() {
            user.id = uuid();
        }
        let id = user.id.clone();
        lock(&self.core.realm).users.push(user);
        id
    }

    /// Changes a user, as an administrator would in Keycloak's console.
    ///
    /// # Panics
    /// When the user does not exist.
    pub fn update_user(&self, id: &str, change: impl FnOnce(&mut User)) {
        change(
            lock(&self.core.realm)
                .users
                .iter_mut()
                .find(|user| user.id == id)
                .expect("a user of this id"),
        );
    }

    /// Refuses every name from now on, as a realm with a profile of its own may.
    pub fn refuse_names(&self) {
        lock(&self.core.realm).refuses_names = true;
    }

    /// Returns all organizations, oldest first.
    #[must_use]
    pub fn organizations(&self) -> Vec<Organization> {
        lock(&self.core.realm).organizations.clone()
    }

    /// Adds an organization as given, as an administrator would in Keycloak's console. An empty id
    /// is replaced by a new one.
    pub fn add_organization(&self, mut organization: Organization) {
        if organization.id.is_empty() {
            organization.id = uuid();
        }
        lock(&self.core.realm).organizations.push(organization);
    }

    /// Switches the realm's organizations on or off.
    pub fn switch_organizations(&self, on: bool) {
        lock(&self.core.realm).has_no_organizations = !on;
    }

    /// Generates a new signing key. Earlier keys stay in the key set, so that their tokens stay
    /// valid.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn rotate_key(&self) -> anyhow::Result<()> {
        let key = SigningKey::generate()?;
        lock(&self.core.keys).rotate(key);
        Ok(())
    }

    /// Removes all keys except the current one from the key set.
    pub fn retire_old_keys(&self) {
        lock(&self.core.keys).retire();
    }

    /// Returns the access token claims of a user with these realm roles and this tenant. Each call
    /// makes up another user, whom the admin API does not know.
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

    /// Signs any claims as a token, with the current key.
    ///
    /// # Errors
    /// When the claims cannot be signed.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        lock(&self.core.keys).sign(claims)
    }

    /// Delays every response.
    pub fn set_latency(&self, latency: Duration) {
        self.faults.set_latency(latency);
    }

    /// Answers the next `n` requests with `status` without carrying them out.
    pub fn fail_next(&self, n: usize, status: u16) {
        self.faults.fail("", n, status, false);
    }

    /// Like [`Fake::fail_next`], for requests whose path contains `path_part`.
    pub fn fail_next_on(&self, path_part: &str, n: usize, status: u16) {
        self.faults.fail(path_part, n, status, false);
    }

    /// Carries out the next request whose path contains `path_part`, but answers it with `status`.
    pub fn lose_answer_on(&self, path_part: &str, status: u16) {
        self.faults.fail(path_part, 1, status, true);
    }

    /// Returns the method and path of every request so far, except for browser pages.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, String)> {
        self.faults.requests()
    }
}
