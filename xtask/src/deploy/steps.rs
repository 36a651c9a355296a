//! What each step looks at, and what it does.

use std::fs;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use simulators::template::Template;
use tokio::process::Command;

use super::FILLED_IN;
use super::Found;
use super::Step;
use super::aws::{Aws, Stack};
use super::release;
use crate::package;
use crate::stack;
use crate::templates::Section;
use crate::templates::Values;

/// What must stay for functions without reserved concurrency.
const UNRESERVED: u64 = 100;
const LAYER: &str = "pulse-database-ca";
const QUOTA: [&str; 4] = ["--service-code", "lambda", "--quota-code", "L-B99A9384"];

/// A stage on its way.
pub(super) struct Deployment {
    root: PathBuf,
    stage: String,
    aws: Aws,
    /// Once the credentials were seen to work.
    account: Option<String>,
    /// Once the application was seen.
    deployed: bool,
    /// Of the application; what the foundation gives is added on the way.
    settings: Values,
    foundation: Values,
    names: [String; 2],
}

impl Deployment {
    pub(super) fn new(
        root: PathBuf,
        stage: &str,
        application: Section,
        foundation: Section,
    ) -> Result<Self> {
        let region = application.region.context("samconfig.toml has no region")?;
        Ok(Self {
            root,
            stage: stage.to_owned(),
            aws: Aws { region },
            account: None,
            deployed: false,
            settings: application.parameter_overrides,
            foundation: foundation.parameter_overrides,
            names: [application.stack_name, foundation.stack_name].map(Option::unwrap_or_default),
        })
    }

    /// Looks at a step and changes nothing.
    pub(super) async fn look(&mut self, step: Step) -> Found {
        let by_aws =
            !matches!(step, Step::Settings | Step::Credentials | Step::Keycloak | Step::Build);
        if by_aws && self.account.is_none() {
            return Found::Unseen("there are no credentials".to_owned());
        }
        let after = [Step::Secrets, Step::Health, Step::Alarms, Step::Protection];
        if after.contains(&step) && !self.deployed {
            return Found::Unseen("the application is not deployed yet".to_owned());
        }
        let found = match step {
            Step::Settings => self.look_at_settings(),
            Step::Credentials => Ok(self.look_at_credentials().await),
            Step::Quota => self.look_at_quota().await,
            Step::Foundation => self.look_at_foundation().await,
            Step::Certificate => self.look_at_certificate().await,
            Step::Keycloak => Ok(self.look_at_keycloak().await),
            Step::Build => self.look_at_build(),
            Step::Application => self.look_at_application().await,
            Step::Secrets => self.look_at_secrets().await,
            Step::Health => self.look_at_health().await,
            Step::Alarms => self.look_at_alarms().await,
            Step::Protection => self.look_at_protection().await,
        };
        found.unwrap_or_else(|error| {
            let mend = "are the credentials those of an administrator of the right account?";
            Found::Missing(format!("{error:#}"), mend.to_owned())
        })
    }

    /// Does what a step is for; false where only a person can.
    pub(super) async fn mend(&mut self, step: Step) -> Result<bool> {
        match step {
            Step::Quota => self.ask_for_quota().await.map(|()| false),
            Step::Foundation if self.is_own() => Ok(false),
            Step::Foundation => {
                self.clear(1).await?;
                let section = format!("{}-foundation", self.stage);
                self.sam(&["deploy", "--config-env", &section]).await.map(|()| true)
            }
            Step::Certificate => self.publish_certificate().await.map(|()| true),
            Step::Build => self.sam(&["build"]).await.map(|()| true),
            Step::Application => {
                self.clear(0).await?;
                let file = self.root.join(".aws-sam").join(format!("{}.yaml", self.stage));
                let settings = release::with_release(self.settings.clone(), &self.code()?);
                // JSON is YAML, of which SAM reads each value as it is.
                fs::write(&file, json!(settings).to_string())?;
                let file = format!("file://{}", file.display());
                let overrides =
                    ["deploy", "--config-env", &self.stage, "--parameter-overrides", &file];
                self.sam(&overrides).await.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn look_at_settings(&self) -> Result<Found> {
        let all = [("", &self.settings), ("-foundation", &self.foundation)];
        let open: Vec<_> = all
            .into_iter()
            .flat_map(|(part, settings)| {
                settings
                    .iter()
                    .filter(|(_, value)| value.contains("REPLACE"))
                    .map(move |(name, _)| format!("[{}{part}] {name}", self.stage))
            })
            .collect();
        if !open.is_empty() {
            let mend = "edit samconfig.toml; docs/deploy.md says what each is".to_owned();
            return Ok(Found::Missing(format!("still to be filled in: {}", open.join(", ")), mend));
        }
        if !self.is_own() && self.settings.get("Size") != self.foundation.get("Size") {
            return Ok(Found::Missing(
                "the foundation is of another Size than the application".to_owned(),
                "edit samconfig.toml: the database would have too few connections".to_owned(),
            ));
        }
        let declared = Template::read(&self.root.join("template.yaml"))?;
        let refused: Vec<_> = self
            .settings
            .iter()
            .filter(|(name, _)| *name != "Release")
            .filter(|(name, value)| {
                !crate::templates::accepts(&declared.whole()["Parameters"][name.as_str()], value)
            })
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !refused.is_empty() {
            let what = format!("template.yaml does not take {}", refused.join(", "));
            return Ok(Found::Missing(what, "edit samconfig.toml".to_owned()));
        }
        Ok(Found::Ready(format!("{} of samconfig.toml, in {}", self.stage, self.aws.region)))
    }

    async fn look_at_credentials(&mut self) -> Found {
        match self.aws.call(&["sts", "get-caller-identity"]).await {
            Ok(identity) => {
                self.account = identity["Account"].as_str().map(str::to_owned);
                Found::Ready(format!("{} in account {}", identity["Arn"], identity["Account"]))
            }
            Err(error) => Found::Missing(
                format!("{error:#}"),
                "aws configure sso   # or: aws configure; then AWS_PROFILE=…".to_owned(),
            ),
        }
    }

    /// How many instances the stage reserves.
    fn reserved(&self) -> Result<u64> {
        let template = Template::read(&self.root.join("template.yaml"))?;
        let given = |name: &str| self.settings.get(name).map(|value| json!(value));
        template.functions().iter().try_fold(0, |sum, (_, function)| {
            let reserved = template.resolve(&function["ReservedConcurrentExecutions"], &given)?;
            Ok(sum + reserved.as_u64().unwrap_or_default())
        })
    }

    async fn look_at_quota(&self) -> Result<Found> {
        let needed = self.reserved()?;
        if needed == 0 {
            return Ok(Found::Ready("nothing is reserved".to_owned()));
        }
        if self.aws.stack(&self.names[0]).await?.is_some_and(|stack| stack.stuck("", "").is_none())
        {
            return Ok(Found::Ready("the stage has its instances".to_owned()));
        }
        let account = self.aws.call(&["lambda", "get-account-settings"]).await?;
        let free = account["AccountLimit"]["UnreservedConcurrentExecutions"].as_u64();
        let free = free.context("no limit in the answer")?;
        if free >= needed + UNRESERVED {
            return Ok(Found::Ready(format!(
                "{free} instances are free, and {needed} are reserved"
            )));
        }
        let mut history =
            vec!["service-quotas", "list-requested-service-quota-change-history-by-quota"];
        history.extend(QUOTA);
        let asked = self.aws.call(&history).await?;
        let state = asked["RequestedQuotas"][0]["Status"].as_str().unwrap_or("not asked for yet");
        Ok(Found::Missing(
            format!("{free} instances are free, and {} are needed ({state})", needed + UNRESERVED),
            "wait until AWS has granted it, minutes to days; or Size = \"trial\"".to_owned(),
        ))
    }

    async fn ask_for_quota(&self) -> Result<()> {
        let mut held = vec!["service-quotas", "get-service-quota"];
        held.extend(QUOTA);
        let held = self.aws.call(&held).await?;
        let account = self.aws.call(&["lambda", "get-account-settings"]).await?;
        let free = account["AccountLimit"]["UnreservedConcurrentExecutions"].as_u64();
        let all = account["AccountLimit"]["ConcurrentExecutions"].as_u64();
        // What other stages reserve stays reserved.
        let others = all.unwrap_or_default().saturating_sub(free.unwrap_or_default());
        let wanted = (others + self.reserved()? + UNRESERVED).to_string();
        println!("asking for {wanted} instances; the quota is {}", held["Quota"]["Value"]);
        let mut ask = vec!["service-quotas", "request-service-quota-increase"];
        ask.extend(QUOTA);
        ask.extend(["--desired-value", &wanted]);
        match self.aws.call(&ask).await {
            Err(error) if error.to_string().contains("ResourceAlreadyExists") => Ok(()),
            asked => asked.map(drop),
        }
    }

    /// Whether network and database are the account's own.
    fn is_own(&self) -> bool {
        FILLED_IN
            .iter()
            .filter(|name| !["Release", "DatabaseCaLayerArn"].contains(*name))
            .all(|name| self.settings.contains_key(*name))
    }

    /// A stack that is there and takes a deployment; else what is missing.
    async fn usable_stack(&self, name: &str) -> Result<std::result::Result<Stack, Found>> {
        let Some(stack) = self.aws.stack(name).await? else {
            let mend = format!("cargo xtask deploy {}", self.stage);
            return Ok(Err(Found::Missing(format!("there is no {name}"), mend)));
        };
        Ok(match stack.stuck(name, &self.aws.region) {
            Some((what, mend)) => Err(Found::Missing(what, mend)),
            None => Ok(stack),
        })
    }

    async fn look_at_foundation(&mut self) -> Result<Found> {
        if self.is_own() {
            return Ok(Found::Ready("your own network and database".to_owned()));
        }
        let name = self.names[1].clone();
        let stack = match self.usable_stack(&name).await? {
            Ok(stack) => stack,
            Err(missing) => return Ok(missing),
        };
        for (name, value) in stack.outputs {
            if FILLED_IN.contains(&name.as_str()) {
                self.settings.entry(name).or_insert(value);
            }
        }
        Ok(Found::Ready(format!("{name} is {}", stack.status)))
    }

    async fn look_at_certificate(&mut self) -> Result<Found> {
        if self.settings.contains_key("DatabaseCaLayerArn") {
            return Ok(Found::Ready("as samconfig.toml says".to_owned()));
        }
        let layers =
            self.aws.call(&["lambda", "list-layer-versions", "--layer-name", LAYER]).await?;
        let Some(arn) = layers["LayerVersions"][0]["LayerVersionArn"].as_str() else {
            let mend = format!("cargo xtask deploy {}", self.stage);
            return Ok(Found::Missing(format!("there is no layer {LAYER}"), mend));
        };
        self.settings.insert("DatabaseCaLayerArn".to_owned(), arn.to_owned());
        Ok(Found::Ready(arn.to_owned()))
    }

    async fn publish_certificate(&self) -> Result<()> {
        let region = &self.aws.region;
        let url = format!("https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem");
        // No client of this machine's stack: this one may go through a proxy.
        let bundle = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status)?;
        let bundle = bundle.text().await?;
        if !bundle.contains("BEGIN CERTIFICATE") {
            bail!("{url} has no certificate");
        }
        let folder = self.root.join(".aws-sam/certificate");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("database-ca.pem"), bundle)?;
        let python = self.root.join(".tools/python/bin/python");
        let zipped = Command::new(python)
            .args(["-m", "zipfile", "-c", "layer.zip", "database-ca.pem"])
            .current_dir(&folder)
            .status();
        if !zipped.await?.success() {
            bail!("cannot zip {}", folder.display());
        }
        let zip = format!("fileb://{}", folder.join("layer.zip").display());
        let publish =
            ["lambda", "publish-layer-version", "--layer-name", LAYER, "--zip-file", &zip];
        self.aws.call(&publish).await.map(drop)
    }

    async fn look_at_keycloak(&self) -> Found {
        let of = |name: &str| self.settings.get(name).map_or("", String::as_str);
        let realm = if of("KeycloakRealm").is_empty() { "pulse" } else { of("KeycloakRealm") };
        let issuer = match of("JwtIssuer") {
            "" => format!("{}/realms/{realm}", of("KeycloakUrl")),
            issuer => issuer.to_owned(),
        };
        if issuer.contains("REPLACE") {
            return Found::Unseen("KeycloakUrl is not filled in".to_owned());
        }
        let url = format!("{issuer}/.well-known/openid-configuration");
        let answer = async {
            let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
            let answer = client.get(&url).send().await?.error_for_status()?;
            anyhow::Ok(answer.json::<Value>().await?)
        };
        match answer.await {
            Ok(said) if said["issuer"] == issuer.as_str() => {
                Found::Ready(format!("{issuer} is the issuer"))
            }
            Ok(said) => Found::Missing(
                format!("Keycloak says that it is {}, and not {issuer}", said["issuer"]),
                "set its hostname (KC_HOSTNAME), or JwtIssuer in samconfig.toml".to_owned(),
            ),
            Err(error) => Found::Missing(
                format!("{url}: {error:#}"),
                "start Keycloak with docs/pulse-realm.json, reachable from the internet".to_owned(),
            ),
        }
    }

    fn look_at_build(&self) -> Result<Found> {
        let names = stack::function_names(&self.root)?;
        for name in &names {
            let program = release::program(&self.root, name);
            let Ok(file) = fs::metadata(&program) else {
                let mend = "cargo xtask sam build   # half an hour the first time".to_owned();
                return Ok(Found::Missing(format!("{name} is not built"), mend));
            };
            // Lambda runs it as another user; a narrow umask of a shell gets into what is built.
            if file.permissions().mode() & 0o005 != 0o005 {
                let mend = "umask 022; rm -r .aws-sam/build; cargo xtask sam build".to_owned();
                return Ok(Found::Missing(format!("only you may run {}", program.display()), mend));
            }
        }
        Ok(Found::Ready(format!("{} functions in .aws-sam/build", names.len())))
    }

    fn code(&self) -> Result<String> {
        release::code(&self.root, &stack::function_names(&self.root)?)
    }

    async fn look_at_application(&mut self) -> Result<Found> {
        let name = self.names[0].clone();
        let mend = format!("cargo xtask deploy {}", self.stage);
        let stack = match self.usable_stack(&name).await? {
            Ok(stack) => stack,
            Err(missing) => return Ok(missing),
        };
        self.deployed = true;
        let Ok(code) = self.code() else {
            return Ok(Found::Unseen("what is deployed is compared with what is built".to_owned()));
        };
        let wanted = release::with_release(self.settings.clone(), &code);
        if stack.parameters.get("Release") != wanted.get("Release") {
            return Ok(Found::Missing(format!("{name} is of another release"), mend));
        }
        Ok(Found::Ready(format!("{name} is {}", stack.status)))
    }

    async fn look_at_secrets(&self) -> Result<Found> {
        let mut open = Vec::new();
        for role in ["customer", "operator", "system", "webhook"] {
            let id = format!("pulse-{}/{role}", self.stage);
            let read = ["secretsmanager", "get-secret-value", "--secret-id", &id];
            let held = self.aws.call(&read).await?;
            let fields: Value =
                serde_json::from_str(held["SecretString"].as_str().unwrap_or_default())
                    .with_context(|| format!("{id} is no JSON"))?;
            let is_open = |value: &Value| *value == "" || *value == json!([]);
            let fields = fields.as_object().into_iter().flatten();
            let needed =
                |field: &str| field != "SMTP_PASSWORD" || self.settings.contains_key("SmtpUser");
            open.extend(
                fields
                    .filter(|(field, value)| needed(field) && is_open(value))
                    .map(|(field, _)| format!("{id}: {field}")),
            );
        }
        if open.is_empty() {
            return Ok(Found::Ready("all fields are filled in".to_owned()));
        }
        Ok(Found::Missing(
            format!(
                "empty: {}; the endpoint for Stripe is {}",
                open.join(", "),
                self.output("WebhookUrl").await?
            ),
            "aws secretsmanager put-secret-value   # docs/deploy.md, step 9".to_owned(),
        ))
    }

    async fn output(&self, name: &str) -> Result<String> {
        let stack = self.aws.stack(&self.names[0]).await?;
        let stack = stack.with_context(|| format!("there is no {}", self.names[0]))?;
        stack.outputs.get(name).cloned().with_context(|| format!("no output {name}"))
    }

    async fn look_at_health(&self) -> Result<Found> {
        let url = format!("{}/health", self.output("ApiUrl").await?);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(35)).build()?;
        let answer = client.get(&url).send().await?;
        let status = answer.status();
        let said: Value = answer.json().await.unwrap_or_default();
        if said["status"] == "ok" {
            return Ok(Found::Ready(format!("{url} answers ok")));
        }
        let mend = if said["missing"].is_array() {
            "fill the secrets in, and ask again in a minute".to_owned()
        } else {
            format!("aws logs tail /pulse/{} --region {}", self.stage, self.aws.region)
        };
        Ok(Found::Missing(format!("{url} answers {status}: {said}"), mend))
    }

    async fn look_at_alarms(&self) -> Result<Found> {
        let account = self.account.as_deref().unwrap_or_default();
        let mut open = Vec::new();
        for (settings, topic) in [(&self.settings, ""), (&self.foundation, "-foundation")] {
            let Some(address) = settings.get("AlarmEmail").filter(|address| !address.is_empty())
            else {
                continue;
            };
            let topic = format!(
                "arn:aws:sns:{}:{account}:pulse-{}{topic}-alarms",
                self.aws.region, self.stage
            );
            let listed = ["sns", "list-subscriptions-by-topic", "--topic-arn", &topic];
            let listed = self.aws.call(&listed).await?;
            let mut all = listed["Subscriptions"].as_array().into_iter().flatten();
            if !all.any(|one| {
                one["Endpoint"] == address.as_str()
                    && one["SubscriptionArn"] != "PendingConfirmation"
            }) {
                open.push(format!("{topic} to {address}"));
            }
        }
        if open.is_empty() {
            return Ok(Found::Ready("whoever should hear them does".to_owned()));
        }
        let mend = "follow the link in the mail \"AWS Notification - Subscription Confirmation\"";
        Ok(Found::Missing(format!("not confirmed: {}", open.join(", ")), mend.to_owned()))
    }

    async fn look_at_protection(&self) -> Result<Found> {
        let mut open = Vec::new();
        for name in &self.names {
            if self.stage == "prod" && self.aws.stack(name).await?.is_some_and(|s| !s.protected) {
                open.push(format!(
                    "aws cloudformation update-termination-protection \
                     --enable-termination-protection --region {} --stack-name {name}",
                    self.aws.region
                ));
            }
        }
        if open.is_empty() {
            return Ok(Found::Ready("as the stage needs it".to_owned()));
        }
        Ok(Found::Missing("anybody may delete it by mistake".to_owned(), open.join("\n      ")))
    }

    /// Removes a stack whose first deployment failed: CloudFormation takes no other until then.
    async fn clear(&self, which: usize) -> Result<()> {
        let name = &self.names[which];
        let Some(stack) = self.aws.stack(name).await? else { return Ok(()) };
        match stack.status.as_str() {
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => {
                println!("{name} never came to be ({}): deleting it", stack.status);
                self.aws.call(&["cloudformation", "delete-stack", "--stack-name", name]).await?;
                let wait =
                    ["cloudformation", "wait", "stack-delete-complete", "--stack-name", name];
                self.aws.call(&wait).await.map(drop)
            }
            _ => stack
                .stuck(name, &self.aws.region)
                .map_or(Ok(()), |(what, mend)| bail!("{what}: {mend}")),
        }
    }

    async fn sam(&self, arguments: &[&str]) -> Result<()> {
        let mut arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        // Nobody is there to confirm: whoever started this has (docs/deploy.md).
        if arguments[0] == "deploy" && !std::io::stdin().is_terminal() {
            arguments.push("--no-confirm-changeset".into());
        }
        package::sam(&arguments).await
    }
}
