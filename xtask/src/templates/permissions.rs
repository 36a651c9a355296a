//! Every action of every role against the resource types that AWS authorises it on.
//!
//! IAM refuses nothing that is granted on the wrong type of resource: it is only never granted.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use simulators::template::Template;

use super::Programs;
use super::ask;
use super::values;
use crate::stack;

/// An allowed action with the ARN, which may have wildcards, that it is allowed on.
struct Grant {
    holder: String,
    action: String,
    resource: String,
}

/// Checks the policies of the transformed template.
pub(super) async fn check(
    root: &Path,
    programs: &Programs,
    transformed: &Value,
) -> Result<Vec<String>> {
    let given = values::first(root, "template.yaml");
    let template = Template::of(transformed.clone());
    let grants = grants(&template, &given)?;
    let actions: Vec<_> = grants.iter().map(|grant| &grant.action).collect();
    let request = json!({"do": "permissions", "actions": actions});
    let mut shapes: BTreeMap<String, Vec<String>> =
        ask(root, &programs.deployment, "sam.py", &request).await?;
    // A call of an alias is authorised on the alias, which the table leaves out (AWS's "Resources
    // and conditions for Lambda actions").
    if let Some(shapes) = shapes.get_mut("lambda:InvokeFunction") {
        let aliases: Vec<_> = shapes.iter().map(|shape| format!("{shape}:${{Alias}}")).collect();
        shapes.extend(aliases);
    }
    Ok(grants.iter().filter_map(|grant| judge(grant, &shapes[&grant.action])).collect())
}

fn judge(grant: &Grant, shapes: &[String]) -> Option<String> {
    let Grant { holder, action, resource } = grant;
    if shapes.is_empty() {
        return Some(format!("{holder}: AWS knows no action {action}"));
    }
    let reaches = |shape: &String| {
        (shape == "*" && resource == "*") || overlap(&tokens(shape), resource.as_bytes())
    };
    (!shapes.iter().any(reaches)).then(|| {
        format!("{holder}: {action} is granted on {resource}, and authorised on {shapes:?}")
    })
}

/// Of a published shape: a fixed character, or a placeholder, which stands for some characters.
enum Token {
    Character(u8),
    Some,
}

/// `arn:${Partition}:sqs:…` in its parts.
fn tokens(shape: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = shape;
    while let Some((before, after)) = rest.split_once("${") {
        tokens.extend(before.bytes().map(Token::Character));
        tokens.push(Token::Some);
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    tokens.extend(rest.bytes().map(Token::Character));
    tokens
}

/// Whether some ARN has the shape and is matched by the policy's resource, in which `*` is any
/// text. A placeholder has no colon: a function's name has none, and `name:alias` is another shape.
fn overlap(shape: &[Token], resource: &[u8]) -> bool {
    match (shape, resource) {
        ([], []) => true,
        // A star may be nothing, or take the next of the shape.
        (_, [b'*', rest @ ..]) => {
            overlap(shape, rest)
                || shape.split_first().is_some_and(|(_, left)| overlap(left, resource))
        }
        ([Token::Character(one), left @ ..], [other, rest @ ..]) => {
            one == other && overlap(left, rest)
        }
        // A placeholder is one character or more.
        ([Token::Some, left @ ..], [character, rest @ ..]) => {
            *character != b':' && (overlap(left, rest) || overlap(shape, rest))
        }
        _ => false,
    }
}

/// What the roles' and the managed policies' statements allow.
fn grants(template: &Template, given: &super::Values) -> Result<Vec<Grant>> {
    let lookup =
        |name: &str| given.get(name).map(|value| json!(value)).or_else(|| arn(template, name));
    let mut grants = Vec::new();
    for kind in ["AWS::IAM::Role", "AWS::IAM::ManagedPolicy"] {
        for holder in template.of_type(kind) {
            let properties = template.properties(holder);
            let own = properties["Policies"].as_array().into_iter().flatten();
            let documents =
                own.map(|policy| &policy["PolicyDocument"]).chain([&properties["PolicyDocument"]]);
            for statement in documents.flat_map(|document| list(&document["Statement"])) {
                let statement = template.resolve(&statement, &lookup).context(holder.to_owned())?;
                if statement["Effect"] != "Allow" {
                    continue;
                }
                for action in list(&statement["Action"]) {
                    for resource in list(&statement["Resource"]) {
                        grants.push(Grant {
                            holder: holder.to_owned(),
                            action: action.as_str().context("an action")?.to_owned(),
                            resource: resource.as_str().context("a resource")?.to_owned(),
                        });
                    }
                }
            }
        }
    }
    Ok(grants)
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    }
}

/// The ARN that a resource gets, or what a pseudo parameter is.
fn arn(template: &Template, reference: &str) -> Option<Value> {
    let (name, _) = reference.split_once('.').unwrap_or((reference, ""));
    let (region, account) = (stack::REGION, "123456789012");
    let of = |service: &str, rest: &str| {
        Some(json!(format!("arn:aws:{service}:{region}:{account}:{rest}")))
    };
    match (reference, template.whole()["Resources"][name]["Type"].as_str()) {
        ("AWS::Partition", _) => Some(json!("aws")),
        ("AWS::Region", _) => Some(json!(region)),
        ("AWS::AccountId", _) => Some(json!(account)),
        (_, Some("AWS::SQS::Queue")) => of("sqs", name),
        (_, Some("AWS::SecretsManager::Secret")) => of("secretsmanager", &format!("secret:{name}")),
        (_, Some("AWS::Logs::LogGroup")) => of("logs", &format!("log-group:{name}:*")),
        (_, Some("AWS::Lambda::Function")) => of("lambda", &format!("function:{name}")),
        (_, Some("AWS::Lambda::Alias")) => of("lambda", &format!("function:{name}:live")),
        (_, Some("AWS::SNS::Topic")) => of("sns", name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reaches_what_has_the_shape_and_nothing_else() {
        let function = "arn:${Partition}:lambda:${Region}:${Account}:function:${FunctionName}";
        let alias = format!("{function}:${{Alias}}");
        let reaches = |shape: &str, name: &str| {
            let resource = format!("arn:aws:lambda:us-east-1:123456789012:function:{name}");
            overlap(&tokens(shape), resource.as_bytes())
        };
        assert!(reaches(function, "pulse-dev-*"));
        assert!(!reaches(function, "pulse-dev-*:live"), "a function's name has no colon");
        assert!(reaches(&alias, "pulse-dev-*:live"));
        assert!(reaches(&alias, "pulse-dev-*"), "a star takes the alias too");
        assert!(!reaches(&alias, "pulse-dev-webhook"));
        assert!(!overlap(&tokens(function), b"arn:aws:sqs:us-east-1:123456789012:pulse"));
    }
}
