//! The words that operators read in rows, against the documentation that explains them.

use std::collections::BTreeSet;

use regex::Regex;
use shared::domain::audit::model::AuditEvent;
use shared::domain::events::kind::endpoint_types;
use shared::domain::flags::model::FlagKind;

/// The sections that docs/operations.md, "Audit", names.
const AUDIT: [(&str, &str); 8] = [
    ("events", "Audit"),
    ("operations", "Audit"),
    ("catalogue", "Audit"),
    ("tenants", "Audit"),
    ("billing", "Organization"),
    ("subscriptions", "Changes"),
    ("mail", "Rules"),
    ("renewals", "Ends"),
];

/// A section of a page, down to the next heading, without its commands.
fn section(page: &str, heading: &str) -> String {
    let path = tests::repository(&format!("docs/{page}.md"));
    let text = std::fs::read_to_string(path).expect("a page");
    let heading = Regex::new(&format!("(?m)^#+ {heading}$")).expect("a pattern");
    let start = heading.find(&text).unwrap_or_else(|| panic!("{page}.md has no {heading}")).end();
    let text = text[start..].split("\n#").next().expect("a section");
    text.split("```").step_by(2).collect()
}

fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn the_documentation_names_every_audit_event_and_no_other() {
    let text: String = AUDIT.iter().map(|(page, heading)| section(page, heading)).collect();
    let known: BTreeSet<_> = AuditEvent::ALL.iter().map(|known| known.as_str()).collect();
    let named = found(r"\b([A-Z]+(?:_[A-Z]+)*)\b", &text);
    let missing: Vec<_> = known.iter().filter(|known| !named.contains(**known)).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    let unknown: Vec<_> =
        named.iter().filter(|name| name.contains('_') && !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "documented, and no audit event: {unknown:?}");
}

#[test]
fn the_documentation_names_every_kind_of_flag_and_no_other() {
    let section = section("events", "Flags");
    // A failed event's kind is its error's code, and any code may come.
    let table: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("| a failed event |"))
        .collect();
    let known: BTreeSet<_> = FlagKind::ALL.iter().map(|known| known.as_str().to_owned()).collect();
    assert_eq!(found(r"`([a-z_]+)`", &table.join("\n")), known);
}

#[test]
fn the_documentation_names_every_type_of_the_endpoint_and_no_other() {
    let named =
        found(r"`([a-z_]+\.[a-z_.]+)`", &section("stripe-setup", r"2\. The webhook endpoint"));
    let known: BTreeSet<_> = endpoint_types().iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(named, known);
}
