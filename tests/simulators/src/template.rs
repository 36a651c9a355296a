//! Reads template.yaml as CloudFormation and SAM do: short forms, globals, conditions and
//! references. The caller supplies values for what a deployment would create.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use serde_yaml_ng::Value as Yaml;

/// The template as JSON, with short forms expanded: `!Ref x` is `{"Ref": "x"}`.
pub struct Template(Value);

/// Returns the value of a reference, which is the name of a parameter or resource, or
/// `Resource.Attribute`. For `None`, the parameter's default applies.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Value>;

impl Template {
    /// Reads the template from a file.
    ///
    /// # Errors
    /// When the file cannot be read or is not valid YAML.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(from_yaml(serde_yaml_ng::from_str(&text)?)?))
    }

    /// A template that is JSON already, as SAM transforms one.
    #[must_use]
    pub fn of(template: Value) -> Self {
        Self(template)
    }

    /// Returns the whole template.
    #[must_use]
    pub fn whole(&self) -> &Value {
        &self.0
    }

    /// Returns a resource's properties, or null if the resource does not exist.
    #[must_use]
    pub fn properties(&self, resource: &str) -> &Value {
        &self.0["Resources"][resource]["Properties"]
    }

    /// Returns the names of the resources of a type, in alphabetical order.
    #[must_use]
    pub fn of_type(&self, kind: &str) -> Vec<&str> {
        let all = self.0["Resources"].as_object().into_iter().flatten();
        all.filter(|(_, resource)| resource["Type"] == kind)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Returns each function's name and its properties, with the globals merged in.
    #[must_use]
    pub fn functions(&self) -> Vec<(&str, Value)> {
        let all = self.of_type("AWS::Serverless::Function").into_iter();
        all.map(|name| (name, merge(&self.0["Globals"]["Function"], self.properties(name))))
            .collect()
    }

    /// Returns a function's environment variables, without those that are `AWS::NoValue`.
    ///
    /// # Errors
    /// The same as [`Template::resolve`].
    pub fn environment(
        &self,
        function: &Value,
        lookup: Lookup<'_>,
    ) -> Result<Vec<(String, String)>> {
        let mut environment = Vec::new();
        for (name, value) in function["Environment"]["Variables"].as_object().into_iter().flatten()
        {
            match self.resolve(value, lookup).with_context(|| name.clone())? {
                Value::Null => {}
                Value::String(text) => environment.push((name.clone(), text)),
                other => environment.push((name.clone(), other.to_string())),
            }
        }
        Ok(environment)
    }

    /// Resolves the intrinsic functions in a value. `AWS::NoValue` becomes null.
    ///
    /// # Errors
    /// When a reference has no value, or an intrinsic function is not supported here.
    pub fn resolve(&self, value: &Value, lookup: Lookup<'_>) -> Result<Value> {
        match value {
            Value::Array(items) => {
                let items = items.iter().map(|item| self.resolve(item, lookup));
                // An item that is AWS::NoValue is not there.
                let items = items.filter(|item| !matches!(item, Ok(Value::Null)));
                Ok(Value::Array(items.collect::<Result<_>>()?))
            }
            Value::Object(object) => match object.iter().next() {
                Some((name, argument)) if is_intrinsic(object) => {
                    self.call_intrinsic(name, argument, lookup)
                }
                _ => {
                    let resolved = object
                        .iter()
                        .map(|(name, value)| Ok((name.clone(), self.resolve(value, lookup)?)));
                    Ok(Value::Object(resolved.collect::<Result<_>>()?))
                }
            },
            plain => Ok(plain.clone()),
        }
    }

    fn call_intrinsic(&self, name: &str, argument: &Value, lookup: Lookup<'_>) -> Result<Value> {
        match (name, argument) {
            ("Ref" | "Fn::GetAtt", Value::String(name)) => self.resolve_reference(name, lookup),
            ("Fn::GetAtt", Value::Array(path)) => {
                let path: Vec<_> = path.iter().map(to_text).collect();
                self.resolve_reference(&path.join("."), lookup)
            }
            ("Fn::Sub", Value::String(text)) => {
                let mut filled = String::new();
                let mut rest = text.as_str();
                while let Some((before, after)) = rest.split_once("${") {
                    let (name, end) = after.split_once('}').context("a ${ without }")?;
                    filled = filled + before + &to_text(&self.resolve_reference(name, lookup)?);
                    rest = end;
                }
                Ok(json!(filled + rest))
            }
            ("Fn::Join", Value::Array(arguments)) => {
                let [separator, items] = arguments.as_slice() else { bail!("Join of {argument}") };
                let items = self.resolve(items, lookup)?;
                let texts: Vec<String> =
                    items.as_array().context("Join of no list")?.iter().map(to_text).collect();
                Ok(json!(texts.join(separator.as_str().unwrap_or_default())))
            }
            ("Fn::If", Value::Array(arguments)) => {
                let [condition, then, otherwise] = arguments.as_slice() else {
                    bail!("If of {argument}")
                };
                let condition = &self.0["Conditions"][condition.as_str().unwrap_or_default()];
                self.resolve(
                    if self.evaluate_condition(condition, lookup)? { then } else { otherwise },
                    lookup,
                )
            }
            ("Fn::FindInMap", Value::Array(keys)) => {
                let mut found = &self.0["Mappings"];
                for key in keys {
                    found = &found[to_text(&self.resolve(key, lookup)?)];
                }
                if found.is_null() {
                    bail!("nothing at {argument}");
                }
                Ok(found.clone())
            }
            _ => bail!("{name} is not understood: {argument}"),
        }
    }

    fn evaluate_condition(&self, condition: &Value, lookup: Lookup<'_>) -> Result<bool> {
        if let Some(inner) = condition["Fn::Not"].get(0) {
            return Ok(!self.evaluate_condition(inner, lookup)?);
        }
        let Some([left, right]) = condition["Fn::Equals"].as_array().map(Vec::as_slice) else {
            bail!("condition {condition} is not understood")
        };
        Ok(to_text(&self.resolve(left, lookup)?) == to_text(&self.resolve(right, lookup)?))
    }

    fn resolve_reference(&self, name: &str, lookup: Lookup<'_>) -> Result<Value> {
        if name == "AWS::NoValue" {
            return Ok(Value::Null);
        }
        let default = || self.0["Parameters"][name].get("Default").cloned();
        lookup(name).or_else(default).with_context(|| format!("{name} has no value"))
    }
}

/// Returns whether the object is a call of an intrinsic function rather than a map.
fn is_intrinsic(object: &Map<String, Value>) -> bool {
    object.len() == 1 && object.keys().all(|name| name == "Ref" || name.starts_with("Fn::"))
}

/// Returns a value as text, as CloudFormation interpolates it.
fn to_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Merges globals into a function's properties as SAM does: maps are merged by member, and the
/// function's own value wins. A reference does not count as a map.
fn merge(global: &Value, own: &Value) -> Value {
    let (Value::Object(global), Value::Object(own)) = (global, own) else { return own.clone() };
    if [global, own].iter().any(|object| is_intrinsic(object)) {
        return Value::Object(own.clone());
    }
    let mut all = global.clone();
    for (name, value) in own {
        let value = global.get(name).map_or_else(|| value.clone(), |global| merge(global, value));
        all.insert(name.clone(), value);
    }
    Value::Object(all)
}

fn from_yaml(yaml: Yaml) -> Result<Value> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => json!(value),
        Yaml::Number(number) => match number.as_i64() {
            Some(number) => json!(number),
            None => bail!("{number} is no whole number"),
        },
        Yaml::String(text) => json!(text),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(from_yaml).collect::<Result<_>>()?)
        }
        Yaml::Mapping(members) => {
            let members = members
                .into_iter()
                .map(|(name, value)| Ok((to_text(&from_yaml(name)?), from_yaml(value)?)));
            Value::Object(members.collect::<Result<Map<_, _>>>()?)
        }
        Yaml::Tagged(tagged) => {
            let name = tagged.tag.to_string();
            let name = name.trim_start_matches('!');
            let name = if name == "Ref" { name.to_owned() } else { format!("Fn::{name}") };
            json!({ name: from_yaml(tagged.value)? })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_resolve_as_in_cloudformation() {
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
            Template(from_yaml(serde_yaml_ng::from_str(text).expect("YAML")).expect("a template"));
        let lookup = |name: &str| match name {
            "Stage" => Some(json!("dev")),
            "Queue.Arn" => Some(json!("arn")),
            _ => None,
        };
        let (name, billing) = template.functions().remove(0);
        assert_eq!((name, &billing["Timeout"]), ("Billing", &json!(29)));
        assert_eq!(
            template.resolve(&billing["ReservedConcurrentExecutions"], &lookup).expect("a number"),
            json!(20)
        );
        let environment = template.environment(&billing, &lookup).expect("an environment");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            environment,
            ["ALL=a,dev", "HOST=direct", "NAME=pulse-dev/x", "OWN=dev", "QUEUE=arn", "STAGE=dev"]
        );
        assert!(template.resolve(&json!({"Ref": "Nothing"}), &lookup).is_err());
    }
}
