//! `load`: many companies check out at once, on a stack on which a share of all outside calls fails
//! (docs/operations.md, "Under load").

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::stack;
use crate::stack::Stack;
use crate::stack::StackArgs;
use crate::stack::settings::Env;
use crate::ui::Progress;
use crate::ui::seconds;

/// Arguments of `load`.
#[derive(clap::Args)]
pub(crate) struct LoadArgs {
    /// Number of companies
    #[arg(long, default_value_t = 2000)]
    checkouts: usize,
    /// Percentage of the functions' calls to Stripe, Keycloak and the queues that fail
    #[arg(long, default_value_t = 5)]
    fail_percent: u8,
    /// Give up after this many minutes
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Use the stand-ins for Keycloak and the queue server even if a JDK and Maven are found
    #[arg(long)]
    no_jdk: bool,
    /// Folder of the stack's data and logs; emptied first
    #[arg(long, hide = true, default_value = ".dev/load")]
    state: PathBuf,
}

/// `cargo xtask load`.
pub(crate) async fn run(args: &LoadArgs) -> Result<()> {
    let state = stack::state_folder(Some(&args.state));
    if state.exists() {
        fs::remove_dir_all(&state).with_context(|| format!("cannot empty {}", state.display()))?;
    }
    let progress = Progress::new();
    let mut stack_args = StackArgs::own(state, args.no_jdk);
    stack_args.fail_percent = args.fail_percent;
    let stack = stack::start(&stack_args, &progress).await?;
    let outcome = tokio::select! {
        outcome = drive(args, &stack) => outcome,
        () = stack::interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    stack.stop().await;
    outcome
}

async fn drive(args: &LoadArgs, stack: &Stack) -> Result<()> {
    let database = crate::demo::database(&stack.env).await?;
    let count = async |what: &str| -> Result<i64> {
        Ok(database.query_one(&format!("SELECT count(*) FROM {what}"), &[]).await?.get(0))
    };
    let wanted = i64::try_from(args.checkouts)?;
    let began = Instant::now();
    check_out(args.checkouts, &stack.env).await?;
    println!("{wanted} companies have paid after {}", seconds(began.elapsed()));

    let mut provisioned = None;
    loop {
        let tenants = count("tenants WHERE stripe_customer_id IS NOT NULL").await?;
        let steps = count("outbox_steps WHERE status = 'done'").await?;
        if tenants == wanted && provisioned.is_none() {
            provisioned = Some(began.elapsed());
            println!("{wanted} tenants after {}", seconds(began.elapsed()));
        }
        if tenants == wanted
            && steps == 2 * wanted
            && count(
                "stripe_events WHERE event_type = 'checkout.session.completed'
                      AND status = 'applied'",
            )
            .await?
                == wanted
        {
            break;
        }
        ensure!(
            began.elapsed() < Duration::from_mins(args.minutes),
            "{tenants} tenants and {steps} steps after {} minutes",
            args.minutes
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("{wanted} users with their mail after {}", seconds(began.elapsed()));
    report(args, stack, &count, wanted).await
}

/// Checks the final state, and prints what it took.
async fn report(
    args: &LoadArgs,
    stack: &Stack,
    count: &impl AsyncFn(&str) -> Result<i64>,
    wanted: i64,
) -> Result<()> {
    for (what, expected) in [
        ("subscriptions WHERE created_by = 'stripe'", wanted),
        (
            "(SELECT DISTINCT result->>'user_id' FROM outbox_steps
             WHERE kind = 'keycloak_user') AS users",
            wanted,
        ),
        ("(SELECT DISTINCT tenant_id FROM outbox_steps) AS tenants", wanted),
        ("outbox_steps WHERE status <> 'done'", 0),
        ("stripe_events WHERE status = 'failed'", 0),
        ("flags", 0),
        ("subscription_audit WHERE event_type = 'USER_CREATED'", wanted),
        ("subscription_audit WHERE event_type = 'WELCOME_EMAIL_SENT'", wanted),
    ] {
        let found = count(what).await?;
        ensure!(found == expected, "{found} instead of {expected}: {what}");
        println!("{found:>6} {what}");
    }
    let users = user_count(&stack.env).await?;
    ensure!(users == wanted, "Keycloak has {users} users instead of {wanted}");
    println!("{users:>6} users in Keycloak");
    println!("{:>6} steps tried more than once", count("outbox_steps WHERE attempts > 1").await?);
    println!(
        "{:>6} events with a transient error",
        count("stripe_events WHERE transient_errors > 0").await?
    );
    println!("{:>6} mails", fs::read_dir(stack.env.get("MAIL_DIR")?)?.count());
    println!("peak memory of each instance, debug builds:");
    for (name, kilobytes) in memory()? {
        println!(
            "  {name:<14} {}",
            kilobytes.iter().map(|kb| format!("{} MB", kb / 1024)).collect::<Vec<_>>().join(", ")
        );
    }
    println!(
        "with {} % of the calls to Stripe, Keycloak and the queues failing: nothing stuck",
        args.fail_percent
    );
    Ok(())
}

/// Opens and pays the checkouts as fast as Stripe accepts them. The calls of the marketing site and
/// of the payers fail too, and are retried.
async fn check_out(companies: usize, env: &Env) -> Result<()> {
    let http = crate::http_client(Duration::from_mins(1))?;
    let (base, key) =
        (env.get("STRIPE_API_BASE")?.to_owned(), env.get("STRIPE_SECRET_KEY")?.to_owned());
    let at_once = Arc::new(Semaphore::new(64));
    let mut tasks = JoinSet::new();
    for number in 0..companies {
        let (http, base, key, at_once) = (http.clone(), base.clone(), key.clone(), at_once.clone());
        tasks.spawn(async move {
            let _permit = at_once.acquire().await?;
            // Every tenth company has another one's name.
            let (name, email) = (
                format!("Load {}", number - usize::from(number % 10 == 9)),
                format!("admin{number}@load.example"),
            );
            let form = [
                ("mode", "subscription"),
                ("line_items[0][price]", "price_pro_month"),
                ("line_items[0][quantity]", "1"),
                ("success_url", "https://example.com"),
                ("metadata[plan_id]", "pro"),
                ("metadata[company_name]", &name),
                ("metadata[admin_email]", &email),
            ];
            for _ in 0..20 {
                let answer = http
                    .post(format!("{base}/v1/checkout/sessions"))
                    .bearer_auth(&key)
                    .form(&form)
                    .send()
                    .await?;
                if answer.status().is_success() {
                    let session: Value = answer.json().await?;
                    let session = session["id"].as_str().context("a session without id")?;
                    let payer = [("outcome", "paid"), ("email", email.as_str()), ("name", "Load")];
                    let paid =
                        http.post(format!("{base}/pay/{session}")).form(&payer).send().await?;
                    ensure!(
                        !paid.status().is_client_error() && !paid.status().is_server_error(),
                        "paying answered {}",
                        paid.status()
                    );
                    return Ok(());
                }
            }
            bail!("Stripe refused 20 times")
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The number of users in Keycloak, from its admin API.
async fn user_count(env: &Env) -> Result<i64> {
    let http = crate::http_client(Duration::from_secs(30))?;
    let (base, realm) = (env.get("KEYCLOAK_URL")?, env.get("KEYCLOAK_REALM")?);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", env.get("KEYCLOAK_CLIENT_ID")?),
        ("client_secret", env.get("KEYCLOAK_CLIENT_SECRET")?),
    ];
    let token: Value = http
        .post(format!("{base}/realms/{realm}/protocol/openid-connect/token"))
        .form(&form)
        .send()
        .await?
        .json()
        .await?;
    let token = token["access_token"].as_str().context("no token for the service account")?;
    let users: Value = http
        .get(format!("{base}/admin/realms/{realm}/users?max=1000000&briefRepresentation=true"))
        .bearer_auth(token)
        .send()
        .await?
        .json()
        .await?;
    Ok(i64::try_from(users.as_array().context("no list of users")?.len())?)
}

/// The peak resident memory of every function's processes in kB, from /proc.
fn memory() -> Result<BTreeMap<String, Vec<u64>>> {
    let mut peaks: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let Ok(status) = fs::read_to_string(process.path().join("status")) else { continue };
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(name), Some(peak)) = (field("Name:"), field("VmHWM:")) else { continue };
        if ["webhook", "stripe-events", "provisioning"].contains(&name) {
            peaks.entry(name.to_owned()).or_default().push(peak.trim_end_matches(" kB").parse()?);
        }
    }
    Ok(peaks)
}
