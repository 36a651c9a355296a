//! `demo`: the main use case on the running stack, step by step with real ids. Everything that it
//! prints has been checked.

mod ask;
mod later;
mod world;

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use reqwest::header::LOCATION;
use serde_json::Value;
use serde_json::json;
use simulators::browser::Browser;
use simulators::browser::decode_base64;
use simulators::browser::find_link;
use simulators::browser::find_mail;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;

use self::ask::answer;
use self::ask::text;
use self::ask::wait;
use self::later::Later;
use crate::stack::StackArgs;
use crate::stack::settings::Env;
use crate::stack::settings::random;
use crate::token::keycloak;
use crate::ui::Progress;
use crate::ui::seconds;

const PLAN: &str = "pro";
/// An origin that the stack accepts (`ALLOWED_ORIGINS`).
const ORIGIN: &str = "http://localhost:3000";

/// Arguments of `demo`.
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Leave out what time brings: the stack's business time stays where it is
    #[arg(long)]
    fast: bool,
    /// Instead, lead so many companies through a year, and say what became of them
    #[arg(long, value_name = "N", conflicts_with = "fast")]
    world: Option<usize>,
    /// What these companies are made up from
    #[arg(long, default_value_t = 1, requires = "world")]
    seed: u64,
    #[command(flatten)]
    stack: StackArgs,
}

/// `cargo xtask demo`.
pub(crate) async fn run(args: &DemoArgs) -> Result<()> {
    let progress = Progress::new();
    let state = args.stack.state();
    let ran = crate::dev::running(&state)?.is_some();
    let env = running_or_started(&args.stack, &progress).await?;
    if let Some(world) = args.world {
        return world::play(&env, &state, (world, args.seed), &progress).await;
    }
    let story = play(&env).await?;
    if !args.fast {
        Later::new(&story, &state).await?.play().await?;
    }
    if !ran {
        println!("\nThe stack is still running; stop it with `cargo xtask down`.");
    }
    Ok(())
}

/// The settings of the running stack, or of one that this starts in the background and leaves
/// running.
pub(crate) async fn running_or_started(args: &StackArgs, progress: &Progress) -> Result<Env> {
    let state = args.state();
    if let Some(env) = crate::dev::running(&state)? {
        return Ok(env);
    }
    progress.say("no stack runs yet: starting one in the background");
    let mut dev = vec!["dev".into(), "--state".into(), state.clone().into_os_string()];
    if args.no_jdk {
        dev.push("--no-jdk".into());
    }
    crate::dev::detach(dev, &state, progress).await
}

/// Plays the demo up to today on the stack with these settings.
pub(crate) async fn play(env: &Env) -> Result<Story<'_>> {
    let start = Instant::now();
    let database = database(env).await?;
    let tag = random()?[..6].to_owned();
    let story = Story {
        env,
        tenant: String::new(),
        database,
        http: crate::http_client(Duration::from_secs(30))?,
        company: format!("Acme IoT Corp {tag}"),
        email: format!("jane.{tag}@acme-iot.example"),
        password: format!("Demo-{}", random()?),
    };
    match env.get("KEYCLOAK_KIND")? {
        "keycloak" => {
            println!("Parts: Keycloak and ElasticMQ, the real servers; Stripe is simulated.");
        }
        _ => println!(
            "Parts: the embedded issuer instead of Keycloak and moto instead of ElasticMQ (no JDK \
             and Maven, or --no-jdk); Stripe is simulated."
        ),
    }
    let session = story.check_out().await?;
    let event = story.webhook(&session).await?;
    let tenant = story.tenant(&session, &event).await?;
    println!("\n4. The outbox creates the login and sends the mail");
    story.outbox(&tenant).await?;
    story.keycloak_user(&tenant).await?;
    let link = story.welcome_mail().await?;
    let token = story.log_in(&tenant, &link).await?;
    story.device(&token).await?;
    story.slots(&tenant, &token).await?;
    story.audit(&tenant).await?;
    println!(
        "\nDone in {}: a paid checkout became a customer who logs in and uses what was paid for.",
        seconds(start.elapsed())
    );
    Ok(Story { tenant, ..story })
}

/// The stack's database, as its owner.
pub(crate) async fn database(env: &Env) -> Result<Client> {
    let (database, connection) = env
        .get("DATABASE_URL")?
        .parse::<Config>()?
        .connect(NoTls)
        .await
        .context("the stack's database")?;
    // The client's next call returns its error.
    tokio::spawn(async move { drop(connection.await) });
    Ok(database)
}

/// The demo's company, and how it is asked about.
pub(crate) struct Story<'a> {
    env: &'a Env,
    tenant: String,
    database: Client,
    http: reqwest::Client,
    company: String,
    email: String,
    password: String,
}

impl Story<'_> {
    /// The company pays on Stripe's page; returns the paid session.
    async fn check_out(&self) -> Result<Value> {
        println!("\n1. {} buys the plan {PLAN:?}, monthly, on the marketing site", self.company);
        let query = "SELECT stripe_price_id FROM stripe_prices WHERE plan_id = $1
                     AND interval = 'month' AND is_current";
        let price: String = self
            .database
            .query_opt(query, &[&PLAN])
            .await?
            .with_context(|| format!("plan {PLAN} has no monthly price"))?
            .get(0);
        // The marketing site's metadata contract (docs/events.md, "Checkout").
        let form = [
            ("mode", "subscription"),
            ("line_items[0][price]", &price),
            ("line_items[0][quantity]", "1"),
            ("success_url", "https://www.pulse.example/welcome?session_id={CHECKOUT_SESSION_ID}"),
            ("cancel_url", "https://www.pulse.example/pricing"),
            ("metadata[plan_id]", PLAN),
            ("metadata[company_name]", &self.company),
            ("metadata[legal_name]", "Acme IoT Corporation"),
            ("metadata[admin_email]", &self.email),
            ("metadata[admin_first_name]", "Jane"),
            ("metadata[admin_last_name]", "Doe"),
            ("metadata[industry]", "Manufacturing"),
            ("metadata[company_size]", "51-200"),
            ("metadata[phone]", "+1-555-0100"),
        ];
        let session =
            answer(self.stripe(reqwest::Method::POST, "checkout/sessions")?.form(&form)).await?;
        let (id, page) = (text(&session, "id")?, text(&session, "url")?);
        println!("   checkout session  {id}");
        println!("   payment page      {page}");
        let payer = [
            ("outcome", "paid"),
            ("email", &self.email),
            ("name", "Jane Doe"),
            ("phone", "+1-555-0100"),
            ("line1", "1 Foundry Way"),
            ("city", "Pittsburgh"),
            ("state", "PA"),
            ("postal_code", "15222"),
            ("country", "US"),
        ];
        let paid = self.http.post(page).form(&payer).send().await.context("the payment page")?;
        ensure!(paid.status().is_redirection(), "the payment page answered {}", paid.status());
        let back = paid.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let session =
            answer(self.stripe(reqwest::Method::GET, &format!("checkout/sessions/{id}"))?).await?;
        ensure!(
            session["payment_status"] == "paid",
            "the session is {}",
            session["payment_status"]
        );
        println!(
            "   paid by           {}, {}",
            text(&session, "customer")?,
            text(&session, "subscription")?
        );
        println!("   back at           {back}");
        Ok(session)
    }

    /// Stripe delivers the event, and the function applies it from the queue; returns its id.
    async fn webhook(&self, session: &Value) -> Result<String> {
        println!("\n2. Stripe delivers the signed event; webhook → queue → stripe-events");
        let events = answer(
            self.stripe(reqwest::Method::GET, "events?type=checkout.session.completed&limit=100")?,
        )
        .await?;
        let mut events = events["data"].as_array().into_iter().flatten();
        let event = events
            .find(|event| event["data"]["object"]["id"] == session["id"])
            .context("Stripe has no event of this session")?;
        let id = text(event, "id")?.to_owned();
        let applied = wait("the event to be applied", async || {
            let row = self
                .database
                .query_opt(
                    "SELECT status, status_reason FROM stripe_events WHERE event_id = $1",
                    &[&id],
                )
                .await?;
            let Some(row) = row else { return Ok(None) };
            match row.get("status") {
                "applied" => Ok(Some("applied")),
                other => bail!(
                    "the event {id} is {other}: {}",
                    row.get::<_, Option<&str>>("status_reason").unwrap_or("no reason")
                ),
            }
        });
        println!("   event             {id}  {}", applied.await?);
        Ok(id)
    }

    /// Shows tenant, subscription and slots; returns the tenant's id.
    async fn tenant(&self, session: &Value, event: &str) -> Result<String> {
        println!("\n3. One transaction created tenant, subscription and slots");
        let query = "SELECT tenant_id, name, status, contact_email, industry, city FROM tenants
                     WHERE stripe_customer_id = $1";
        let tenant = self.database.query_opt(query, &[&text(session, "customer")?]).await?;
        let tenant = tenant.with_context(|| {
            format!(
                "the event {event} is applied, but no tenant has customer {}",
                session["customer"]
            )
        })?;
        let id: String = tenant.get("tenant_id");
        let field = |name: &str| tenant.get::<_, Option<String>>(name).unwrap_or_default();
        ensure!(
            field("name") == self.company && field("contact_email") == self.email,
            "tenant {id} is {:?}, {:?}",
            field("name"),
            field("contact_email")
        );
        println!(
            "   tenant            {id}  {:?}, {}, {}, {}",
            field("name"),
            field("status"),
            field("industry"),
            field("city")
        );

        let query = "SELECT subscription_id, subscription_type, status, plan_id, device_limit,
                     stripe_subscription_id, to_char(term_end AT TIME ZONE 'UTC',
                     'YYYY-MM-DD') AS term_end
                     FROM subscriptions WHERE tenant_id = $1 AND stripe_checkout_session_id = $2";
        let rows = self.database.query(query, &[&id, &text(session, "id")?]).await?;
        let [row] = rows.as_slice() else {
            bail!("tenant {id} has {} subscriptions of this session, not one", rows.len())
        };
        let subscription: &str = row.get("subscription_id");
        ensure!(
            row.get::<_, Option<&str>>("plan_id") == Some(PLAN),
            "{subscription} has plan {:?}",
            row.get::<_, Option<&str>>("plan_id")
        );
        let linked = row.get::<_, Option<&str>>("stripe_subscription_id").unwrap_or_default();
        ensure!(
            Some(linked) == session["subscription"].as_str(),
            "{subscription} is linked to {linked:?}"
        );
        println!(
            "   subscription      {subscription}  {} {}, {} devices, to {}, {linked}",
            row.get::<_, &str>("subscription_type"),
            row.get::<_, &str>("status"),
            row.get::<_, i32>("device_limit"),
            row.get::<_, Option<&str>>("term_end").unwrap_or("no end"),
        );

        let query = "SELECT t.name, d.slot_limit AS wanted, a.slot_limit AS given, a.slots_used
                     FROM (SELECT * FROM plan_tier_defaults WHERE plan_id = $1) d
                     FULL JOIN (SELECT * FROM subscription_tier_allocations
                     WHERE subscription_id = $2) a USING (tier_id)
                     JOIN device_tiers t USING (tier_id) ORDER BY tier_id";
        let slots = self.database.query(query, &[&PLAN, &subscription]).await?;
        ensure!(!slots.is_empty(), "plan {PLAN} brings no slots");
        for row in &slots {
            let (tier, wanted, given): (&str, Option<i32>, Option<i32>) =
                (row.get("name"), row.get("wanted"), row.get("given"));
            ensure!(
                wanted == given,
                "slots of tier {tier}: the plan brings {wanted:?}, the subscription has {given:?}"
            );
            println!(
                "   slots             {tier}: {} of {}",
                row.get::<_, i32>("slots_used"),
                given.unwrap_or_default()
            );
        }
        println!("   equal to the plan's defaults");
        Ok(id)
    }

    /// Waits until the outbox has made the login and sent the mail.
    async fn outbox(&self, tenant: &str) -> Result<()> {
        let query = "SELECT step_id, kind, status, attempts, last_error FROM outbox_steps
                     WHERE tenant_id = $1 ORDER BY step_id";
        let mut steps = Vec::new();
        let done = wait("the login and the mail", async || {
            steps = self.database.query(query, &[&tenant]).await?;
            if let Some(row) = steps.iter().find(|row| row.get::<_, &str>("status") == "failed") {
                bail!("step {} failed", row.get::<_, &str>("kind"));
            }
            let done = steps.iter().all(|row| {
                // Its organization follows within two minutes, and nothing waits for it.
                row.get::<_, &str>("status") == "done"
                    || row.get::<_, &str>("kind") == "keycloak_organization"
            });
            Ok((!steps.is_empty() && done).then_some(()))
        })
        .await;
        for row in &steps {
            println!(
                "   step {:<12} {}  {}, attempts {}{}",
                row.get::<_, i64>("step_id"),
                row.get::<_, &str>("kind"),
                row.get::<_, &str>("status"),
                row.get::<_, i32>("attempts"),
                row.get::<_, Option<&str>>("last_error")
                    .map(|error| format!(": {error}"))
                    .unwrap_or_default()
            );
        }
        done
    }

    /// Checks the user in Keycloak's admin API.
    async fn keycloak_user(&self, tenant: &str) -> Result<()> {
        let token = keycloak(self.env)?.service_token().await?;
        let users = format!(
            "{}/admin/realms/{}/users",
            self.env.get("KEYCLOAK_URL")?,
            self.env.get("KEYCLOAK_REALM")?
        );
        let found = answer(
            self.http
                .get(&users)
                .bearer_auth(&token)
                .query(&[("email", self.email.as_str()), ("exact", "true")]),
        )
        .await?;
        let [user] = found.as_array().map(Vec::as_slice).unwrap_or_default() else {
            bail!("Keycloak does not have exactly one user with {}: {found}", self.email)
        };
        let id = text(user, "id")?;
        ensure!(
            user["attributes"]["tenant_id"][0] == tenant,
            "user {id} has attributes {}",
            user["attributes"]
        );
        let roles =
            answer(self.http.get(format!("{users}/{id}/role-mappings/realm")).bearer_auth(&token))
                .await?;
        ensure!(
            roles.as_array().into_iter().flatten().any(|role| role["name"] == "customer"),
            "user {id} has roles {roles}"
        );
        println!(
            "   Keycloak user     {id}  {}, tenant_id {tenant}, role customer",
            text(user, "username")?
        );
        Ok(())
    }

    /// Waits for the welcome mail; returns its link.
    async fn welcome_mail(&self) -> Result<String> {
        println!("\n5. The welcome mail");
        let folder = self.env.get("MAIL_DIR")?;
        let (_, mail) =
            wait("the welcome mail", async || find_mail(Path::new(folder), &self.email)).await?;
        let link = find_link(&mail, self.env.get("KEYCLOAK_URL")?)
            .context("the welcome mail has no link")?;
        println!("   to                {}", self.email);
        println!("   link              {link}");
        Ok(link)
    }

    /// The customer sets a password and gets a token that names the tenant.
    async fn log_in(&self, tenant: &str, link: &str) -> Result<String> {
        println!("\n6. The customer follows the link, sets a password and logs in");
        Browser::new()?.set_password(link, &self.password).await.context("setting the password")?;
        let token = keycloak(self.env)?
            .log_in(&self.email, &self.password)
            .await
            .context("logging in with the new password")?;
        let claims = decode_base64(token.split('.').nth(1).context("the token is not a JWT")?);
        let claims: Value = serde_json::from_slice(&claims).context("claims of the token")?;
        ensure!(claims["tenant_id"] == tenant, "the token's tenant_id is {}", claims["tenant_id"]);
        let roles = &claims["realm_access"]["roles"];
        ensure!(
            roles.as_array().into_iter().flatten().any(|role| role == "customer"),
            "the token's roles are {roles}"
        );
        println!("   token             {}…", token.get(..32).unwrap_or(&token));
        for claim in ["iss", "sub", "aud", "tenant_id"] {
            println!("   claim             {claim} = {}", claims[claim]);
        }
        println!("   claim             realm_access.roles = {roles}");
        Ok(token)
    }

    /// The customer registers a device and gives it a tier.
    async fn device(&self, token: &str) -> Result<()> {
        println!("\n7. The customer registers a device and gives it a tier");
        let api = format!("{}/api/v1/customer", self.env.get("API_URL")?);
        let call = |request: reqwest::RequestBuilder| answer(request.bearer_auth(token));
        let device = call(
            self.http
                .post(format!("{api}/devices"))
                .json(&json!({"device_id": "DEV-001", "name": "First pump"})),
        )
        .await?;
        println!(
            "   device            {} on {}",
            text(&device, "device_id")?,
            text(&device, "subscription_id")?
        );
        let tier =
            call(self.http.put(format!("{api}/devices/DEV-001/tier")).json(&json!({"tier_id": 2})))
                .await?;
        println!("   tier              {}", text(&tier, "tier_name")?);
        let entitled = call(self.http.get(format!("{api}/entitlements"))).await?;
        for slots in entitled["tiers"].as_array().into_iter().flatten() {
            println!(
                "   slots             {}: {} of {}",
                text(slots, "name")?,
                slots["used"],
                slots["limit"]
            );
        }
        let used = entitled["tiers"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|slots| slots["tier_id"] == 2)
            .map(|slots| slots["used"].clone());
        ensure!(
            used == Some(json!(1)) && entitled["devices"]["used"] == 1,
            "the device is not counted: {entitled}"
        );
        Ok(())
    }

    /// The customer buys more slots on Stripe's page, and gets them.
    async fn slots(&self, tenant: &str, token: &str) -> Result<()> {
        println!("\n8. The customer buys slots until the term ends");
        let api = format!("{}/api/v1/customer", self.env.get("API_URL")?);
        let call = |request: reqwest::RequestBuilder| answer(request.bearer_auth(token));
        let limit = async || {
            let entitled = call(self.http.get(format!("{api}/entitlements"))).await?;
            let standard = entitled["tiers"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|slots| slots["tier_id"] == 2);
            standard
                .and_then(|slots| slots["limit"].as_i64())
                .with_context(|| format!("no slots of tier 2 in {entitled}"))
        };
        let before = limit().await?;
        let status = call(self.http.get(format!("{api}/billing/status"))).await?;
        let main = text(&status["subscriptions"][0], "subscription_id")?;
        let order = json!({
            "parent_subscription_id": main, "additions": [{"tier_id": 2, "additional_slots": 5}],
            "success_url": format!("{ORIGIN}/done?session={{CHECKOUT_SESSION_ID}}"),
            "cancel_url": format!("{ORIGIN}/slots"),
        });
        let shown =
            call(self.http.post(format!("{api}/billing/addon-checkout?dry_run=true")).json(&order))
                .await?;
        println!(
            "   price shown       {} cents = {}",
            shown["amount_cents"],
            text(&shown["lines"][0], "calculation")?
        );
        let opened =
            call(self.http.post(format!("{api}/billing/addon-checkout")).json(&order)).await?;
        let paid = self
            .http
            .post(text(&opened, "url")?)
            .form(&[("outcome", "paid"), ("name", "Jane Doe")])
            .send()
            .await
            .context("the payment page")?;
        ensure!(paid.status().is_redirection(), "the payment page answered {}", paid.status());
        let session = text(&opened, "session_id")?;
        let charged =
            answer(self.stripe(reqwest::Method::GET, &format!("checkout/sessions/{session}"))?)
                .await?;
        ensure!(
            charged["amount_total"] == shown["amount_cents"],
            "charged {}, shown {}",
            charged["amount_total"],
            shown["amount_cents"]
        );
        println!("   charged           {} cents  {session}", charged["amount_total"]);
        let addon = wait("the slots", async || {
            let checkout = call(self.http.get(format!("{api}/billing/checkout/{session}"))).await?;
            Ok(checkout["subscription_id"].as_str().map(str::to_owned))
        });
        println!("   subscription      {}  ADDON of {main}", addon.await?);
        let after = limit().await?;
        ensure!(after == before + 5, "the limit was {before} and is {after}");
        println!("   slots             standard: {before} → {after}");
        self.outbox(tenant).await?;
        let renewed = "SELECT result->'items'->0->>'quantity' AS quantity FROM outbox_steps
                       WHERE tenant_id = $1 AND kind = 'stripe_addon_quantity'";
        let renewed: Option<String> = self.database.query_one(renewed, &[&tenant]).await?.get(0);
        ensure!(renewed.as_deref() == Some("5"), "Stripe renews {renewed:?} slots");
        println!("   renewed by Stripe 5, with {main}");
        Ok(())
    }

    /// Prints the audit rows.
    async fn audit(&self, tenant: &str) -> Result<()> {
        println!("\n9. The audit");
        let query = "SELECT to_char(event_timestamp AT TIME ZONE 'UTC', 'HH24:MI:SS') AS at,
                     event_type, actor_type, actor_id, subscription_id, stripe_event_id
                     FROM subscription_audit WHERE tenant_id = $1 ORDER BY event_timestamp, id";
        let rows = self.database.query(query, &[&tenant]).await?;
        ensure!(
            rows.iter().any(|row| row.get::<_, &str>("event_type") == "TENANT_PROVISIONED"),
            "no TENANT_PROVISIONED among {} audit rows",
            rows.len()
        );
        for row in &rows {
            let cause = [row.get::<_, Option<&str>>("subscription_id"), row.get("stripe_event_id")]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", ");
            println!(
                "   {} UTC      {:<20} by {} {}  {cause}",
                row.get::<_, &str>("at"),
                row.get::<_, &str>("event_type"),
                row.get::<_, &str>("actor_type"),
                row.get::<_, &str>("actor_id")
            );
        }
        Ok(())
    }

    fn stripe(&self, method: reqwest::Method, path: &str) -> Result<reqwest::RequestBuilder> {
        let base = self.env.get("STRIPE_API_BASE").context(
            "the demo pays automatically, which needs the simulator: unset STRIPE_SECRET_KEY",
        )?;
        Ok(self
            .http
            .request(method, format!("{base}/v1/{path}"))
            .bearer_auth(self.env.get("STRIPE_SECRET_KEY")?))
    }
}
