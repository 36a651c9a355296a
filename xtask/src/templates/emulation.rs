//! Both templates deployed into moto's CloudFormation, as far as moto knows their resources; where
//! it does not is in `xtask/templates/gaps.txt`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Programs;
use super::Values;
use super::ask;
use super::job;
use super::transform;
use super::values;
use crate::deploy;

/// What became of a stack.
#[derive(Deserialize)]
struct Deployed {
    name: String,
    status: String,
    made: BTreeSet<String>,
    unresolved: Vec<String>,
}

#[derive(Default)]
struct Gaps {
    unknown: Vec<String>,
    wrong: Vec<String>,
    without: Vec<(String, String)>,
}

/// Deploys foundation and application with each of their conditions true once.
pub(super) async fn check(
    root: &Path,
    programs: &Programs,
    names: [&str; 2],
) -> Result<Vec<String>> {
    let gaps = Gaps::read(&root.join("xtask/templates/gaps.txt"))?;
    let (mut found, mut everything, mut made) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    // Without what is named every parameter is another than its default.
    for defaults in [&[][..], &["Nat"], &["every one"]] {
        let mut stacks = Vec::new();
        for name in names {
            let declared = values::declared(root, name)?;
            let mut given = values::first(root, name);
            let by_default = |name: &str| defaults == ["every one"] || defaults.contains(&name);
            given.retain(|name, _| !by_default(name) || declared[name]["Default"].is_null());
            let given = deploy::with_release(given, "code");
            let job = job(root, name, &given);
            let mut template = transform(root, programs, &[job]).await?.remove(0);
            gaps.leave_out(&mut template);
            let resources = template["Resources"].as_object().into_iter().flatten();
            everything.extend(resources.map(|(name, _)| name.clone()));
            stacks.push(stack(name, &template, &given));
        }
        let artifacts: Vec<_> = everything.iter().map(|name| format!("{name}.zip")).collect();
        let request = json!({"stacks": stacks, "artifacts": artifacts, "unknown": gaps.unknown,
            "wrong": gaps.wrong});
        match ask::<Vec<Deployed>>(root, &programs.stack, "emulate.py", &request).await {
            Err(error) => found.push(format!("moto does not deploy it: {error:#}")),
            Ok(stacks) => {
                for stack in stacks {
                    if stack.status != "CREATE_COMPLETE" {
                        found.push(format!("moto: {} is {}", stack.name, stack.status));
                    }
                    let said = |what| format!("moto: {}: {what}", stack.name);
                    found.extend(stack.unresolved.into_iter().map(said));
                    made.extend(stack.made);
                }
            }
        }
    }
    let lacking: Vec<_> = everything.difference(&made).map(String::as_str).collect();
    if !lacking.is_empty() {
        found.push(format!("moto made no {}", lacking.join(", ")));
    }
    Ok(found)
}

/// A stack with its parameters, those of them from the stack before it that it needs.
fn stack(template: &str, transformed: &Value, given: &Values) -> Value {
    let name = template.trim_end_matches(".yaml");
    let mut parameters = json!(given);
    for filled in deploy::FILLED_IN {
        if template == "template.yaml" && filled != "Release" {
            parameters[filled] = json!({"output": filled});
        }
    }
    json!({"name": format!("pulse-{name}"), "template": transformed, "parameters": parameters})
}

impl Gaps {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut gaps = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match *line.split(' ').collect::<Vec<_>>().as_slice() {
                ["unknown", kind] => gaps.unknown.push(kind.to_owned()),
                ["wrong", kind] => gaps.wrong.push(kind.to_owned()),
                ["without", kind, property] => {
                    gaps.without.push((kind.to_owned(), property.to_owned()));
                }
                _ => bail!("{}: {line}", path.display()),
            }
        }
        Ok(gaps)
    }

    fn leave_out(&self, template: &mut Value) {
        for resource in
            template["Resources"].as_object_mut().into_iter().flat_map(|all| all.values_mut())
        {
            for (kind, property) in &self.without {
                if resource["Type"] == *kind
                    && let Some(properties) = resource["Properties"].as_object_mut()
                {
                    properties.remove(property);
                }
            }
        }
    }
}
