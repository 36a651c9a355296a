//! `seed`: a world of demo companies on the running stack. They buy as customers do, so everything
//! that they have is what the system made of it.

pub(crate) mod company;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use reqwest::Method;
use reqwest::RequestBuilder;
use serde_json::Value;
use serde_json::json;
use simulators::tokens::Role;
use tokio_postgres::Client;

use self::company::Company;
use self::company::Kind;
use crate::stack::settings::Env;
use crate::token::keycloak;
use crate::ui::Progress;
use crate::ui::seconds;

/// Arguments of `seed`.
#[derive(clap::Args)]
pub(crate) struct SeedArgs {
    /// How many companies
    #[arg(long, default_value_t = 12)]
    world: usize,
    /// What they are made up from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
    state: Option<PathBuf>,
}

/// How many companies have devices: those of all kinds.
const WITH_DEVICES: usize = Kind::ALL.len();
const DEVICES: usize = 20;
/// Where a page leads back to.
const ORIGIN: &str = "http://localhost:3000";

/// `cargo xtask seed`.
pub(crate) async fn run(args: &SeedArgs) -> Result<()> {
    let env = crate::dev::require_running(args.state.as_deref())?;
    let companies = company::companies(args.world, args.seed);
    let start = Instant::now();
    Seeder::new(&env).await?.sow(&companies, &Progress::new()).await?;
    println!("{} companies in {}", companies.len(), seconds(start.elapsed()));
    println!("log-ins, at {}:", env.get("KEYCLOAK_URL")?);
    let keycloak = keycloak(&env)?;
    let first = companies.first().map(Company::tenant).unwrap_or_default();
    for role in [Role::Operator, Role::OperatorAdmin, Role::Service, Role::Customer(&first)] {
        keycloak.token(role).await?;
        let (user, password) = keycloak.login(role);
        println!("  {:<15} {user}  {password}", role.name());
    }
    Ok(())
}

/// Who sows a world.
pub(crate) struct Seeder<'a> {
    env: &'a Env,
    pub(crate) database: Client,
    http: reqwest::Client,
}

impl<'a> Seeder<'a> {
    pub(crate) async fn new(env: &'a Env) -> Result<Self> {
        let database = crate::demo::database(env).await?;
        Ok(Self { env, database, http: crate::http_client(Duration::from_mins(1))? })
    }

    /// Lets each company buy that has not bought yet, and gives the first of them devices.
    pub(crate) async fn sow(&self, companies: &[Company], progress: &Progress) -> Result<()> {
        for (plan, cents) in [("starter", 4_500), ("pro", 27_900)] {
            self.sell_in_euros(plan, cents).await?;
        }
        let known = "SELECT tenant_id FROM tenants";
        let known = self.database.query(known, &[]).await?;
        let known: HashSet<String> = known.iter().map(|row| row.get(0)).collect();
        let step = progress.step(format!("{} companies buy", companies.len()));
        for company in companies.iter().filter(|company| !known.contains(&company.tenant())) {
            match company.kind {
                Kind::Wire => self.buy_by_wire(company).await,
                _ => self.check_out(company).await,
            }
            .with_context(|| company.name.clone())?;
        }
        self.arrived(companies).await?;
        step.done();
        let step = progress.step("devices and slots");
        for (number, company) in companies.iter().enumerate() {
            let add = company.kind == Kind::Addon && !known.contains(&company.tenant());
            if add || number < WITH_DEVICES {
                let token = keycloak(self.env)?.token(Role::Customer(&company.tenant())).await?;
                if add {
                    self.buy_slots(&token).await.with_context(|| company.name.clone())?;
                }
                if number < WITH_DEVICES {
                    self.add_devices(company, &token)
                        .await
                        .with_context(|| company.name.clone())?;
                }
            }
        }
        step.done();
        Ok(())
    }

    /// Prices a plan in euros too.
    async fn sell_in_euros(&self, plan: &str, cents: i64) -> Result<()> {
        let url = format!("{}/api/v1/operator/plans/{plan}", self.env.get("API_URL")?);
        let token = keycloak(self.env)?.token(Role::OperatorAdmin).await?;
        let found = answer(self.http.get(&url).bearer_auth(&token)).await?;
        let mut prices = found["prices"].as_array().context("a plan without prices")?.clone();
        if prices.iter().any(|price| price["currency"] == "eur") {
            return Ok(());
        }
        let price = self.stripe(Method::POST, "prices")?.form(&[
            ("currency", "eur"),
            ("product", &format!("prod_plan_{plan}")),
            ("unit_amount", &cents.to_string()),
            ("recurring[interval]", "month"),
            ("nickname", plan),
        ]);
        let price = answer(price).await?["id"].clone();
        prices.push(json!({
            "currency": "eur", "interval": "month", "stripe_price_id": price, "cents": cents,
        }));
        let put = self.http.put(&url).bearer_auth(&token);
        let put = put.header("If-Match", format!("\"{}\"", found["version"]));
        answer(put.json(&json!({ "prices": prices }))).await?;
        Ok(())
    }

    /// By the marketing site, which tells Stripe who buys.
    async fn check_out(&self, company: &Company) -> Result<()> {
        let (plan, currency) = (company.plan, (company.kind == Kind::Euro).then_some("eur"));
        let price = "SELECT stripe_price_id FROM stripe_prices WHERE plan_id = $1
                     AND interval = 'month' AND (is_current OR is_further)
                     AND coalesce(currency, 'usd') = $2";
        let currency = currency.unwrap_or("usd");
        let price: String = self.database.query_one(price, &[&plan, &currency]).await?.get(0);
        let email = company.email();
        let quantity = if company.kind == Kind::Quantity { "2" } else { "1" };
        let mut form = vec![
            ("mode", "subscription"),
            ("line_items[0][price]", &price),
            ("line_items[0][quantity]", quantity),
            ("success_url", ORIGIN),
            ("metadata[plan_id]", plan),
            ("metadata[company_name]", &company.name),
            ("metadata[legal_name]", &company.name),
            ("metadata[admin_email]", &email),
            ("metadata[admin_first_name]", company.first_name),
            ("metadata[admin_last_name]", company.last_name),
            ("metadata[industry]", company.industry),
            ("metadata[company_size]", company.size),
            ("metadata[phone]", &company.phone),
        ];
        if company.kind == Kind::Trial {
            form.push(("subscription_data[trial_period_days]", "14"));
        }
        let session = answer(self.stripe(Method::POST, "checkout/sessions")?.form(&form)).await?;
        let [line1, city, state, postal_code, country] = company.address;
        let payer = format!("{} {}", company.first_name, company.last_name);
        let form = [
            ("outcome", "paid"),
            ("email", &email),
            ("name", &payer),
            ("phone", &company.phone),
            ("line1", line1),
            ("city", city),
            ("state", state),
            ("postal_code", postal_code),
            ("country", country),
        ];
        let url = session["url"].as_str().context("a session without a page")?;
        let paid = self.http.post(url).form(&form).send().await?;
        ensure!(paid.status().is_redirection(), "the payment page answered {}", paid.status());
        if company.kind == Kind::Debit {
            let paid = format!("checkout/sessions/{}", session["id"].as_str().unwrap_or_default());
            let paid = answer(self.stripe(Method::GET, &paid)?).await?;
            let customer = paid["customer"].as_str().context("no customer")?;
            self.in_portal(customer, &[("action", "card"), ("card", "debit")]).await?;
        }
        Ok(())
    }

    /// By an operator, outside Stripe.
    async fn buy_by_wire(&self, company: &Company) -> Result<()> {
        let [line1, city, state, postal_code, country] = company.address;
        let tenant = company.tenant();
        let mut profile = json!({
            "tenant_id": tenant, "name": company.name, "legal_name": company.name,
            "industry": company.industry, "company_size": company.size, "phone": company.phone,
            "address_line1": line1, "city": city, "postal_code": postal_code, "country": country,
            "contact_name": format!("{} {}", company.first_name, company.last_name),
            "contact_email": company.email(), "billing_email": company.email(),
        });
        if !state.is_empty() {
            profile["state_province"] = json!(state);
        }
        self.operate("tenants", &profile).await?;
        let limit = "SELECT device_limit FROM subscription_plans WHERE plan_id = $1";
        let limit: i32 = self.database.query_one(limit, &[&company.plan]).await?.get(0);
        let sold = json!({
            "tenant_id": tenant, "subscription_type": "MAIN", "plan_id": company.plan,
            "device_limit": limit, "term_days": 90, "transaction_ref": format!("PO {tenant}"),
        });
        let sold = self.operate("subscriptions", &sold).await?;
        let slots = format!(
            "subscriptions/{}/sync-tier-allocations",
            sold["subscription_id"].as_str().context("no subscription")?
        );
        self.operate(&slots, &json!({})).await?;
        Ok(())
    }

    async fn operate(&self, path: &str, body: &Value) -> Result<Value> {
        let token = keycloak(self.env)?.token(Role::OperatorAdmin).await?;
        let url = format!("{}/api/v1/operator/{path}", self.env.get("API_URL")?);
        answer(self.http.post(url).bearer_auth(token).json(body)).await
    }

    /// Until every company is a tenant whose first log-in was made.
    async fn arrived(&self, companies: &[Company]) -> Result<()> {
        let tenants: Vec<String> = companies.iter().map(Company::tenant).collect();
        let sql = "SELECT (SELECT count(*) FROM tenants WHERE tenant_id = ANY($1)),
                          (SELECT count(*) FROM outbox_steps WHERE tenant_id = ANY($1)
                           AND kind IN ('keycloak_user', 'welcome_mail') AND status <> 'done')";
        let start = Instant::now();
        loop {
            let row = self.database.query_one(sql, &[&tenants]).await?;
            let (found, open): (i64, i64) = (row.get(0), row.get(1));
            if usize::try_from(found)? == tenants.len() && open == 0 {
                return Ok(());
            }
            ensure!(
                start.elapsed() < Duration::from_mins(10),
                "{found} of {} companies are tenants, and {open} steps are open",
                tenants.len()
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value> {
        let url = format!("{}/api/v1/customer/{path}", self.env.get("API_URL")?);
        let call = self.http.request(method, url).bearer_auth(token);
        answer(body.iter().fold(call, RequestBuilder::json)).await
    }

    /// More slots until the term ends, which Stripe renews with the plan.
    async fn buy_slots(&self, token: &str) -> Result<()> {
        let status = self.call(token, Method::GET, "billing/status", None).await?;
        let order = json!({
            "parent_subscription_id": status["subscriptions"][0]["subscription_id"],
            "additions": [{"tier_id": 2, "additional_slots": 5}],
            "success_url": format!("{ORIGIN}/done"), "cancel_url": format!("{ORIGIN}/slots"),
        });
        let opened = self.call(token, Method::POST, "billing/addon-checkout", Some(order)).await?;
        let url = opened["url"].as_str().context("an order without a page")?;
        let paid = self.http.post(url).form(&[("outcome", "paid")]).send().await?;
        ensure!(paid.status().is_redirection(), "the payment page answered {}", paid.status());
        Ok(())
    }

    /// Twenty devices: their tiers in turn, one without, and the last one is gone again.
    async fn add_devices(&self, company: &Company, token: &str) -> Result<()> {
        let tenant = company.tenant();
        let known = "SELECT device_id FROM devices WHERE tenant_id = $1";
        let known = self.database.query(known, &[&tenant]).await?;
        let known: HashSet<String> = known.iter().map(|row| row.get(0)).collect();
        let tiers = "SELECT DISTINCT tier_id FROM plan_tier_defaults WHERE plan_id = $1
                     ORDER BY tier_id";
        let tiers = self.database.query(tiers, &[&company.plan]).await?;
        let tiers: Vec<i32> = tiers.iter().map(|row| row.get(0)).collect();
        for number in 0..DEVICES {
            let device = format!("{}-{:03}", company.industry.to_uppercase(), number + 1);
            if known.contains(&device) {
                continue;
            }
            let body = json!({"device_id": device, "name": format!("Unit {}", number + 1)});
            self.call(token, Method::POST, "devices", Some(body)).await?;
            if number + 1 == DEVICES {
                self.call(token, Method::DELETE, &format!("devices/{device}"), None).await?;
            } else if number > 0 {
                // Of what a plan has few slots, these few are given.
                let tier = json!({ "tier_id": tiers[number % tiers.len()] });
                let path = format!("devices/{device}/tier");
                let given = self.call(token, Method::PUT, &path, Some(tier)).await;
                if let Err(error) = given {
                    ensure!(error.to_string().contains("limit"), "{error:#}");
                }
            }
        }
        Ok(())
    }

    /// The customer does something in Stripe's portal.
    pub(crate) async fn in_portal(&self, customer: &str, form: &[(&str, &str)]) -> Result<()> {
        let open = [("customer", customer), ("return_url", ORIGIN)];
        let opened = answer(self.stripe(Method::POST, "billing_portal/sessions")?.form(&open));
        let opened = opened.await?;
        let page = opened["url"].as_str().context("a portal without a page")?;
        let done = self.http.post(page).form(form).send().await?;
        ensure!(done.status().is_redirection(), "the portal answered {}", done.status());
        Ok(())
    }

    /// A request to Stripe.
    pub(crate) fn stripe(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let base = self.env.get("STRIPE_API_BASE").context("a world needs the simulator")?;
        let key = self.env.get("STRIPE_SECRET_KEY")?;
        Ok(self.http.request(method, format!("{base}/v1/{path}")).bearer_auth(key))
    }
}

/// Sends the request; returns the JSON of a success, `null` if there is none.
pub(crate) async fn answer(request: RequestBuilder) -> Result<Value> {
    let answer = request.send().await?;
    let (url, status, body) = (answer.url().clone(), answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{url} answered {status}: {body}");
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&body).with_context(|| format!("{url} did not answer with JSON"))
}
