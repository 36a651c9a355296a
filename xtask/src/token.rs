//! `token`: a bearer token, to call the API of the running stack by hand.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use simulators::tokens::Keycloak;
use simulators::tokens::Role;

use crate::stack::settings::Env;
use shared::base::ids::TenantId;

/// Arguments of `token`.
#[derive(clap::Args)]
pub(crate) struct TokenArgs {
    /// The role of the token's user
    #[arg(required_unless_present = "issuer")]
    role: Option<Who>,
    /// The realm of a deployment, such as <https://login.example.com/realms/pulse>: a token for
    /// whoever logs in on the page that opens
    #[arg(long, value_name = "URL", conflicts_with_all = ["role", "tenant"])]
    issuer: Option<String>,
    /// The realm's client with the device flow
    #[arg(long, requires = "issuer", default_value = "pulse-operator")]
    client: String,
    /// The customer's tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
    state: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Who {
    /// Platform staff with read access
    Operator,
    /// Platform staff with write access
    OperatorAdmin,
    /// Another backend
    Service,
    /// A customer of the tenant named by --tenant
    Customer,
}

/// Prints the token and nothing else.
pub(crate) async fn run(args: &TokenArgs) -> Result<()> {
    if let Some(issuer) = &args.issuer {
        println!("{}", by_device(issuer, &args.client).await?);
        return Ok(());
    }
    let role = match (args.role.context("no role")?, args.tenant.as_deref()) {
        (Who::Customer, None) => bail!("a customer acts for a tenant: name one with --tenant ID"),
        (Who::Customer, Some(tenant)) => Role::Customer(TenantId::parse(tenant).map(|_| tenant)?),
        (_, Some(_)) => bail!("only a customer acts for a tenant: leave --tenant out"),
        (Who::Operator, None) => Role::Operator,
        (Who::OperatorAdmin, None) => Role::OperatorAdmin,
        (Who::Service, None) => Role::Service,
    };
    let env = crate::dev::require_running(args.state.as_deref())?;
    println!("{}", keycloak(&env)?.token(role).await?);
    Ok(())
}

/// A token by RFC 8628: its owner logs in with a browser, here or on another machine.
async fn by_device(issuer: &str, client_id: &str) -> Result<String> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let known: Value = http.get(&url).send().await?.error_for_status()?.json().await?;
    let endpoint = |name: &str| {
        known[name].as_str().map(str::to_owned).with_context(|| format!("{issuer} has no {name}"))
    };
    let form = [("client_id", client_id), ("scope", "openid")];
    let begun = http.post(endpoint("device_authorization_endpoint")?).form(&form).send().await?;
    let begun: Value = begun.json().await?;
    let code = begun["device_code"].as_str().with_context(|| format!("{issuer}: {begun}"))?;
    let page = begun["verification_uri_complete"].as_str().unwrap_or_default();
    eprintln!("Log in at {page}");
    let mut interval = begun["interval"].as_u64().unwrap_or(5);
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", code),
        ("client_id", client_id),
    ];
    loop {
        tokio::time::sleep(Duration::from_secs(interval)).await;
        let answer = http.post(endpoint("token_endpoint")?).form(&form).send().await?;
        let answer: Value = answer.json().await?;
        match (answer["access_token"].as_str(), answer["error"].as_str()) {
            (Some(token), _) => return Ok(token.to_owned()),
            (_, Some("authorization_pending")) => {}
            (_, Some("slow_down")) => interval += 5,
            _ => bail!("{issuer}: {answer}"),
        }
    }
}

/// The Keycloak of a stack.
pub(crate) fn keycloak(env: &Env) -> Result<Keycloak<'_>> {
    Ok(Keycloak {
        base_url: env.get("KEYCLOAK_URL")?,
        realm: env.get("KEYCLOAK_REALM")?,
        client_id: env.get("KEYCLOAK_CLIENT_ID")?,
        client_secret: env.get("KEYCLOAK_CLIENT_SECRET")?,
    })
}
