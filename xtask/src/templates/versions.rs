//! A changed parameter must make a new version of every function: an alias points to a version, and
//! a version keeps the environment, the network and the layers that it was published with.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::Programs;
use super::job;
use super::transform;
use super::values;
use crate::deploy;

/// Transforms the template with two values of each parameter, as `cargo xtask deploy` gives them.
pub(super) async fn check(root: &Path, programs: &Programs, name: &str) -> Result<Vec<String>> {
    let declared = values::declared(root, name)?;
    let mut found = Vec::new();
    let first = values::first(root, name);
    let mut names = Vec::new();
    let mut jobs = vec![job(root, name, &deploy::with_release(first.clone(), "code"))];
    for (parameter, said) in declared.iter().filter(|(parameter, _)| *parameter != "Release") {
        match values::two(said) {
            Ok([_, second]) => {
                let mut changed = first.clone();
                changed.insert(parameter.clone(), second);
                jobs.push(job(root, name, &deploy::with_release(changed, "code")));
                names.push(parameter.as_str());
            }
            Err(error) => found.push(format!("{name}: parameter {parameter}: {error}")),
        }
    }
    jobs.push(job(root, name, &deploy::with_release(first, "other code")));
    names.push("the code");
    let transformed = transform(root, programs, &jobs).await?;
    let before = versions(&transformed[0]);
    for (parameter, after) in names.iter().zip(&transformed[1..]) {
        let after = versions(after);
        let kept: Vec<_> = before
            .iter()
            .filter(|(function, version)| after.get(*function) == Some(version))
            .map(|(function, _)| function.as_str())
            .collect();
        if !kept.is_empty() {
            found.push(format!(
                "{name}: another value of {parameter} makes no new version of {}",
                kept.join(", ")
            ));
        }
    }
    // Lambda publishes no second version of a function that is as it was.
    for (function, version) in &before {
        let function = &transformed[0]["Resources"][function]["Properties"];
        let release = first_release(version);
        if !function.to_string().contains(&release) {
            found.push(format!("{name}: {version} is of a function that does not change with it"));
        }
    }
    Ok(found)
}

/// The version that each function publishes, by its name in the template, which ends in a digest.
fn versions(template: &Value) -> BTreeMap<String, String> {
    let all = template["Resources"].as_object().into_iter().flatten();
    all.filter(|(_, resource)| resource["Type"] == "AWS::Lambda::Version")
        .filter_map(|(name, resource)| {
            let function = resource["Properties"]["FunctionName"]["Ref"].as_str()?;
            Some((function.to_owned(), name.clone()))
        })
        .collect()
}

/// The digits that SAM takes of a release.
fn first_release(version: &str) -> String {
    version[version.len().saturating_sub(10)..].to_owned()
}
