//! The settings of a stack: its ports, its passwords, and `stack.env`.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

/// Fixed ports. By default, each is any free port.
#[derive(Clone, Default, clap::Args)]
pub(crate) struct PortArgs {
    /// Port of the API and the functions
    #[arg(long = "port-api", id = "port_api", env = "PULSE_PORT_API", value_name = "PORT")]
    api: Option<u16>,
    /// Port of PostgreSQL
    #[arg(
        long = "port-postgres",
        id = "port_postgres",
        env = "PULSE_PORT_POSTGRES",
        value_name = "PORT"
    )]
    postgres: Option<u16>,
    /// Port of Keycloak
    #[arg(
        long = "port-keycloak",
        id = "port_keycloak",
        env = "PULSE_PORT_KEYCLOAK",
        value_name = "PORT"
    )]
    keycloak: Option<u16>,
    /// Port of the queues
    #[arg(long = "port-queue", id = "port_queue", env = "PULSE_PORT_QUEUE", value_name = "PORT")]
    queue: Option<u16>,
    /// Port of moto (Secrets Manager)
    #[arg(long = "port-aws", id = "port_aws", env = "PULSE_PORT_AWS", value_name = "PORT")]
    aws: Option<u16>,
    /// Port of the web console; 3000 if that is free
    #[arg(
        long = "port-console",
        id = "port_console",
        env = "PULSE_PORT_CONSOLE",
        value_name = "PORT"
    )]
    console: Option<u16>,
    /// Port of the mail sink
    #[arg(long = "port-smtp", id = "port_smtp", env = "PULSE_PORT_SMTP", value_name = "PORT")]
    smtp: Option<u16>,
    /// Port of the Stripe simulator
    #[arg(
        long = "port-stripe",
        id = "port_stripe",
        env = "PULSE_PORT_STRIPE",
        value_name = "PORT"
    )]
    stripe: Option<u16>,
}

/// The ports of one run.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub api: u16,
    pub postgres: u16,
    pub keycloak: u16,
    pub queue: u16,
    pub aws: u16,
    pub console: u16,
    pub smtp: u16,
    pub stripe: u16,
    pub stripe_mock: u16,
}

impl Ports {
    /// The fixed ports if given, else those of the last run if they are still free (so that links
    /// in old mails still work), else any free ones.
    pub(crate) fn choose(args: &PortArgs, state: &Path) -> Result<Self> {
        let file = state.join("ports");
        let last = Env::read_optional(&file)?;
        let mut kept = Env::default();
        // Held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let mut choose = |name: &str, fixed: Option<u16>| -> Result<u16> {
            let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
            let listener = match (fixed, last.get(name).ok().and_then(|text| text.parse().ok())) {
                (Some(port), _) => bind(port).with_context(|| {
                    let flag = name.to_lowercase();
                    format!(
                        "port {port}, set by --port-{flag} or PULSE_PORT_{name}, is taken: stop \
                         what uses it, or choose another"
                    )
                })?,
                (None, Some(port)) => bind(port).or_else(|_| bind(0))?,
                // The address that the documents name.
                (None, None) if name == "CONSOLE" => bind(3000).or_else(|_| bind(0))?,
                (None, None) => bind(0)?,
            };
            let port = listener.local_addr()?.port();
            held.push(listener);
            kept.set(name, port.to_string());
            Ok(port)
        };
        let ports = Self {
            api: choose("API", args.api)?,
            postgres: choose("POSTGRES", args.postgres)?,
            keycloak: choose("KEYCLOAK", args.keycloak)?,
            queue: choose("QUEUE", args.queue)?,
            aws: choose("AWS", args.aws)?,
            console: choose("CONSOLE", args.console)?,
            smtp: choose("SMTP", args.smtp)?,
            stripe: choose("STRIPE", args.stripe)?,
            stripe_mock: choose("STRIPE_MOCK", None)?,
        };
        kept.write(&file)?;
        Ok(ports)
    }
}

/// The passwords of a stack: created at its first start, and kept with its data.
pub(crate) struct Credentials {
    pub superuser: String,
    pub owner: String,
    pub system: String,
    pub operator: String,
    pub customer: String,
    pub keycloak_admin: String,
    pub keycloak_client: String,
    pub stripe_key: String,
    pub webhook: String,
}

impl Credentials {
    /// Those of the last run, or new ones.
    pub(crate) fn keep(state: &Path) -> Result<Self> {
        let file = state.join("credentials");
        let mut kept = Env::read_optional(&file)?;
        let mut keep = |name: &str, prefix: &str| -> Result<String> {
            if kept.get(name).is_err() {
                kept.set(name, format!("{prefix}{}", random()?));
            }
            Ok(kept.get(name)?.to_owned())
        };
        let credentials = Self {
            superuser: keep("SUPERUSER", "")?,
            owner: keep("OWNER", "")?,
            system: keep("SYSTEM", "")?,
            operator: keep("OPERATOR", "")?,
            customer: keep("CUSTOMER", "")?,
            keycloak_admin: keep("KEYCLOAK_ADMIN", "")?,
            keycloak_client: keep("KEYCLOAK_CLIENT", "")?,
            stripe_key: keep("STRIPE_KEY", "sk_test_")?,
            webhook: keep("WEBHOOK", "whsec_")?,
        };
        kept.write(&file)?;
        Ok(credentials)
    }
}

/// Thirty-two random hexadecimal digits.
pub(crate) fn random() -> Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    }))
}

/// Plain `KEY=VALUE` lines, in order.
#[derive(Clone, Default)]
pub(crate) struct Env(Vec<(String, String)>);

impl Env {
    /// Reads a file that must be there.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(
            text.lines()
                .filter_map(|line| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
                .collect(),
        ))
    }

    fn read_optional(path: &Path) -> Result<Self> {
        if path.exists() { Self::read(path) } else { Ok(Self::default()) }
    }

    /// Writes the file at once, for this user only: a reader sees all of it or nothing.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = String::new();
        for (key, value) in &self.0 {
            writeln!(text, "{key}={value}")?;
        }
        let draft = path.with_extension("draft");
        let mut file =
            fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A value that must be there.
    pub(crate) fn get(&self, key: &str) -> Result<&str> {
        match self.0.iter().find(|(name, _)| name == key) {
            Some((_, value)) => Ok(value),
            None => bail!("{key} is not set in this stack"),
        }
    }

    /// Sets or replaces a value.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), value.into()));
    }

    /// All pairs, for a child's environment.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}
