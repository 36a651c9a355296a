//! `token`: a bearer token, to call the API of the running stack by hand.

use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;
use simulators::tokens::Keycloak;
use simulators::tokens::Role;

use crate::stack::settings::Env;
use shared::base::ids::TenantId;

/// Arguments of `token`.
#[derive(clap::Args)]
pub(crate) struct TokenArgs {
    /// The role of the token's user
    role: Who,
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
    let role = match (args.role, args.tenant.as_deref()) {
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

/// The Keycloak of a stack.
pub(crate) fn keycloak(env: &Env) -> Result<Keycloak<'_>> {
    Ok(Keycloak {
        base_url: env.get("KEYCLOAK_URL")?,
        realm: env.get("KEYCLOAK_REALM")?,
        client_id: env.get("KEYCLOAK_CLIENT_ID")?,
        client_secret: env.get("KEYCLOAK_CLIENT_SECRET")?,
    })
}
