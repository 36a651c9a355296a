//! Two values of every parameter, which the template accepts.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use regex::Regex;
use serde_json::Value;
use simulators::template::Template;

use super::Values;

/// What a parameter may be. The first two that a pattern accepts are taken: give it another line
/// where a new pattern accepts none.
const SAMPLES: [&str; 26] = [
    "one",
    "other",
    "https://one.example.com",
    "https://other.example.com",
    "pk_test_one",
    "pk_test_other",
    "one@example.com",
    "other@example.com",
    "Pulse Billing <billing@example.com>",
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:pulse-dev/owner-AbCdEf",
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:pulse-dev/owner-GhIjKl",
    "arn:aws:lambda:us-east-1:123456789012:layer:pulse-database-ca:1",
    "arn:aws:lambda:us-east-1:123456789012:layer:pulse-database-ca:2",
    "arn:aws:kms:us-east-1:123456789012:key/1",
    "arn:aws:kms:us-east-1:123456789012:key/2",
    "arn:aws:acm:us-east-1:123456789012:certificate/1",
    "arn:aws:acm:us-east-1:123456789012:certificate/2",
    "api.example.com",
    "billing.example.com",
    "1111111111111111111111111111111111111111111111111111111111111111",
    "2222222222222222222222222222222222222222222222222222222222222222",
    "10.1.0.0/16",
    "10.2.0.0/16",
    "eur",
    "eu-west-1",
    "us-west-2",
];

/// The first of each parameter's two values: with them, each condition of the templates is true.
pub(super) fn first(root: &Path, template: &str) -> Values {
    let declared = declared(root, template).unwrap_or_default();
    declared
        .iter()
        .filter_map(|(name, parameter)| Some((name.clone(), two(parameter).ok()?[0].clone())))
        .collect()
}

/// The parameters of a template, as it declares them.
pub(super) fn declared(root: &Path, template: &str) -> Result<serde_json::Map<String, Value>> {
    let template = Template::read(&root.join(template))?;
    template.whole()["Parameters"].as_object().cloned().context("no parameters")
}

/// Two values that differ.
pub(super) fn two(parameter: &Value) -> Result<[String; 2]> {
    let kind = parameter["Type"].as_str().unwrap_or_default();
    let pair = |one: &str, other: &str| Ok([one.to_owned(), other.to_owned()]);
    match kind {
        "AWS::EC2::VPC::Id" => return pair("vpc-11111111", "vpc-22222222"),
        "AWS::EC2::SecurityGroup::Id" => return pair("sg-11111111", "sg-22222222"),
        "AWS::EC2::RouteTable::Id" => return pair("rtb-11111111", "rtb-22222222"),
        "List<AWS::EC2::Subnet::Id>" => {
            return pair("subnet-11111111,subnet-22222222", "subnet-11111111,subnet-33333333");
        }
        "Number" => {
            let least = parameter["MinValue"].as_u64().unwrap_or(5432);
            return pair(&least.to_string(), &(least + 1).to_string());
        }
        // The name of a public parameter of AWS, which is not ours to vary.
        _ if kind.starts_with("AWS::SSM::Parameter::Value") => {
            let default = parameter["Default"].as_str().unwrap_or_default();
            return pair(default, &format!("{default}-other"));
        }
        _ => {}
    }
    let allowed: Vec<_> = match parameter["AllowedValues"].as_array() {
        // What is not the default first: `true` of a switch that is `false`.
        Some(values) => {
            let (default, others): (Vec<_>, Vec<_>) =
                values.iter().partition(|value| **value == parameter["Default"]);
            others.into_iter().chain(default).filter_map(Value::as_str).collect()
        }
        None => SAMPLES.into_iter().filter(|sample| accepts(parameter, sample)).collect(),
    };
    ensure!(allowed.len() > 1, "xtask/src/templates/values.rs has no two values that it accepts");
    pair(allowed[0], allowed[1])
}

/// Whether a parameter takes a value, by its pattern and its list.
pub(crate) fn accepts(parameter: &Value, value: &str) -> bool {
    let listed = parameter["AllowedValues"]
        .as_array()
        .is_none_or(|all| all.iter().any(|allowed| allowed == value));
    let matches = parameter["AllowedPattern"].as_str().is_none_or(|pattern| {
        // CloudFormation compares the whole value.
        Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|pattern| pattern.is_match(value))
    });
    let number = parameter["Type"] != "Number" || value.parse::<u64>().is_ok();
    listed && matches && number
}
