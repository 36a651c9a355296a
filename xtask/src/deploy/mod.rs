//! `deploy`: an account brought to a deployed stage, step by step (docs/deploy.md).
//!
//! Each step looks first and changes only what is missing, so the command can be run again and
//! again. With `--check` it changes nothing.

mod aws;
mod release;
mod steps;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::stack;
use crate::templates;
use crate::templates::Programs;
use crate::templates::Section;
use crate::tools;
use crate::ui::Progress;

pub(crate) use release::FILLED_IN;
pub(crate) use release::with_release;
use steps::Deployment;

/// Arguments of `deploy`.
#[derive(clap::Args)]
pub(crate) struct DeployArgs {
    /// A section of samconfig.toml
    #[arg(value_parser = ["dev", "staging", "prod"])]
    stage: String,
    /// Change nothing, and go through all steps
    #[arg(long)]
    check: bool,
}

/// What a step found.
enum Found {
    /// All is as it should be.
    Ready(String),
    /// Something is missing: what, and what mends it.
    Missing(String, String),
    /// It cannot be seen from here, and why.
    Unseen(String),
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Settings,
    Credentials,
    Quota,
    Foundation,
    Certificate,
    Keycloak,
    Build,
    Application,
    Secrets,
    Health,
    Alarms,
    Protection,
}

const STEPS: [Step; 12] = [
    Step::Settings,
    Step::Credentials,
    Step::Quota,
    Step::Foundation,
    Step::Certificate,
    Step::Keycloak,
    Step::Build,
    Step::Application,
    Step::Secrets,
    Step::Health,
    Step::Alarms,
    Step::Protection,
];

/// `cargo xtask deploy`.
pub(crate) async fn run(args: &DeployArgs) -> Result<()> {
    let (root, progress) = (stack::root(), Progress::new());
    let programs = Programs {
        deployment: tools::deployment(&root, &progress).await?,
        stack: tools::python(&root, &progress).await?,
    };
    let sections = [args.stage.clone(), format!("{}-foundation", args.stage)];
    let mut read = templates::read_settings(&root, &programs, &root, &sections, &[]).await?;
    let [application, foundation]: [Section; 2] = sections
        .map(|name| read.remove(&name).with_context(|| format!("samconfig.toml has no {name}")))
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .try_into()
        .map_err(|_| anyhow::anyhow!("two sections"))?;
    let mut deployment = Deployment::new(root, &args.stage, application, foundation)?;
    let (mut missing, mut unseen) = (0, 0);
    for (number, step) in (1..).zip(STEPS) {
        let mut found = deployment.look(step).await;
        // What was there may be older than the code or the settings.
        let renewed = matches!(step, Step::Foundation | Step::Build | Step::Application);
        if !args.check && (renewed || matches!(found, Found::Missing(..))) {
            match deployment.mend(step).await {
                Ok(true) => found = deployment.look(step).await,
                Ok(false) => {}
                Err(error) => found = Found::Missing(format!("{error:#}"), "see above".to_owned()),
            }
        }
        match found {
            Found::Ready(what) => println!("✓ {number}. {step:?}: {what}"),
            Found::Unseen(why) => {
                unseen += 1;
                println!("? {number}. {step:?}: not checked: {why}");
            }
            Found::Missing(what, mend) => {
                missing += 1;
                println!("✗ {number}. {step:?}: {what}\n      {mend}");
                // What follows builds on it; these two do not keep a stack from running.
                if !args.check && !matches!(step, Step::Secrets | Step::Alarms) {
                    break;
                }
            }
        }
    }
    ensure!(missing == 0, "{missing} steps need you (docs/deploy.md)");
    println!("{} is {}", args.stage, if unseen == 0 { "deployed" } else { "partly checked" });
    Ok(())
}
