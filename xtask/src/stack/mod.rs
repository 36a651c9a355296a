//! The local stack: every part of the system on loopback, started together (docs/local-stack.md).
//!
//! One module per part. No rule of the system is here: the modules only connect real servers, or
//! stand-ins for them.

mod aws;
mod console;
mod functions;
mod identity;
mod postgres;
mod pump;
pub(crate) mod settings;

pub(crate) use aws::shared_config;
pub(crate) use functions::names as function_names;
pub(crate) use functions::settings as function_settings;
pub(crate) use postgres::connect;

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use simulators::front::Front;
use simulators::stripe::Interval;
use simulators::stripe::Options as StripeOptions;
use simulators::stripe::Price;
use simulators::stripe::Simulator;
use simulators::tokens::Role;

use crate::clock::time::Times;
use crate::process::Supervisor;
use crate::process::signal_one;
use crate::tools;
use crate::tools::Tools;
use crate::ui::Progress;
use settings::Credentials;
use settings::Env;
use settings::PortArgs;
use settings::Ports;
use shared::process::business_time::moved;

/// The Keycloak realm.
pub(crate) const REALM: &str = "pulse";
/// The realm's client of the provisioning function.
pub(crate) const CLIENT_ID: &str = "pulse-backend";
/// The AWS region of everything local.
pub(crate) const REGION: &str = "us-east-1";

/// Who can log in at the console of a new stack: a customer of a seeded company.
pub(crate) const DEMO_CUSTOMER: Role<'_> = Role::Customer("demo-greenhouses");

/// Options of a stack.
#[derive(Clone, clap::Args)]
pub(crate) struct StackArgs {
    /// Use the stand-ins for Keycloak and the queue server even if a JDK and Maven are found
    #[arg(long, env = "PULSE_NO_JDK", value_parser = clap::builder::FalseyValueParser::new(),
        action = clap::ArgAction::SetTrue)]
    pub no_jdk: bool,
    /// Folder of this stack's data and logs
    #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    ports: PortArgs,
    /// Stripe test key, to use real Stripe test mode instead of the simulator
    #[arg(long, env = "STRIPE_SECRET_KEY", hide_env_values = true)]
    stripe_secret_key: Option<String>,
    /// Signing secret of the endpoint, as `stripe listen` prints it; needed with a test key
    #[arg(long, env = "STRIPE_WEBHOOK_SECRET", hide_env_values = true)]
    stripe_webhook_secret: Option<String>,
    /// Percentage of the functions' calls to Stripe, Keycloak and the queues that fail
    #[arg(long, hide = true, default_value_t = 0)]
    pub fail_percent: u8,
}

impl StackArgs {
    /// Options that no environment variable changes.
    pub(crate) fn own(state: PathBuf, no_jdk: bool) -> Self {
        Self {
            no_jdk,
            state: Some(state),
            ports: PortArgs::default(),
            stripe_secret_key: None,
            stripe_webhook_secret: None,
            fail_percent: 0,
        }
    }

    /// The folder of this stack.
    pub(crate) fn state(&self) -> PathBuf {
        state_folder(self.state.as_deref())
    }

    /// The key and the signing secret of real Stripe; `None` for the simulator.
    fn real_stripe(&self) -> Result<Option<(&str, &str)>> {
        match (self.stripe_secret_key.as_deref(), self.stripe_webhook_secret.as_deref()) {
            (None | Some(""), _) => Ok(None),
            (Some(key), _) if !key.starts_with("sk_test_") && !key.starts_with("rk_test_") => {
                bail!(
                    "STRIPE_SECRET_KEY is set but is not a test key (sk_test_…): the local stack \
                     never talks to Stripe's live mode. Unset it to use the simulator"
                )
            }
            (Some(_), None | Some("")) => {
                bail!(
                    "STRIPE_SECRET_KEY is set: real Stripe test mode also needs \
                     STRIPE_WEBHOOK_SECRET, the whsec_… that `stripe listen` prints"
                )
            }
            (Some(key), Some(secret)) => Ok(Some((key, secret))),
        }
    }
}

/// `.dev` of the workspace, or another folder; absolute, because services run in other folders.
pub(crate) fn state_folder(chosen: Option<&Path>) -> PathBuf {
    let chosen = chosen.unwrap_or(Path::new(".dev"));
    if chosen.is_absolute() { chosen.to_owned() } else { root().join(chosen) }
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The lock that a running stack holds for as long as it lives; `None` while another process holds
/// it.
pub(crate) fn try_lock(state: &Path) -> Result<Option<File>> {
    fs::create_dir_all(state).with_context(|| format!("cannot create {}", state.display()))?;
    let lock = File::options().create(true).append(true).open(state.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock the stack's folder"),
    }
}

/// A running stack. It lives as long as this value; `stop` ends it in order.
pub(crate) struct Stack {
    /// The settings that its users need: the contents of `stack.env`.
    pub env: Env,
    supervisor: Arc<Supervisor>,
    tasks: tokio::task::JoinSet<()>,
    state: PathBuf,
    _stripe: Option<Simulator>,
    _keycloak: Option<simulators::keycloak::Fake>,
    _fronts: Vec<Front>,
    _lock: File,
}

/// Starts everything; after an error, stops what had started.
pub(crate) async fn start(args: &StackArgs, progress: &Progress) -> Result<Stack> {
    let state = args.state();
    let Some(lock) = try_lock(&state)? else {
        bail!(
            "a stack is running in {} already: use it, or stop it with `cargo xtask down`",
            state.display()
        );
    };
    let real_stripe = args.real_stripe()?;
    let ports = Ports::choose(&args.ports, &state)?;
    let credentials = Credentials::keep(&state)?;
    remove(&state.join("stack.env"))?;
    fs::write(state.join("dev.pid"), std::process::id().to_string())?;
    let root = root();
    let supervisor = Arc::new(Supervisor::new(&state)?);
    let starting = Starting {
        args,
        root: &root,
        state: &state,
        ports,
        credentials,
        supervisor: &supervisor,
        progress,
        real_stripe,
    };
    let outcome = tokio::select! {
        outcome = Box::pin(starting.run(lock)) => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    if outcome.is_err() {
        supervisor.stop_all().await;
    }
    outcome
}

/// What the parts share while they start.
struct Starting<'a> {
    args: &'a StackArgs,
    root: &'a Path,
    state: &'a Path,
    ports: Ports,
    credentials: Credentials,
    supervisor: &'a Arc<Supervisor>,
    progress: &'a Progress,
    real_stripe: Option<(&'a str, &'a str)>,
}

impl Starting<'_> {
    async fn run(&self, lock: File) -> Result<Stack> {
        let services = async {
            let tools = tools::ensure(self.root, self.args.no_jdk, self.progress).await?;
            let (identity, database, queues, mail, ()) = tokio::try_join!(
                identity::start(self, &tools),
                postgres::start(self, &tools),
                aws::start(self, &tools),
                self.start_mail(&tools),
                self.start_stripe_mock(&tools)
            )?;
            anyhow::Ok((tools, identity, database, queues, mail))
        };
        let build_log = self.supervisor.log("build");
        let build = functions::build(self.root, self.progress, &build_log);
        // With the functions and not after them: a browser's tools use little of this machine.
        let pages_log = self.supervisor.log("console");
        let pages = crate::console::build(self.progress, &pages_log);
        let ((), (), (tools, identity, database, queues, mail)) =
            tokio::try_join!(build, pages, services)?;
        let stripe = self.start_stripe(&database).await?;

        let mut env = Env::default();
        let host = "127.0.0.1";
        let api = format!("http://{host}:{}", self.ports.api);
        env.set("API_URL", &api);
        env.set("LAMBDA_URL", &api);
        env.set(
            "DATABASE_URL",
            format!(
                "postgres://pulse_owner:{}@{host}:{}/pulse?sslmode=disable",
                self.credentials.owner, self.ports.postgres
            ),
        );
        env.set("DATABASE_HOST", host);
        env.set("DATABASE_PORT", self.ports.postgres.to_string());
        env.set("DATABASE_NAME", "pulse");
        env.set("KEYCLOAK_URL", format!("http://{host}:{}", self.ports.keycloak));
        env.set("KEYCLOAK_REALM", REALM);
        env.set("KEYCLOAK_CLIENT_ID", CLIENT_ID);
        env.set("KEYCLOAK_CLIENT_SECRET", &self.credentials.keycloak_client);
        env.set("KEYCLOAK_ORGANIZATIONS", "true");
        env.set("CONSOLE_URL", console::origin(self.ports.console));
        env.set("WELCOME_REDIRECT_URI", format!("{}/", console::origin(self.ports.console)));
        env.set("KEYCLOAK_KIND", if tools.java.is_some() { "keycloak" } else { "embedded" });
        if tools.java.is_some() {
            env.set("KEYCLOAK_ADMIN_PASSWORD", &self.credentials.keycloak_admin);
        }
        env.set("JWT_ISSUER", format!("http://{host}:{}/realms/{REALM}", self.ports.keycloak));
        env.set("JWT_AUDIENCE", "pulse-api");
        env.set("ALLOWED_ORIGINS", console::origins(self.ports.console).join(","));
        env.set("QUEUE_KIND", if tools.java.is_some() { "elasticmq" } else { "moto" });
        if let Some(simulator) = &stripe {
            env.set("STRIPE_API_BASE", simulator.base_url().trim_end_matches('/'));
        }
        if let Some(mock) = &tools.stripe_mock {
            env.set("STRIPE_MOCK_URL", format!("http://{host}:{}", self.ports.stripe_mock));
            env.set("STRIPE_SPEC", mock.specification.display().to_string());
        }
        env.set("STRIPE_SECRET_KEY", self.stripe_key());
        env.set("STRIPE_PUBLISHABLE_KEY", "pk_test_local");
        env.set("STRIPE_WEBHOOK_SECRET", self.webhook_secret());
        env.set("STRIPE_QUEUE_URL", &queues.stripe);
        env.set("STRIPE_DLQ_URL", &queues.dead_letters);
        env.set("PROVISIONING_QUEUE_URL", &queues.provisioning);
        env.set("RENEWAL_QUEUE_URL", &queues.renewal);
        env.set("STAGE", "local");
        env.set("AWS_ENDPOINT_URL_SQS", &queues.endpoint);
        env.set("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("http://{host}:{}", self.ports.aws));
        env.set("AWS_REGION", REGION);
        env.set("AWS_ACCESS_KEY_ID", "test");
        env.set("AWS_SECRET_ACCESS_KEY", "test");
        env.set("SECRETS_PREFIX", "pulse/");
        env.set("SMTP_HOST", host);
        env.set("SMTP_PORT", self.ports.smtp.to_string());
        env.set("SMTP_FROM", "billing@pulse.example");
        env.set("SMTP_TLS", "disable");
        env.set("OPERATOR_DIGEST_TO", "operators@pulse.example");
        env.set("MAIL_DIR", mail.display().to_string());
        let times = Times::of(self.state);
        env.set("BUSINESS_TIME_FILE", times.file().display().to_string());

        let mut tasks = tokio::task::JoinSet::new();
        let (settings, fronts) = self.with_failures(&env, stripe.as_ref()).await?;
        functions::start(self, &tools, &settings, &mut tasks).await?;
        pump::start(&queues, &api, times, &self.supervisor.log("pump"), &mut tasks)?;
        console::start(self, &env, &mut tasks).await?;
        // So that the printed log-in exists.
        crate::token::keycloak(&env)?.token(DEMO_CUSTOMER).await.context("the demo log-in")?;
        env.write(&self.state.join("stack.env"))?;
        Ok(Stack {
            env,
            supervisor: self.supervisor.clone(),
            tasks,
            state: self.state.to_owned(),
            _stripe: stripe,
            _keycloak: identity,
            _fronts: fronts,
            _lock: lock,
        })
    }

    /// The functions' settings. If a share of the calls is to fail, Keycloak and the queues are
    /// behind fronts that fail them.
    async fn with_failures(
        &self,
        env: &Env,
        stripe: Option<&Simulator>,
    ) -> Result<(Env, Vec<Front>)> {
        let (mut settings, mut fronts) = (env.clone(), Vec::new());
        if self.args.fail_percent > 0 {
            if let Some(stripe) = stripe {
                stripe.fail_percent(self.args.fail_percent);
            }
            for name in ["KEYCLOAK_URL", "AWS_ENDPOINT_URL_SQS"] {
                let front = Front::start(env.get(name)?, self.args.fail_percent).await?;
                settings.set(name, front.base_url());
                fronts.push(front);
            }
        }
        Ok((settings, fronts))
    }

    fn stripe_key(&self) -> &str {
        self.real_stripe.map_or(&self.credentials.stripe_key, |(key, _)| key)
    }

    fn webhook_secret(&self) -> &str {
        self.real_stripe.map_or(&self.credentials.webhook, |(_, secret)| secret)
    }

    /// Starts the SMTP sink; returns the folder in which each mail becomes a file.
    async fn start_mail(&self, tools: &Tools) -> Result<PathBuf> {
        let mailbox = self.state.join("mail");
        let mut sink = tokio::process::Command::new(tools.program("python"));
        sink.args([
            "-m",
            "aiosmtpd",
            "-n",
            "--smtputf8",
            "-l",
            &format!("127.0.0.1:{}", self.ports.smtp),
            "-c",
            "aiosmtpd.handlers.Mailbox",
        ])
        .arg(&mailbox);
        self.supervisor.start("mail", sink.env("PYTHONUNBUFFERED", "1"))?;
        let port = self.ports.smtp;
        self.supervisor.ready("mail", std::time::Duration::from_secs(30), || listens(port)).await?;
        Ok(mailbox.join("new"))
    }

    /// Starts Stripe's own validator of requests, for a test: no function calls it.
    async fn start_stripe_mock(&self, tools: &Tools) -> Result<()> {
        let Some(tool) = &tools.stripe_mock else { return Ok(()) };
        let port = self.ports.stripe_mock;
        let mut mock = tokio::process::Command::new(&tool.program);
        // By default it also listens for HTTPS, at a fixed port of every interface.
        mock.args(["-http-addr", &format!("127.0.0.1:{port}"), "-https-addr", "127.0.0.1:0"]);
        self.supervisor.start("stripe-mock", &mut mock)?;
        self.supervisor
            .ready("stripe-mock", std::time::Duration::from_mins(1), || listens(port))
            .await
    }

    /// Starts the Stripe simulator with the prices of the seeded catalogue; `None` if real test
    /// mode is used.
    async fn start_stripe(&self, database: &tokio_postgres::Client) -> Result<Option<Simulator>> {
        if self.real_stripe.is_some() {
            self.progress.say(format!(
                "  Stripe: real test mode. Forward its events with: stripe listen --forward-to \
                 http://127.0.0.1:{}/webhook/stripe",
                self.ports.api
            ));
            return Ok(None);
        }
        let simulator = Simulator::start(StripeOptions {
            listen: ([127, 0, 0, 1], self.ports.stripe).into(),
            secret_key: self.credentials.stripe_key.clone(),
            webhook_secret: self.credentials.webhook.clone(),
            webhook_url: Some(format!("http://127.0.0.1:{}/webhook/stripe", self.ports.api)),
        })
        .await?;
        let time = moved::follow(Times::of(self.state).file())?;
        simulator.follow(move || time.now());
        simulator.save_portal_settings();
        for row in database.query(include_str!("prices.sql"), &[]).await? {
            let interval = if row.get::<_, &str>("interval") == "year" {
                Interval::Year
            } else {
                Interval::Month
            };
            simulator.add_price(Price {
                id: row.get("id"),
                product: row.get("product"),
                currency: row.get("currency"),
                unit_amount: row.get("cents"),
                interval,
                nickname: row.get("nickname"),
            });
        }
        Ok(Some(simulator))
    }
}

/// True once something accepts connections on this port.
async fn listens(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

impl Stack {
    /// Returns when the stack is interrupted, or when a part of it fails.
    pub(crate) async fn run(&self) -> Result<()> {
        tokio::select! {
            () = interrupted() => Ok(()),
            error = self.supervisor.watch() => Err(error),
        }
    }

    /// Stops every part.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.supervisor.stop_all().await;
        for file in ["stack.env", "dev.pid"] {
            // If one stays, it misleads no one: the lock says whether a stack runs.
            let _ = fs::remove_file(self.state.join(file));
        }
    }
}

/// Returns at Ctrl-C, SIGTERM or the end of the terminal.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::SignalKind;
    use tokio::signal::unix::signal;
    let wait = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

/// Stops the stack of this folder and waits for its end. False if none ran.
pub(crate) async fn stop_running(state: &Path) -> Result<bool> {
    if try_lock(state)?.is_some() {
        // A stack that was killed may have orphaned its services.
        Supervisor::new(state)?;
        return Ok(false);
    }
    let pid =
        fs::read_to_string(state.join("dev.pid")).context("a stack runs but dev.pid is missing")?;
    let pid = pid.trim().parse().context("dev.pid holds no process id")?;
    signal_one("TERM", pid);
    for _ in 0..600 {
        if try_lock(state)?.is_some() {
            return Ok(true);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    signal_one("KILL", pid);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    Supervisor::new(state)?;
    bail!("the stack did not stop within a minute and was killed")
}

/// Removes a file that may not exist.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
