//! Which resource needs which. CloudFormation makes nothing of a template whose resources need each
//! other in a circle, and counts the references in update policies too (aws-cdk, issue 13922).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

/// What of a resource CloudFormation follows; its condition names no resource.
const FOLLOWED: [&str; 5] =
    ["Properties", "UpdatePolicy", "CreationPolicy", "Metadata", "DependsOn"];

/// The references to nothing, and the circles.
pub(super) fn check(template: &Value) -> Vec<String> {
    let names = |section: &str| template[section].as_object().into_iter().flatten();
    let resources: BTreeMap<&str, BTreeSet<String>> =
        names("Resources").map(|(name, resource)| (name.as_str(), needs(resource))).collect();
    let parameters: BTreeSet<&str> = names("Parameters").map(|(name, _)| name.as_str()).collect();
    let mut outputs = BTreeSet::new();
    references(&template["Outputs"], &mut outputs);
    let mut found = Vec::new();
    let outputs = outputs.iter().map(|needed| ("Outputs", needed));
    let all = resources.iter().flat_map(|(name, needs)| needs.iter().map(|need| (*name, need)));
    for (name, needed) in all.chain(outputs) {
        let known = resources.contains_key(needed.as_str())
            || parameters.contains(needed.as_str())
            || needed.starts_with("AWS::");
        if !known {
            found.push(format!("{name} refers to {needed}, which there is not"));
        }
    }
    let circle = circle(&resources);
    if !circle.is_empty() {
        found.push(format!("{} resources need each other: {}", circle.len(), circle.join(", ")));
    }
    found
}

/// The resources of the circles: what is left when everything is made that needs nothing unmade,
/// and then taken away what nothing left needs.
fn circle<'a>(resources: &BTreeMap<&'a str, BTreeSet<String>>) -> Vec<&'a str> {
    let mut left: BTreeSet<&str> = resources.keys().copied().collect();
    loop {
        let waits = |name: &str| resources[name].iter().any(|need| left.contains(need.as_str()));
        let needed: BTreeSet<&str> =
            left.iter().flat_map(|name| &resources[name]).map(String::as_str).collect();
        let next: BTreeSet<&str> =
            left.iter().copied().filter(|name| waits(name) && needed.contains(name)).collect();
        if next.len() == left.len() {
            return next.into_iter().collect();
        }
        left = next;
    }
}

fn needs(resource: &Value) -> BTreeSet<String> {
    let mut needs = BTreeSet::new();
    for part in FOLLOWED {
        match (part, &resource[part]) {
            ("DependsOn", Value::String(name)) => drop(needs.insert(name.clone())),
            ("DependsOn", Value::Array(all)) => {
                needs.extend(all.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            (_, value) => references(value, &mut needs),
        }
    }
    needs
}

/// The names in Ref, `GetAtt` and Sub, wherever they are.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            for (name, inner) in members {
                match (name.as_str(), inner) {
                    ("Ref", Value::String(name)) => drop(found.insert(name.clone())),
                    ("Fn::GetAtt", Value::String(path)) => {
                        found.extend(path.split('.').next().map(str::to_owned));
                    }
                    ("Fn::GetAtt", Value::Array(path)) => {
                        found.extend(path[0].as_str().map(str::to_owned));
                    }
                    ("Fn::Sub", Value::String(text)) => found.extend(placeholders(text)),
                    ("Fn::Sub", Value::Array(parts)) => {
                        let own = parts[1].as_object();
                        let text = parts[0].as_str().unwrap_or_default();
                        found.extend(
                            placeholders(text)
                                .filter(|name| own.is_none_or(|own| !own.contains_key(name))),
                        );
                        references(&parts[1], found);
                    }
                    _ => references(inner, found),
                }
            }
        }
        _ => {}
    }
}

/// The names in `${Name}` and `${Name.Attribute}`; `${!Name}` is none.
fn placeholders(text: &str) -> impl Iterator<Item = String> {
    text.split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .filter(|(name, _)| !name.starts_with('!'))
        .filter_map(|(name, _)| name.split('.').next().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_circle_through_an_update_policy_is_found_with_its_members_only() {
        let template = json!({"Resources": {
            "Api": {"Properties": {"Body": {"Fn::Sub": "uri/${Alias}/${!kept}/${AWS::Region}"}}},
            "Alias": {"UpdatePolicy": {"Group": {"Ref": "Group"}}, "DependsOn": "Function"},
            "Group": {"Properties": {"Alarms": [{"Ref": "Alarm"}]}},
            "Alarm": {"Properties": {"Id": {"Fn::GetAtt": ["Api", "Id"]}}},
            "Function": {},
            "Board": {"Properties": {"Api": {"Ref": "Api"}}},
        }});
        assert_eq!(check(&template), ["4 resources need each other: Alarm, Alias, Api, Group"]);
    }

    #[test]
    fn a_reference_to_nothing_is_found_in_properties_and_outputs() {
        let template = json!({"Parameters": {"Stage": {}}, "Resources": {
            "Queue": {"Properties": {"Name": {"Fn::Sub": ["${Stage}-${own}-${Gone.Arn}",
                {"own": {"Ref": "Lost"}}]}}}},
            "Outputs": {"Url": {"Value": {"Fn::GetAtt": "Missing.Url"}}}});
        assert_eq!(
            check(&template),
            [
                "Queue refers to Gone, which there is not",
                "Queue refers to Lost, which there is not",
                "Outputs refers to Missing, which there is not",
            ]
        );
    }
}
