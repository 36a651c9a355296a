//! AWS by its own command-line program, of either version.

use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use tokio::process::Command;

use crate::templates::Values;

/// AWS in one region, with the caller's credentials.
pub(super) struct Aws {
    pub region: String,
}

/// A stack as CloudFormation describes it.
pub(super) struct Stack {
    pub status: String,
    pub protected: bool,
    pub parameters: Values,
    pub outputs: Values,
}

impl Aws {
    /// Calls an operation and returns its answer.
    pub(super) async fn call(&self, arguments: &[&str]) -> Result<Value> {
        let mut aws = Command::new("aws");
        aws.args(arguments)
            .args(["--region", &self.region, "--output", "json"])
            .env("AWS_PAGER", "")
            // Not to wait for a metadata service that is not there.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = aws.output().await.context(
            "there is no `aws` on PATH: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
        )?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("{}", text.trim().lines().last().unwrap_or("no answer"));
        }
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout).context("the answer of aws")
    }

    /// A stack, or none of that name.
    pub(super) async fn stack(&self, name: &str) -> Result<Option<Stack>> {
        let described =
            self.call(&["cloudformation", "describe-stacks", "--stack-name", name]).await;
        let described = match described {
            Err(error) if error.to_string().contains("does not exist") => return Ok(None),
            described => described?,
        };
        let stack = &described["Stacks"][0];
        let pairs = |list: &str, key: &str, value: &str| -> Values {
            let all = stack[list].as_array().into_iter().flatten();
            all.filter_map(|pair| {
                Some((pair[key].as_str()?.to_owned(), pair[value].as_str()?.to_owned()))
            })
            .collect()
        };
        Ok(Some(Stack {
            status: stack["StackStatus"].as_str().unwrap_or_default().to_owned(),
            protected: stack["EnableTerminationProtection"] == true,
            parameters: pairs("Parameters", "ParameterKey", "ParameterValue"),
            outputs: pairs("Outputs", "OutputKey", "OutputValue"),
        }))
    }
}

impl Stack {
    /// What keeps CloudFormation from deploying it, with the command that mends it.
    pub(super) fn stuck(&self, name: &str, region: &str) -> Option<(String, String)> {
        let command =
            |what: &str| format!("aws cloudformation {what} --region {region} --stack-name {name}");
        let mend = match self.status.as_str() {
            // It never came to be, and is only there to be looked at.
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "DELETE_FAILED" | "CREATE_FAILED" => {
                command("delete-stack")
            }
            "UPDATE_ROLLBACK_FAILED" => command("continue-update-rollback"),
            status if status.ends_with("IN_PROGRESS") => {
                format!("wait, and look on: {}", command("describe-stack-events"))
            }
            _ => return None,
        };
        Some((format!("{name} is {}", self.status), mend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_that_takes_no_deployment_has_a_command_that_mends_it() {
        let mend = |status: &str| {
            let stack = Stack {
                status: status.to_owned(),
                protected: false,
                parameters: Values::new(),
                outputs: Values::new(),
            };
            stack.stuck("pulse-dev", "us-east-1").map(|(_, mend)| mend)
        };
        for (status, part) in [
            ("ROLLBACK_COMPLETE", "delete-stack"),
            ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
            ("UPDATE_IN_PROGRESS", "wait"),
        ] {
            assert!(mend(status).is_some_and(|mend| mend.contains(part)), "{status}");
        }
        for status in ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"] {
            assert_eq!(mend(status), None, "{status}");
        }
    }
}
