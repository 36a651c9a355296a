//! Alarms, the dashboard and the access log against what the code writes and what there is.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use simulators::template::Template;

use super::template::{functions, sources_below, template};
use tests::text;

/// All sources of the functions and of the library, without blanks, however a line is broken.
fn sources() -> String {
    let mut sources = sources_below("functions") + &sources_below("shared/src");
    sources.retain(|c| !c.is_whitespace());
    sources
}

#[test]
fn every_alarm_is_heard_and_explained_and_is_on_a_metric_that_is_counted() {
    let sources = sources();
    let page = fs::read_to_string(tests::repository("docs/deploy.md")).expect("docs/deploy.md");
    for (name, least) in [("template.yaml", 18), ("foundation.yaml", 5)] {
        let template = Template::read(&tests::repository(name)).expect(name);
        let alarms = template.of_type("AWS::CloudWatch::Alarm");
        assert!(alarms.len() >= least, "{name}: {}", alarms.len());
        for alarm in alarms {
            let said = template.properties(alarm);
            assert_eq!(said["AlarmActions"], json!([{"Ref": "AlarmTopic"}]), "{alarm}");
            if said["Namespace"] == "PulseBilling" {
                assert!(
                    sources.contains(&format!("(\"{}\",Unit::", text(&said["MetricName"]))),
                    "nothing counts the metric of {alarm}"
                );
            }
            let short = text(&said["AlarmName"]["Fn::Sub"]).replace("pulse-${Stage}-", "");
            let explained = page
                .lines()
                .filter(|line| line.starts_with('|'))
                .filter_map(|line| line.split('|').nth(1))
                .any(|names| names.split(',').any(|name| name.trim() == short));
            assert!(explained, "docs/deploy.md does not say what to do at {short}");
        }
    }
}

/// By name and not by reference, so that the names must be held against the alarms.
#[test]
fn a_deployment_is_taken_back_by_alarms_that_there_are_and_that_no_stranger_can_set_off() {
    let template = template();
    let alarms = &template.whole()["Globals"]["Function"]["DeploymentPreference"]["Alarms"];
    assert_eq!(alarms["Fn::If"][0], "RollsBack", "there is a switch for it");
    assert_eq!(alarms["Fn::If"][2], json!([{"Ref": "AWS::NoValue"}]));
    let named: BTreeSet<_> = alarms["Fn::If"][1]
        .as_array()
        .expect("names")
        .iter()
        .map(|name| text(&name["Fn::Sub"]))
        .collect();
    let (mut metrics, mut found) = (BTreeSet::new(), BTreeSet::new());
    for alarm in template.of_type("AWS::CloudWatch::Alarm") {
        let said = template.properties(alarm);
        let name = text(&said["AlarmName"]["Fn::Sub"]);
        if named.contains(&name) {
            found.insert(name);
            metrics.extend(said["MetricName"].as_str().map(str::to_owned));
            for metric in said["Metrics"].as_array().into_iter().flatten() {
                let metric = &metric["MetricStat"]["Metric"]["MetricName"];
                metrics.extend(metric.as_str().map(str::to_owned));
            }
        }
    }
    assert_eq!(found, named);
    // Throttles and the 5xx of API Gateway rise with the number of requests, from anybody.
    assert_eq!(metrics, ["Errors", "Faults"].map(str::to_owned).into());
}

#[test]
fn a_route_for_everyone_leaves_operators_their_instances() {
    let template = template();
    let throttled = &template.properties("HttpApi")["RouteSettings"];
    let operations = functions(&template)["operations"].1.clone();
    for (event, said) in operations["Events"].as_object().expect("events") {
        let said = &said["Properties"];
        if said["Auth"]["Authorizer"] == "NONE" {
            let route = format!("{} {}", text(&said["Method"]), text(&said["Path"]));
            let rate = throttled[&route]["ThrottlingRateLimit"].as_u64();
            assert!(rate.is_some_and(|rate| rate <= 5), "{event}: {route}");
        }
    }
}

/// As API Gateway fills it in: text without quotes, and `error.messageString` with them.
#[test]
fn a_line_of_the_access_log_is_json_also_when_it_has_an_error() {
    let template = template();
    let format = text(&template.properties("HttpApi")["AccessLogSettings"]["Format"]);
    let variable = regex::Regex::new(r"\$context\.([A-Za-z.]+)").expect("a pattern");
    let line = variable.replace_all(&format, |found: &regex::Captures<'_>| match &found[1] {
        name if name.ends_with("String") => "\"Unauthorized\"".to_owned(),
        name => name.to_owned(),
    });
    let line: Value = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"));
    for (field, variable) in [
        ("error", "error.message"),
        ("authorizer.error", "authorizer.error"),
        ("integration.error", "integrationErrorMessage"),
        ("integration.duration_ms", "integrationLatency"),
        ("duration_ms", "responseLatency"),
    ] {
        assert_eq!(line[field], variable);
    }
}

#[test]
fn every_widget_shows_metrics_that_there_are() {
    let template = template();
    let body = text(&template.properties("Dashboard")["DashboardBody"]["Fn::Sub"]);
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let sources = sources();
    let functions: BTreeSet<_> =
        functions(&template).into_keys().map(|name| format!("pulse-${{Stage}}-{name}")).collect();
    let mut of_functions = BTreeSet::new();
    for widget in body["widgets"].as_array().expect("widgets") {
        let properties = &widget["properties"];
        let title = text(&properties["title"]);
        let mut shown = BTreeSet::new();
        for metric in properties["metrics"].as_array().expect("metrics") {
            assert!(metric[0].is_string(), "{title}: a quoted term of a search is exact: {metric}");
            let (space, name) = (text(&metric[0]), text(&metric[1]));
            match space.as_str() {
                "PulseBilling" => {
                    assert!(sources.contains(&format!("(\"{name}\",Unit::")), "{title}: {name}");
                }
                "AWS/Lambda" => {
                    of_functions.insert(name);
                    shown.insert(text(&metric[3]));
                }
                _ => assert!(space.starts_with("AWS/"), "{title}: {space}"),
            }
        }
        assert!(shown.is_empty() || shown == functions, "{title} shows {shown:?}");
    }
    assert_eq!(of_functions.len(), 3, "{of_functions:?}");
}
