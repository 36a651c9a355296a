//! The form of an id, written once: the API's pattern and the check both come from it.

use std::fmt;

/// Parts that follow each other.
pub(super) struct Rule(pub &'static [Part]);

/// A part of an id. Each part takes as many characters as it can. So one of variable length is the
/// last.
pub(super) enum Part {
    /// This text.
    Text(&'static str),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// From so many to so many characters of a class. A class is what is in the brackets of a
    /// regular expression: characters and ranges; a dash at its end is itself.
    Chars(&'static str, usize, usize),
    /// These parts, so many times.
    Times(usize, &'static [Part]),
    /// Up to so many characters of the second class, the first and the last of the first class.
    Slug(&'static str, &'static str, usize),
}

impl Rule {
    /// Whether the whole text has this form.
    pub(super) fn accepts(&self, text: &str) -> bool {
        take(self.0, text.as_bytes()).is_some_and(<[u8]>::is_empty)
    }
}

/// As a regular expression (ECMA-262, as JSON Schema has it).
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("^")?;
        write(self.0, f)?;
        f.write_str("$")
    }
}

fn write(parts: &[Part], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    parts.iter().try_for_each(|part| match part {
        Part::Text(text) => f.write_str(text),
        Part::OneOf(texts) => write!(f, "({})", texts.join("|")),
        Part::Chars(class, 1, 1) => write!(f, "[{class}]"),
        Part::Chars(class, min, max) if min == max => write!(f, "[{class}]{{{min}}}"),
        Part::Chars(class, min, max) => write!(f, "[{class}]{{{min},{max}}}"),
        Part::Times(times, parts) => {
            f.write_str("(")?;
            write(parts, f)?;
            write!(f, "){{{times}}}")
        }
        Part::Slug(edge, inner, max) => {
            write!(f, "[{edge}]([{inner}]{{0,{}}}[{edge}])?", max - 2)
        }
    })
}

/// What is left of the text after these parts; nothing where it does not begin with them.
fn take<'t>(parts: &[Part], text: &'t [u8]) -> Option<&'t [u8]> {
    parts.iter().try_fold(text, |text, part| match part {
        Part::Text(start) => text.strip_prefix(start.as_bytes()),
        Part::OneOf(starts) => starts.iter().find_map(|start| text.strip_prefix(start.as_bytes())),
        Part::Chars(class, min, max) => {
            let (taken, rest) = text.split_at(count(class, *max, text));
            (taken.len() >= *min).then_some(rest)
        }
        Part::Times(times, parts) => (0..*times).try_fold(text, |text, _| take(parts, text)),
        Part::Slug(edge, inner, max) => {
            let (taken, rest) = text.split_at(count(inner, *max, text));
            let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| has(edge, *byte));
            (is_edge(taken.first()) && is_edge(taken.last())).then_some(rest)
        }
    })
}

/// How many characters of the class the text begins with, at most `max`.
fn count(class: &str, max: usize, text: &[u8]) -> usize {
    text.iter().take(max).take_while(|byte| has(class, **byte)).count()
}

fn has(class: &str, byte: u8) -> bool {
    let mut class = class.as_bytes();
    loop {
        class = match class {
            [first, b'-', last, ..] if (*first..=*last).contains(&byte) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [one, ..] if *one == byte => return true,
            [_, rest @ ..] => rest,
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::string::string_regex;
    use regex::Regex;

    use super::super::RULES;

    /// A rule, and a text that has its form or misses it by little.
    fn near() -> impl Strategy<Value = (usize, String)> {
        (0..RULES.len()).prop_flat_map(|rule| {
            let pattern = RULES[rule].to_string();
            let formed = string_regex(pattern.trim_matches(['^', '$'])).expect("a pattern");
            (Just(rule), formed, any::<Index>(), 0..6, any::<char>()).prop_map(
                |(rule, mut text, at, edit, other)| {
                    let at = text.char_indices().nth(at.index(text.chars().count()));
                    let at = at.map_or(0, |(at, _)| at);
                    match edit {
                        0 => text.insert(at, other),
                        1 => drop(text.remove(at)),
                        2 => text.insert(at, '-'),
                        3 => text.push_str(&text.clone()),
                        4 => text.push('\n'),
                        _ => {}
                    }
                    (rule, text)
                },
            )
        })
    }

    proptest! {
        #[test]
        fn a_pattern_and_its_check_agree((rule, text) in near()) {
            let rule = &RULES[rule];
            let pattern = Regex::new(&rule.to_string()).expect("a pattern");
            prop_assert_eq!(rule.accepts(&text), pattern.is_match(&text), "{}", rule);
        }
    }
}
