//! Business time is moved on a local stack, and nowhere else (docs/adr/0018-business-time.md).

use std::fs;

use shared::process::config::{Env, is_rehearsal};

use super::template::{functions, template};

#[test]
fn no_stage_of_a_deployment_may_have_a_time_of_its_own_and_no_function_is_given_one() {
    let template = template();
    let stages = template.whole()["Parameters"]["Stage"]["AllowedValues"].clone();
    let stages = stages.as_array().expect("stages");
    assert!(!stages.is_empty());
    for stage in stages.iter().map(tests::text) {
        let env = Env::of([("STAGE".to_owned(), stage.clone())].into());
        assert!(!is_rehearsal(&env).expect("a stage"), "{stage}");
    }
    let given = fs::read_to_string(tests::repository("template.yaml")).expect("template.yaml");
    assert!(!given.contains("BUSINESS_TIME"), "template.yaml");
    for (name, (_, function)) in functions(&template) {
        let stage = &function["Environment"]["Variables"]["STAGE"];
        assert_eq!(*stage, serde_json::json!({"Ref": "Stage"}), "{name}");
    }
}

/// The door is compiled with debug assertions only. `cargo xtask package --check` starts each
/// package with a file that no function could start with, if it looked at it.
#[test]
fn what_is_packaged_is_built_without_the_door() {
    let cargo = fs::read_to_string(tests::repository("Cargo.toml")).expect("Cargo.toml");
    let release = cargo.split("[profile.release]").nth(1).expect("a release profile");
    let release = release.split("\n[").next().unwrap_or_default();
    assert!(!release.contains("debug-assertions") && !release.contains("inherits"), "{release}");
    let package = tests::repository("xtask/src/package/mod.rs");
    let package = fs::read_to_string(package).expect("how it is packaged");
    assert!(package.contains(r#""lambda", "build", "--release""#), "a build of another profile");
    let door = tests::repository("shared/src/process/business_time.rs");
    let door = fs::read_to_string(door).expect("the door");
    let (before, after) = door.split_once(r#"env.optional("BUSINESS_TIME_FILE")"#).expect("once");
    let guard = before.lines().rev().nth(1).unwrap_or_default();
    assert_eq!(guard.trim(), "#[cfg(debug_assertions)]", "the door stands open");
    assert!(!after.contains(r#"optional("BUSINESS_TIME"#), "a second door");
}
