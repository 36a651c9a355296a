//! What time brings to the demo's company, and to one that pays by wire. Business time moves: each
//! chapter says what happened meanwhile, by the audit and the mails, and what the customer may do.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use jiff::SignedDuration;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::RequestBuilder;
use serde_json::Value;
use serde_json::json;

use super::ORIGIN;
use super::PLAN;
use super::Story;
use super::answer;
use super::text;
use crate::clock::Way;
use crate::clock::time::Times;
use crate::token::keycloak;
use crate::ui::seconds;

pub(super) struct Later<'a> {
    story: &'a Story<'a>,
    state: &'a Path,
    /// The mails that were shown.
    mails: HashSet<PathBuf>,
    /// The last audit row that was shown.
    audit: i64,
    /// The tenant that pays by wire.
    wire: String,
    began: std::time::Instant,
}

impl<'a> Later<'a> {
    pub(super) async fn new(story: &'a Story<'a>, state: &'a Path) -> Result<Self> {
        let last = "SELECT coalesce(max(id), 0) FROM subscription_audit";
        let audit = story.database.query_one(last, &[]).await?.get(0);
        let wire = story.tenant.replace("acme-iot-corp", "birch-farms");
        let mails = HashSet::new();
        let began = std::time::Instant::now();
        let mut later = Self { story, state, mails, audit, wire, began };
        later.new_mails()?;
        Ok(later)
    }

    pub(super) async fn play(mut self) -> Result<()> {
        println!("\n10. An operator sells {} 90 days of {PLAN:?}, by wire", self.wire);
        let wire = self.sell().await?;

        println!("\n11. Two months later: Stripe has renewed the plan, and the slots with it");
        self.pass_renewal().await?;
        self.pass_renewal().await?;
        self.show().await?;
        self.are("ACTIVE", "ACTIVE").await?;
        self.invoice().await?;
        self.may("devices", true).await?;

        println!("\n12. The card declines at the next renewal");
        self.in_portal(&[("action", "card"), ("card", "declines")]).await?;
        self.pass_renewal().await?;
        self.show().await?;
        self.are("GRACE", "ACTIVE").await?;
        println!("   Stripe tells its payer that the card was declined; access lasts 14 days");
        self.may("devices", true).await?;

        println!("\n13. The customer mends the card, and Stripe's next attempt is paid");
        self.in_portal(&[("action", "card"), ("card", "works")]).await?;
        self.pass("4d").await?;
        self.show().await?;
        self.are("ACTIVE", "ACTIVE").await?;
        self.invoice().await?;

        println!("\n14. {} has paid nothing until its grace, and now the wire arrives", self.wire);
        self.paid_by_wire(&wire).await?;

        println!("\n15. The customer cancels, and gets notices until the end of what is paid");
        let row = self.main().await?;
        self.in_portal(&[("action", "cancel"), ("subscription", row.get(0))]).await?;
        let end = row.get::<_, Timestamp>(1);
        self.pass(&format!("to {}", end - SignedDuration::from_hours(23))).await?;
        self.show().await?;
        self.may("devices", true).await?;

        println!("\n16. The end");
        self.pass_renewal().await?;
        self.show().await?;
        self.are("EXPIRED", "EXPIRED").await?;
        self.may("devices", false).await?;

        println!(
            "\nDone in {}: from the first payment to the end. Business time is {:.0} now, and stays \
             there (`cargo xtask clock`).",
            seconds(self.began.elapsed()),
            self.now()?
        );
        Ok(())
    }

    /// Lets business time pass.
    async fn pass(&self, by: &str) -> Result<()> {
        Way::begin(self.state, by, false)?.lead(self.story.env, |_, _| {}).await
    }

    /// Lets it pass to an hour after the end of the customer's term.
    async fn pass_renewal(&self) -> Result<()> {
        let end = self.main().await?.get::<_, Timestamp>(1);
        self.pass(&format!("to {}", end + SignedDuration::from_hours(1))).await
    }

    fn now(&self) -> Result<Timestamp> {
        Ok(Times::of(self.state).read()?.now())
    }

    /// A call of an operator.
    async fn operate(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let keycloak = keycloak(self.story.env)?;
        let token = keycloak.token(simulators::tokens::Role::OperatorAdmin);
        let url = format!("{}/api/v1/operator/{path}", self.story.env.get("API_URL")?);
        let mut call = self.story.http.request(method.clone(), &url).bearer_auth(token.await?);
        if method == Method::PATCH {
            let version = "SELECT version FROM subscriptions WHERE subscription_id = $1";
            let id = path.rsplit('/').next().unwrap_or_default();
            let version: i64 = self.story.database.query_one(version, &[&id]).await?.get(0);
            call = call.header("If-Match", format!("\"{version}\""));
        }
        answer(call.json(&body)).await
    }

    /// A call of the customer, who logs in again: the last token is old.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let story = self.story;
        let token = keycloak(story.env)?.log_in(&story.email, &story.password).await?;
        let url = format!("{}/api/v1/customer/{path}", story.env.get("API_URL")?);
        let call = story.http.request(method, url).bearer_auth(token);
        answer(body.iter().fold(call, RequestBuilder::json)).await
    }

    /// Returns the subscription that was sold.
    async fn sell(&self) -> Result<String> {
        let tenant = json!({
            "tenant_id": self.wire, "name": "Birch Farms AB", "country": "SE", "city": "Umeå",
            "billing_email": format!("{}@farms.example", self.wire),
        });
        self.operate(Method::POST, "tenants", tenant).await?;
        let sold = json!({
            "tenant_id": self.wire, "subscription_type": "MAIN", "plan_id": PLAN,
            "device_limit": 50, "term_days": 90, "transaction_ref": "INV-2041",
        });
        let sold = self.operate(Method::POST, "subscriptions", sold).await?;
        let id = text(&sold, "subscription_id")?.to_owned();
        println!("   subscription      {id}  to {}", text(&sold, "term_end")?);
        Ok(id)
    }

    /// The wire's term has ended on the way, and its grace is not over.
    async fn paid_by_wire(&mut self, id: &str) -> Result<()> {
        let row = "SELECT status, grace_end FROM subscriptions WHERE subscription_id = $1";
        let row = self.story.database.query_one(row, &[&id]).await?;
        let (status, grace) = (row.get::<_, &str>(0), row.get::<_, Option<Timestamp>>(1));
        println!("   status            {status} until {:.0}", grace.unwrap_or_default());
        ensure!(status == "GRACE", "{id} is {status}");
        let until = self.now()? + SignedDuration::from_hours(365 * 24);
        let paid = json!({ "status": "ACTIVE", "term_end": until, "transaction_ref": "W-88" });
        let paid = self.operate(Method::PATCH, &format!("subscriptions/{id}"), paid).await?;
        println!("   paid              {} to {}", text(&paid, "status")?, text(&paid, "term_end")?);
        self.show().await
    }

    /// The customer's MAIN: its id at Stripe, and its term's end.
    async fn main(&self) -> Result<tokio_postgres::Row> {
        let sql = "SELECT stripe_subscription_id, term_end FROM subscriptions
                   WHERE tenant_id = $1 AND parent_subscription_id IS NULL";
        Ok(self.story.database.query_one(sql, &[&self.story.tenant]).await?)
    }

    /// The customer's MAIN and ADDON have these.
    async fn are(&self, main: &str, addon: &str) -> Result<()> {
        let sql = "SELECT status FROM subscriptions WHERE tenant_id = $1
                   ORDER BY parent_subscription_id NULLS FIRST";
        let rows = self.story.database.query(sql, &[&self.story.tenant]).await?;
        let found: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        ensure!(found == [main, addon], "MAIN and ADDON are {found:?}");
        println!("   MAIN, ADDON       {main}, {addon}");
        Ok(())
    }

    /// The customer does something in Stripe's portal.
    async fn in_portal(&self, form: &[(&str, &str)]) -> Result<()> {
        let opened = json!({ "return_url": format!("{ORIGIN}/billing") });
        let opened = self.call(Method::POST, "billing/portal", Some(opened)).await?;
        let page = text(&opened, "url")?;
        let done = self.story.http.post(page).form(form).send().await?;
        ensure!(done.status().is_redirection(), "the portal answered {}", done.status());
        let what = form.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(" ");
        println!("   in the portal     {what}");
        // What Stripe says of it arrives while the time runs.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    /// Stripe's last invoice has the plan and the slots.
    async fn invoice(&self) -> Result<()> {
        let stripe = self.main().await?.get::<_, String>(0);
        let found = self.story.stripe(Method::GET, &format!("subscriptions/{stripe}"))?;
        let found = answer(found.query(&[("expand[]", "latest_invoice")])).await?;
        let invoice = &found["latest_invoice"];
        let lines = invoice["lines"]["data"].as_array().context("an invoice without lines")?;
        ensure!(lines.len() == 2 && invoice["status"] == "paid", "the invoice: {invoice}");
        for line in lines {
            println!("   charged           {} cents for {}", line["amount"], line["quantity"]);
        }
        Ok(())
    }

    /// What the customer may still do, by what the product's other services ask.
    async fn may(&self, resource: &str, wanted: bool) -> Result<()> {
        let check = json!({ "resource": resource });
        let checked = self.call(Method::POST, "entitlements/check", Some(check)).await;
        let said = match &checked {
            Ok(_) => "yes".to_owned(),
            Err(error) => format!("no: {}", detail(&error.to_string())),
        };
        println!("   one more device?  {said}");
        ensure!(checked.is_ok() == wanted, "{said}");
        Ok(())
    }

    /// Shows what was written since the last time, of both companies: audit rows and mails.
    async fn show(&mut self) -> Result<()> {
        let last = "SELECT coalesce(max(id), 0) FROM subscription_audit";
        let sql = "SELECT to_char(event_timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS at,
                   event_type, subscription_id, tenant_id FROM subscription_audit
                   WHERE id > $1 AND tenant_id IN ($2, $3) AND event_type <> 'MAIL_SENT'
                   ORDER BY event_timestamp, id";
        let ours = [&self.story.tenant, &self.wire];
        for row in self.story.database.query(sql, &[&self.audit, ours[0], ours[1]]).await? {
            println!(
                "   {}  {:<29} {} {}",
                row.get::<_, &str>("at"),
                row.get::<_, &str>("event_type"),
                row.get::<_, Option<&str>>("subscription_id").unwrap_or_default(),
                row.get::<_, &str>("tenant_id")
            );
        }
        self.audit = self.story.database.query_one(last, &[]).await?.get(0);
        for (date, to, subject) in self.new_mails()? {
            println!("   mail {date}  to {to}: {subject}");
        }
        Ok(())
    }

    /// Date, recipient and subject of the mails that came since the last time.
    fn new_mails(&mut self) -> Result<Vec<(String, String, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.story.env.get("MAIL_DIR")?)? {
            let path = entry?.path();
            if self.mails.contains(&path) {
                continue;
            }
            let mail = String::from_utf8_lossy(&fs::read(&path)?).replace("\r\n", "\n");
            let head = mail.split("\n\n").next().unwrap_or_default().replace("\n ", " ");
            let header = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim().to_owned()
            };
            let (date, to) = (header("Date:"), header("To:"));
            if to.contains(&self.story.email) || to.contains(&self.wire) {
                found.push((path.metadata()?.modified()?, (date, to, header("Subject:"))));
            }
            self.mails.insert(path);
        }
        found.sort_by_key(|(written, _)| *written);
        Ok(found.into_iter().map(|(_, mail)| mail).collect())
    }
}

/// The detail of a refusal.
fn detail(error: &str) -> String {
    let problem = error.find('{').and_then(|at| serde_json::from_str::<Value>(&error[at..]).ok());
    problem.map_or(error.to_owned(), |problem| {
        format!("{} ({})", problem["detail"].as_str().unwrap_or_default(), problem["code"])
    })
}
