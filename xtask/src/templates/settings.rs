//! `samconfig.toml` by what SAM makes of it: it cuts an unquoted value at a blank and says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::Programs;
use super::TEMPLATES;
use super::Values;
use super::ask;
use super::values;
use crate::deploy;

/// What SAM takes from a section of samconfig.toml for `sam deploy`.
#[derive(Deserialize)]
pub(crate) struct Section {
    pub region: Option<String>,
    pub stack_name: Option<String>,
    pub template_file: PathBuf,
    pub parameter_overrides: Values,
}

/// Reads sections of the samconfig.toml in a folder, as SAM does on a machine where only
/// `environment` is set.
pub(crate) async fn read(
    root: &Path,
    programs: &Programs,
    folder: &Path,
    sections: &[String],
    environment: &[(&str, &str)],
) -> Result<BTreeMap<String, Section>> {
    let environment: BTreeMap<_, _> = environment.iter().copied().collect();
    let request = json!({"do": "settings", "folder": folder, "sections": sections,
        "environment": environment});
    ask(root, &programs.deployment, "sam.py", &request).await
}

/// Checks each section with values in the place of what is still to be filled in.
pub(super) async fn check(root: &Path, programs: &Programs) -> Result<Vec<String>> {
    let folder = root.join("target/templates/settings");
    fs::create_dir_all(&folder)?;
    let mut declared = BTreeMap::new();
    let mut samples = Values::new();
    for name in TEMPLATES {
        fs::copy(root.join(name), folder.join(name))?;
        samples.extend(values::first(root, name));
        declared.insert(folder.join(name), values::declared(root, name)?);
    }
    // The longest that people write: with blanks, and with a comma.
    samples.insert("SmtpFrom".into(), "Pulse Billing <billing@example.com>".into());
    samples
        .insert("AllowedOrigins".into(), "https://app.example.com,https://www.example.com".into());
    let request = json!({"do": "written", "file": root.join("samconfig.toml"), "folder": folder,
        "samples": samples});
    let written: BTreeMap<String, Values> =
        ask(root, &programs.deployment, "sam.py", &request).await?;
    let sections: Vec<_> = written.keys().cloned().collect();
    // As a shell has it that only the AWS CLI was set up for.
    let read = read(root, programs, &folder, &sections, &[("AWS_REGION", "eu-west-9")]).await?;
    let mut found = Vec::new();
    for (name, section) in &read {
        let mut say = |what: String| found.push(format!("samconfig.toml, {name}: {what}"));
        if section.region.is_none() {
            say("SAM finds no region".into());
        }
        if section.stack_name.is_none() {
            say("SAM finds no stack".into());
        }
        let Some(parameters) = declared.get(&section.template_file) else {
            say(format!("no template {}", section.template_file.display()));
            continue;
        };
        for (parameter, value) in &written[name] {
            let taken = section.parameter_overrides.get(parameter);
            if taken != Some(value) {
                say(format!("{parameter} is {value:?}, and SAM takes {taken:?}"));
            }
        }
        for (parameter, value) in &section.parameter_overrides {
            match parameters.get(parameter) {
                None => say(format!("there is no parameter {parameter}")),
                // `cargo xtask deploy` fills it in, and nothing else may.
                Some(_) if parameter == "Release" => {}
                Some(said) if values::accepts(said, value) => {}
                Some(_) => say(format!("the template refuses {parameter}={value:?}")),
            }
        }
        let missing = parameters.iter().filter(|(parameter, said)| {
            said["Default"].is_null()
                && !section.parameter_overrides.contains_key(*parameter)
                && !deploy::FILLED_IN.contains(&parameter.as_str())
        });
        missing.for_each(|(parameter, _)| say(format!("{parameter} is not given")));
        let foundation = read.get(&format!("{name}-foundation"));
        if foundation.is_some_and(|foundation| foundation.region != section.region) {
            say("its foundation is in another region".into());
        }
    }
    Ok(found)
}
