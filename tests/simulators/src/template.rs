//! template.yaml, read as CloudFormation and SAM read it: short forms, globals, conditions and
//! references, with values of one's own for what a deployment would make.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use serde_yaml_ng::Value as Yaml;

/// The template, with `!Ref x` as `{"Ref": "x"}` and so on.
pub struct Template(Value);

/// What a reference stands for: a parameter's or resource's name, or `Resource.Attribute`. What it
/// does not know is a parameter's default.
pub type Given<'a> = &'a dyn Fn(&str) -> Option<Value>;

impl Template {
    /// Reads the file.
    ///
    /// # Errors
    /// Where there is none, or it is no YAML.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(json(serde_yaml_ng::from_str(&text)?)?))
    }

    /// The whole of it.
    #[must_use]
    pub fn whole(&self) -> &Value {
        &self.0
    }

    /// A resource's properties; null where there is no such resource.
    #[must_use]
    pub fn properties(&self, resource: &str) -> &Value {
        &self.0["Resources"][resource]["Properties"]
    }

    /// The names of the resources of a type, in order.
    #[must_use]
    pub fn of_type(&self, kind: &str) -> Vec<&str> {
        let all = self.0["Resources"].as_object().into_iter().flatten();
        all.filter(|(_, resource)| resource["Type"] == kind)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The functions' names, and their properties with the globals in them.
    #[must_use]
    pub fn functions(&self) -> Vec<(&str, Value)> {
        let all = self.of_type("AWS::Serverless::Function").into_iter();
        all.map(|name| (name, merged(&self.0["Globals"]["Function"], self.properties(name))))
            .collect()
    }

    /// A function's environment. What is `AWS::NoValue` is not in it.
    ///
    /// # Errors
    /// As `resolve`.
    pub fn environment(&self, function: &Value, given: Given<'_>) -> Result<Vec<(String, String)>> {
        let mut environment = Vec::new();
        for (name, value) in function["Environment"]["Variables"].as_object().into_iter().flatten()
        {
            match self.resolve(value, given).with_context(|| name.clone())? {
                Value::Null => {}
                Value::String(text) => environment.push((name.clone(), text)),
                other => environment.push((name.clone(), other.to_string())),
            }
        }
        Ok(environment)
    }

    /// A value with its functions done; `AWS::NoValue` is null.
    ///
    /// # Errors
    /// Where a reference stands for nothing, or a function is none that is understood here.
    pub fn resolve(&self, value: &Value, given: Given<'_>) -> Result<Value> {
        match value {
            Value::Array(items) => items.iter().map(|item| self.resolve(item, given)).collect(),
            Value::Object(object) => match object.iter().next() {
                Some((name, argument)) if is_call(object) => self.call(name, argument, given),
                _ => {
                    let resolved = object
                        .iter()
                        .map(|(name, value)| Ok((name.clone(), self.resolve(value, given)?)));
                    Ok(Value::Object(resolved.collect::<Result<_>>()?))
                }
            },
            plain => Ok(plain.clone()),
        }
    }

    fn call(&self, name: &str, argument: &Value, given: Given<'_>) -> Result<Value> {
        match (name, argument) {
            ("Ref" | "Fn::GetAtt", Value::String(name)) => self.named(name, given),
            ("Fn::Sub", Value::String(text)) => {
                let mut filled = String::new();
                let mut rest = text.as_str();
                while let Some((before, after)) = rest.split_once("${") {
                    let (name, end) = after.split_once('}').context("a ${ without }")?;
                    filled = filled + before + &plain(&self.named(name, given)?);
                    rest = end;
                }
                Ok(json!(filled + rest))
            }
            ("Fn::Join", Value::Array(arguments)) => {
                let [separator, items] = arguments.as_slice() else { bail!("Join of {argument}") };
                let items = self.resolve(items, given)?;
                let texts: Vec<String> =
                    items.as_array().context("Join of no list")?.iter().map(plain).collect();
                Ok(json!(texts.join(separator.as_str().unwrap_or_default())))
            }
            ("Fn::If", Value::Array(arguments)) => {
                let [condition, then, otherwise] = arguments.as_slice() else {
                    bail!("If of {argument}")
                };
                let condition = &self.0["Conditions"][condition.as_str().unwrap_or_default()];
                self.resolve(if self.holds(condition, given)? { then } else { otherwise }, given)
            }
            ("Fn::FindInMap", Value::Array(keys)) => {
                let mut found = &self.0["Mappings"];
                for key in keys {
                    found = &found[plain(&self.resolve(key, given)?)];
                }
                if found.is_null() {
                    bail!("nothing at {argument}");
                }
                Ok(found.clone())
            }
            _ => bail!("{name} is not understood: {argument}"),
        }
    }

    fn holds(&self, condition: &Value, given: Given<'_>) -> Result<bool> {
        if let Some(inner) = condition["Fn::Not"].get(0) {
            return Ok(!self.holds(inner, given)?);
        }
        let Some([left, right]) = condition["Fn::Equals"].as_array().map(Vec::as_slice) else {
            bail!("condition {condition} is not understood")
        };
        Ok(plain(&self.resolve(left, given)?) == plain(&self.resolve(right, given)?))
    }

    fn named(&self, name: &str, given: Given<'_>) -> Result<Value> {
        if name == "AWS::NoValue" {
            return Ok(Value::Null);
        }
        let default = || self.0["Parameters"][name].get("Default").cloned();
        given(name).or_else(default).with_context(|| format!("{name} stands for nothing"))
    }
}

/// Whether it is a function to call, and not a map.
fn is_call(object: &Map<String, Value>) -> bool {
    object.len() == 1 && object.keys().all(|name| name == "Ref" || name.starts_with("Fn::"))
}

/// As CloudFormation passes it on.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As SAM merges globals: maps by member, and what the function says itself wins; a reference is no
/// map.
fn merged(global: &Value, own: &Value) -> Value {
    let (Value::Object(global), Value::Object(own)) = (global, own) else { return own.clone() };
    if [global, own].iter().any(|object| is_call(object)) {
        return Value::Object(own.clone());
    }
    let mut all = global.clone();
    for (name, value) in own {
        let value = global.get(name).map_or_else(|| value.clone(), |global| merged(global, value));
        all.insert(name.clone(), value);
    }
    Value::Object(all)
}

fn json(yaml: Yaml) -> Result<Value> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => json!(value),
        Yaml::Number(number) => match number.as_i64() {
            Some(number) => json!(number),
            None => bail!("{number} is no whole number"),
        },
        Yaml::String(text) => json!(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(json).collect::<Result<_>>()?),
        Yaml::Mapping(members) => {
            let members =
                members.into_iter().map(|(name, value)| Ok((plain(&json(name)?), json(value)?)));
            Value::Object(members.collect::<Result<Map<_, _>>>()?)
        }
        Yaml::Tagged(tagged) => {
            let name = tagged.tag.to_string();
            let name = name.trim_start_matches('!');
            let name = if name == "Ref" { name.to_owned() } else { format!("Fn::{name}") };
            json!({ name: json(tagged.value)? })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_cloudformation_makes_of_it() {
        let text = "
Parameters: {Stage: {Type: String}, Size: {Default: small}, Proxy: {Default: ''}}
Mappings: {Sizes: {small: {Billing: 20}}}
Conditions: {HasProxy: !Not [!Equals [!Ref Proxy, '']]}
Globals: {Function: {Timeout: 29, Environment: {Variables: {
  STAGE: !Ref Stage, HOST: !If [HasProxy, !Ref Proxy, direct], OWN: !Sub '${Size}'}}}}
Resources:
  Billing:
    Type: AWS::Serverless::Function
    Properties:
      ReservedConcurrentExecutions: !FindInMap [Sizes, !Ref Size, Billing]
      Environment: {Variables: {NAME: !Sub 'pulse-${Stage}/x', QUEUE: !GetAtt Queue.Arn,
        ALL: !Join [',', [a, !Ref Stage]], NONE: !If [HasProxy, x, !Ref AWS::NoValue],
        OWN: !Ref Stage}}
";
        let template =
            Template(json(serde_yaml_ng::from_str(text).expect("YAML")).expect("a template"));
        let given = |name: &str| match name {
            "Stage" => Some(json!("dev")),
            "Queue.Arn" => Some(json!("arn")),
            _ => None,
        };
        let (name, billing) = template.functions().remove(0);
        assert_eq!((name, &billing["Timeout"]), ("Billing", &json!(29)));
        assert_eq!(
            template.resolve(&billing["ReservedConcurrentExecutions"], &given).expect("a number"),
            json!(20)
        );
        let environment = template.environment(&billing, &given).expect("an environment");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            environment,
            ["ALL=a,dev", "HOST=direct", "NAME=pulse-dev/x", "OWN=dev", "QUEUE=arn", "STAGE=dev"]
        );
        assert!(template.resolve(&json!({"Ref": "Nothing"}), &given).is_err());
    }
}
