//! What each mail says, once for text and HTML.
//!
//! The sentences of a notice are in `templates/notices`: a subject, then paragraphs, which may
//! break across lines.

use askama::Template;
use jiff::Timestamp;

use super::model::{Addon, Digest, DigestPart, MailKind, Notice, Subject};
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::{Error, Result};

/// The content of a mail. Its parts are plain text; the templates escape them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The subject, on one line.
    pub subject: String,
    paragraphs: Vec<String>,
    sections: Vec<Section>,
    footer: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    heading: String,
    lines: Vec<String>,
}

#[derive(Template)]
#[template(path = "letter.txt")]
struct PlainText<'a> {
    letter: &'a Content,
}

#[derive(Template)]
#[template(path = "letter.html")]
struct Html<'a> {
    letter: &'a Content,
}

impl Content {
    /// As plain text, and as HTML.
    ///
    /// # Errors
    /// `Internal`.
    pub fn render(&self) -> Result<(String, String)> {
        Ok((
            PlainText { letter: self }.render().map_err(|error| failed(&error))?,
            Html { letter: self }.render().map_err(|error| failed(&error))?,
        ))
    }
}

fn failed(error: &askama::Error) -> Error {
    Error::Internal(format!("mail template: {error}"))
}

/// What a notice says: a template for each kind, of which `MailKind`'s renewals are three, by what
/// happens when the term ends.
#[derive(Template)]
enum Text {
    /// Stripe renews it.
    #[template(path = "notices/renews.txt")]
    Renews { what: String, trial: bool, day: String, at: String },
    /// It was cancelled at Stripe, which ends it then.
    #[template(path = "notices/cancelled.txt")]
    Cancelled { what: String, trial: bool, day: String, at: String },
    /// Only an operator can renew it.
    #[template(path = "notices/ends.txt")]
    Ends { what: String, trial: bool, day: String, at: String },
    #[template(path = "notices/grace.txt")]
    Grace { what: String, at_stripe: bool, ended: String, day: String, until: String },
    #[template(path = "notices/suspended.txt")]
    Suspended { what: String, at_stripe: bool },
    #[template(path = "notices/expired.txt")]
    Expired { what: String, trial: bool, ended: String },
}

impl Text {
    fn of(notice: &Notice, root: &Subscription, what: String, trial: bool) -> Self {
        let at_stripe = root.is_stripe_managed();
        let ended = instant(root.term_end);
        match notice.mail {
            MailKind::Grace => Self::Grace {
                what,
                at_stripe,
                ended,
                day: day(notice.at),
                until: instant(notice.at),
            },
            MailKind::Suspended => Self::Suspended { what, at_stripe },
            MailKind::Expired => Self::Expired { what, trial, ended },
            _ => Self::before_the_end(root, what, trial),
        }
    }

    fn before_the_end(root: &Subscription, what: String, trial: bool) -> Self {
        let (day_of, at) = (day(root.term_end), instant(root.term_end));
        match root.stripe.as_ref().and_then(|stripe| stripe.cancel_at) {
            _ if !root.is_stripe_managed() => Self::Ends { what, trial, day: day_of, at },
            Some(end) if end <= root.term_end => {
                Self::Cancelled { what, trial, day: day(end), at: instant(end) }
            }
            _ => Self::Renews { what, trial, day: day_of, at },
        }
    }

    /// The subject and the paragraphs.
    fn parts(&self) -> Result<(String, Vec<String>)> {
        let text = self.render().map_err(|error| failed(&error))?;
        let mut blocks = text.split("\n\n").map(one_line).filter(|block| !block.is_empty());
        let subject = blocks
            .next()
            .and_then(|first| first.strip_prefix("Subject: ").map(str::to_owned))
            .ok_or_else(|| Error::Internal("mail template: no subject".to_owned()))?;
        Ok((subject, blocks.collect()))
    }
}

/// A customer's mail.
///
/// # Errors
/// `Internal`.
pub fn notice(notice: &Notice, about: &Subject) -> Result<Content> {
    let root = &about.root;
    let company = one_line(&about.company);
    let trial = root.subscription_type == SubscriptionType::Trial || root.status == Status::Trial;
    let kind = if trial { "trial" } else { "subscription" };
    let plan = about.plan.as_deref().map(one_line);
    let what = plan.map_or_else(|| kind.to_owned(), |plan| format!("{plan} {kind}"));
    let (subject, said) = Text::of(notice, root, what, trial).parts()?;
    Ok(Content {
        subject: format!("{company}: {subject}"),
        paragraphs: std::iter::once(format!("Hello {company},")).chain(said).collect(),
        sections: family(about),
        footer: footer(&company, root),
    })
}

fn footer(company: &str, root: &Subscription) -> String {
    format!(
        "About subscription {} of {company}. You get this mail because it is the billing or \
         contact address of {company}.",
        root.subscription_id
    )
}

/// What the mail is about, and what ends with it.
fn family(about: &Subject) -> Vec<Section> {
    let root = &about.root;
    let mut own = vec![format!("Subscription {}", root.subscription_id)];
    own.extend(about.plan.as_deref().map(|plan| format!("Plan {}", one_line(plan))));
    own.push(count(root.device_limit, "device"));
    own.push(format!("Term until {}", instant(root.term_end)));
    let mut sections = vec![Section { heading: "What this is about".to_owned(), lines: own }];
    if !about.addons.is_empty() {
        sections.push(Section {
            heading: "Add-ons with it".to_owned(),
            lines: about.addons.iter().map(addon).collect(),
        });
    }
    sections
}

fn addon(addon: &Addon) -> String {
    let slots = addon
        .slots
        .iter()
        .map(|slots| format!("{} {}", one_line(&slots.tier), count(slots.slot_limit, "slot")));
    let mut brings: Vec<String> = slots.collect();
    if brings.is_empty() {
        brings.push(count(addon.device_limit, "more device"));
    }
    format!("{}: {}, until {}", addon.subscription_id, brings.join(", "), instant(addon.term_end))
}

/// The operators' mail: one glance.
#[must_use]
pub fn digest(digest: &Digest, parts: &[(DigestPart, i64, Vec<String>)]) -> Content {
    let open: i64 =
        parts.iter().filter(|(part, ..)| part.needs_an_operator()).map(|(_, total, _)| total).sum();
    let to_do = if open == 0 { "nothing to do".to_owned() } else { format!("{open} to look at") };
    let sections = parts.iter().map(|(part, total, lines)| {
        let total = *total;
        let more = usize::try_from(total).unwrap_or(usize::MAX).saturating_sub(lines.len());
        let mut lines: Vec<String> = lines.iter().map(|line| one_line(line)).collect();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Section {
            heading: format!(
                "{}: {}",
                part.title(),
                if total == 0 { "none".to_owned() } else { total.to_string() }
            ),
            lines,
        }
    });
    let opening = if open == 0 {
        "Nothing to do."
    } else {
        "What waits for a person is listed first; the API's lists have the rest of it."
    };
    Content {
        subject: format!("Pulse Billing digest, {}: {to_do}", day(digest.to)),
        paragraphs: vec![format!(
            "From {} to {}. {opening}",
            instant(digest.from),
            instant(digest.to)
        )],
        sections: sections.collect(),
        footer: "What is new is of this time; what is open or stuck is as of this mail.".to_owned(),
    }
}

fn count(number: i32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `1 January 2027`.
fn day(at: Timestamp) -> String {
    at.strftime("%-d %B %Y").to_string()
}

/// `1 January 2027, 00:00 UTC`.
fn instant(at: Timestamp) -> String {
    at.strftime("%-d %B %Y, %H:%M UTC").to_string()
}

/// A name may hold line breaks; a line of a mail must not.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
