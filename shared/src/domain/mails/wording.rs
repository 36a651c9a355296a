//! What each mail says, once, for its text and its HTML.

use askama::Template;
use jiff::Timestamp;

use super::model::{Addon, Digest, DigestPart, MailKind, Notice, Subject};
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::{Error, Result};

/// The content of a mail. Its parts are plain text; the templates escape them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// One line.
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
        let failed = |error: askama::Error| Error::Internal(format!("mail template: {error}"));
        Ok((
            PlainText { letter: self }.render().map_err(failed)?,
            Html { letter: self }.render().map_err(failed)?,
        ))
    }
}

/// How a term ends.
enum Ending {
    /// Stripe renews it.
    Renews,
    /// Stripe was told not to, and ends it then.
    Cancelled(Timestamp),
    /// It is nobody's to renew but an operator's.
    Ends,
}

impl Ending {
    fn of(root: &Subscription) -> Self {
        match root.stripe.as_ref().and_then(|stripe| stripe.cancel_at) {
            _ if !root.is_stripe_managed() => Self::Ends,
            Some(at) if at <= root.term_end => Self::Cancelled(at),
            _ => Self::Renews,
        }
    }
}

/// A customer's mail.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a mail after the other")]
pub fn notice(notice: &Notice, about: &Subject) -> Content {
    let root = &about.root;
    let company = one_line(&about.company);
    let trial = root.subscription_type == SubscriptionType::Trial || root.status == Status::Trial;
    let what = if trial { "trial" } else { "subscription" };
    let what =
        about.plan.as_deref().map_or(what.to_owned(), |plan| format!("{} {what}", one_line(plan)));
    let (day, instant) = (day(root.term_end), instant(root.term_end));
    let (subject, said) = match notice.mail {
        MailKind::Grace => {
            let until = self::instant(notice.at);
            let subject = format!(
                "payment is missing, your {what} will be suspended on {}",
                self::day(notice.at)
            );
            let said =
                if root.is_stripe_managed() {
                    [
                    format!("We have not received the payment for your {what}. Nothing is \
                             switched off yet: you have access until {until}."),
                    "To keep it, please pay the open invoice or update your payment method in the \
                     billing portal before then.".to_owned(),
                ]
                } else {
                    [
                        format!(
                            "The term of your {what} ended on {instant} and has not been renewed. \
                             Nothing is switched off yet: you have access until {until}."
                        ),
                        "To keep it, please contact us before then.".to_owned(),
                    ]
                };
            (subject, said.to_vec())
        }
        MailKind::Suspended => (
            format!("your {what} is suspended"),
            vec![
                format!(
                    "Your {what} is suspended, because it has not been paid. No device, tier \
                         or user can be added until it is active again."
                ),
                "Nothing was deleted: your devices and their settings are as they were.".to_owned(),
                if root.is_stripe_managed() {
                    "To come back, please pay the open invoice in the billing portal. Access \
                     returns by itself within minutes."
                        .to_owned()
                } else {
                    "To come back, please contact us.".to_owned()
                },
            ],
        ),
        MailKind::Expired => (
            format!("your {what} has ended"),
            vec![
                format!(
                    "Your {what} ended on {instant}. No device, tier or user can be added any \
                         more."
                ),
                "Nothing was deleted: your devices and their settings are as they were.".to_owned(),
                if trial {
                    "To go on, choose a plan under Billing, or contact us."
                } else {
                    "To \
                    come back, please contact us."
                }
                .to_owned(),
            ],
        ),
        _ => match (Ending::of(root), trial) {
            (Ending::Renews, false) => (
                format!("your {what} renews on {day}"),
                vec![format!(
                    "Your {what} renews by itself on {instant}. There is nothing that you need to \
                     do."
                )],
            ),
            (Ending::Renews, true) => (
                format!("your {what} ends on {day}"),
                vec![
                    format!(
                        "Your {what} ends on {instant}. Your paid subscription begins then by \
                             itself: there is nothing that you need to do."
                    ),
                    "If you do not want it, cancel it in the billing portal before then."
                        .to_owned(),
                ],
            ),
            (Ending::Cancelled(at), trial) => (
                format!("your {what} ends on {}", self::day(at)),
                vec![
                    format!(
                        "Your {what} was cancelled and {}. It ends on {}; nothing changes until \
                         then.",
                        if trial { "will not be paid for" } else { "does not renew" },
                        self::instant(at)
                    ),
                    "If you would rather keep it, resume it in the billing portal before then."
                        .to_owned(),
                ],
            ),
            (Ending::Ends, true) => (
                format!("your {what} ends on {day}"),
                vec![format!("Your {what} ends on {instant}."),
                "To go on without a break, choose a plan under Billing before then, or contact us."
                    .to_owned()],
            ),
            (Ending::Ends, false) => (
                format!("your {what} ends on {day}"),
                vec![
                    format!(
                        "The term of your {what} ends on {instant}. It does not renew by \
                             itself."
                    ),
                    "To go on without a break, please contact us before then.".to_owned(),
                ],
            ),
        },
    };
    let paragraphs = std::iter::once(format!("Hello {company},")).chain(said).collect();
    Content {
        subject: format!("{company}: {subject}"),
        paragraphs,
        sections: family(about),
        footer: footer(&company, root),
    }
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
        parts.iter().filter(|(part, ..)| part.needs_a_person()).map(|(_, total, _)| total).sum();
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
