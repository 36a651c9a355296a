//! How the library is laid out (docs/architecture.md, "The tree of `shared/src`"): which room and
//! which noun knows which, where SQL is, who writes a table, and how long a file may be.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

/// The rooms of the library, from the ground up: none imports one above it.
const ROOMS: [&str; 6] = ["base", "process", "outside", "db", "domain", "http"];

/// The nouns of `domain`, from the ground up: none imports one on its own floor or above it.
const NOUNS: [&[&str]; 11] = [
    &["audit", "idempotency", "prices"],
    &["families"],
    &["flags"],
    &["outbox"],
    &["plans"],
    &["tenants"],
    &["mails", "tiers", "usage"],
    &["addons", "allocations", "devices", "entitlements", "users"],
    &["billing", "events", "invariants", "subscriptions"],
    &["erasure", "provisioning", "renewals"],
    &["overview", "search"],
];

/// Where SQL may be: the stores of the nouns, and what makes statements of a list of columns.
const SQL_FILES: [&str; 3] = ["store.rs", "rows.rs", "locks.rs"];

const MAX_LINES: usize = 600;

/// A source file: its path below the root, its lines without comments, and how many there were.
struct Source {
    path: String,
    code: String,
    lines: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
        // One space wherever there was white space: a path or a statement may be broken anywhere.
        let code = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        Self { path: path.to_owned(), code, lines: text.lines().count() }
    }

    /// The room, and the noun where that is `domain`.
    fn place(&self) -> Option<(&str, Option<&str>)> {
        let mut parts = self.path.strip_prefix("shared/src/")?.split('/');
        let room = parts.next()?;
        let noun = parts.next().filter(|_| room == "domain");
        (!room.contains('.')).then_some((room, noun.map(|noun| noun.trim_end_matches(".rs"))))
    }

    /// The paths that it takes from the library, such as `["domain", "events", "model"]`.
    fn imports(&self) -> Vec<Vec<String>> {
        let code = self.code.replace(' ', "");
        let starts = code.match_indices("crate::").map(|(at, found)| at + found.len());
        starts.flat_map(|at| use_tree(&mut code[at..].chars().peekable())).collect()
    }
}

/// Reads `a::{b, c::d}` as its paths.
fn use_tree(text: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<Vec<String>> {
    if text.next_if_eq(&'{').is_some() {
        let mut paths = Vec::new();
        while text.peek().is_some_and(|next| *next != '}') {
            paths.extend(use_tree(text));
            text.next_if_eq(&',');
        }
        text.next();
        return paths;
    }
    let mut name = String::new();
    while let Some(next) = text.next_if(|next| next.is_alphanumeric() || "_*".contains(*next)) {
        name.push(next);
    }
    if name.is_empty() {
        // Not a path: leave the group.
        text.next();
        return Vec::new();
    }
    if text.next_if_eq(&':').is_none() {
        return vec![vec![name]];
    }
    text.next();
    let rest = use_tree(text);
    rest.into_iter().map(|path| [vec![name.clone()], path].concat()).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let root = tests::repository("");
    let read = |path: std::path::PathBuf| {
        let below = path.strip_prefix(&root).expect("below the root").to_string_lossy();
        Source::new(&below, &std::fs::read_to_string(&path).expect("a source"))
    };
    let found: Vec<Source> = tests::sources(folder).into_iter().map(read).collect();
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

fn arrows_up(sources: &[Source]) -> Vec<String> {
    let room_rank = |name: &str| ROOMS.iter().position(|room| *room == name);
    let floor = |name: &str| NOUNS.iter().position(|nouns| nouns.contains(&name));
    let mut found = BTreeSet::new();
    for source in sources {
        let Some((room, noun)) = source.place() else { continue };
        for import in source.imports() {
            let goes_up = match import.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["domain", other, ..] if room == "domain" => {
                    noun.is_some_and(|noun| noun != other && floor(noun) <= floor(other))
                }
                [other, ..] => room_rank(other) > room_rank(room),
                [] => false,
            };
            if goes_up {
                found.insert(format!("{} imports {}", source.path, import.join("::")));
            }
        }
    }
    found.into_iter().collect()
}

fn sql_outside_stores(sources: &[Source]) -> Vec<String> {
    let sql = Regex::new(r#""\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH [a-z_]+ AS) "#)
        .expect("a pattern");
    let is_store = |source: &Source| {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        SQL_FILES.contains(&name) || source.place().is_some_and(|(room, _)| room == "db")
    };
    let outside = sources.iter().filter(|source| !is_store(source) && sql.is_match(&source.code));
    outside.map(|source| source.path.clone()).collect()
}

fn second_writers(sources: &[Source]) -> Vec<String> {
    let pattern = [
        "(?:INSERT INTO|DELETE FROM) ([a-z_]+)",
        "UPDATE ([a-z_]+)(?: (?:AS )?[a-z]+)? SET",
        r#"row! \{ mod [a-z_]+: [a-z_]+: \w+, "([a-z_]+)""#,
    ];
    let pattern = Regex::new(&pattern.join("|")).expect("a pattern");
    let mut writers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        let Some((_, Some(noun))) = source.place() else { continue };
        for written in pattern.captures_iter(&source.code) {
            let table = written.iter().skip(1).flatten().next().expect("a table").as_str();
            writers.entry(table).or_default().insert(noun);
        }
    }
    let several = writers.into_iter().filter(|(_, nouns)| nouns.len() > 1);
    several.map(|(table, nouns)| format!("{table} is written by {nouns:?}")).collect()
}

fn long_files(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|source| source.lines > MAX_LINES);
    long.map(|source| format!("{}: {} lines", source.path, source.lines)).collect()
}

#[test]
fn no_room_and_no_noun_knows_one_above_it() {
    let sources = sources("shared/src");
    for noun in sources.iter().filter_map(|source| source.place()?.1).filter(|noun| *noun != "mod")
    {
        assert!(NOUNS.concat().contains(&noun), "the noun {noun} has no floor");
    }
    assert_eq!(arrows_up(&sources), Vec::<String>::new());
}

#[test]
fn sql_is_in_stores_alone() {
    assert_eq!(sql_outside_stores(&sources("shared/src")), Vec::<String>::new());
}

#[test]
fn a_table_is_written_by_one_noun() {
    assert_eq!(second_writers(&sources("shared/src")), Vec::<String>::new());
}

#[test]
fn no_file_is_longer_than_600_lines() {
    for folder in ["shared", "functions", "tests", "xtask"] {
        assert_eq!(long_files(&sources(folder)), Vec::<String>::new());
    }
}

#[test]
fn these_rules_find_what_breaks_them() {
    let one = |path: &str, text: &str| [Source::new(path, text)];
    let up = one("shared/src/domain/audit/mod.rs", "use crate::{\n Error,\n http::{App, Json}};");
    assert_eq!(arrows_up(&up).len(), 2);
    let noun = one("shared/src/domain/plans/mod.rs", "use crate::domain::{audit, events::model};");
    assert_eq!(arrows_up(&noun), ["shared/src/domain/plans/mod.rs imports domain::events::model"]);
    let sql = "query(tx, \"\n SELECT 1 FROM plans\")";
    assert_eq!(sql_outside_stores(&one("shared/src/domain/plans/operator.rs", sql)).len(), 1);
    assert!(sql_outside_stores(&one("shared/src/domain/plans/store.rs", sql)).is_empty());
    let writers = [
        Source::new("shared/src/domain/plans/store.rs", "\"UPDATE flags f\n SET kind = $1\""),
        Source::new("shared/src/domain/flags/store.rs", "\"INSERT INTO flags (kind)\""),
        Source::new("shared/src/domain/users/store.rs", "\"SELECT FROM flags FOR UPDATE\""),
    ];
    assert_eq!(second_writers(&writers), ["flags is written by {\"flags\", \"plans\"}"]);
    assert_eq!(long_files(&one("shared/src/lib.rs", &"\n".repeat(601))).len(), 1);
}
