//! Every mail's words, in a file that people review: a change of it is a change of what customers
//! are told.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};
use shared::domain::mails::model::{Digest, DigestPart, MailKind, Notice, Subject};
use shared::domain::mails::wording;
use shared::domain::mails::wording::Content;
use shared::domain::tenants::model::TenantStatus;

/// A subscription of one of the seeded plans' size, but for what the case is about.
fn about(plan: Option<&str>, addons: &Value, differs: &Value) -> Subject {
    let mut root = json!({
        "subscription_id": "SUB-2026-0001", "tenant_id": "acme", "subscription_type": "MAIN",
        "parent_subscription_id": null, "status": "ACTIVE", "plan_id": "pro",
        "device_limit": 100, "active_device_count": 0, "term_start": "2026-01-01T00:00:00Z",
        "term_end": "2027-01-01T00:00:00Z", "grace_end": null,
        "description": null, "stripe_subscription_id": null, "stripe_status": null,
        "stripe_price_id": null, "stripe_period_end": null,
        "stripe_paid_until": null, "stripe_cancel_at": null, "stripe_collection_paused": false,
        "hold_reason": null, "held_by": null, "held_at": null,
        "created_by": "x", "version": 1, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    });
    root.as_object_mut()
        .expect("an object")
        .extend(differs.as_object().expect("an object").clone());
    Subject {
        root: serde_json::from_value(root).expect("a subscription"),
        company: "Müller & Söhne\r\n<b>IoT</b>".to_owned(),
        tenant_status: TenantStatus::Active,
        address: Some("billing@acme.example".to_owned()),
        plan: plan.map(str::to_owned),
        addons: serde_json::from_value(addons.clone()).expect("ADDONs"),
        has_main: true,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

#[test]
fn the_words_of_every_mail_are_reviewed() {
    let mut file = String::new();
    let mut add = |name: &str, content: &Content| {
        let (text, html) = content.render().expect("rendered");
        writeln!(file, "════ {name}\nSubject: {}\n\n{text}", content.subject).expect("written");
        if name.contains("HTML") {
            writeln!(file, "──── as HTML\n{html}").expect("written");
        }
    };
    let stripe = json!({"stripe_subscription_id": "sub_1"});
    let addons = json!([
        {"subscription_id": "SUB-2026-0002", "term_end": "2027-01-01T00:00:00Z", "device_limit": 0,
         "slots": [{"tier": "Standard", "slot_limit": 1}, {"tier": "Premium", "slot_limit": 20}]},
        {"subscription_id": "SUB-2026-0003", "term_end": "2026-12-15T12:30:00Z", "device_limit": 50,
            "slots": []},
    ]);
    let none = json!([]);
    let (cancelled, later) = (json!("2027-01-01T00:00:00Z"), json!("2027-06-01T00:00:00Z"));
    let with = |base: &Value, more: Value| {
        let mut all = base.clone();
        all.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        all
    };
    let grace = json!({"status": "GRACE", "grace_end": "2027-01-15T00:00:00Z"});
    let trial = json!({"subscription_type": "TRIAL", "device_limit": 1});
    let (suspended, expired) = (json!({"status": "SUSPENDED"}), json!({"status": "EXPIRED"}));
    let cases = [
        (
            "RENEWAL, renewed by Stripe, with ADDONs, and as HTML",
            MailKind::Renewal30,
            about(Some("Pro"), &addons, &stripe),
        ),
        (
            "RENEWAL, to be cancelled at a later term's end",
            MailKind::Renewal30,
            about(Some("Pro"), &none, &with(&stripe, json!({"stripe_cancel_at": later}))),
        ),
        (
            "RENEWAL, cancelled",
            MailKind::Renewal14,
            about(Some("Pro"), &none, &with(&stripe, json!({"stripe_cancel_at": cancelled}))),
        ),
        (
            "RENEWAL, cancelled before its term's end",
            MailKind::Renewal14,
            about(
                Some("Pro"),
                &none,
                &with(&stripe, json!({"stripe_cancel_at": "2026-12-24T18:00:00Z"})),
            ),
        ),
        (
            "RENEWAL, Stripe's but held by an operator",
            MailKind::Renewal7,
            about(
                Some("Pro"),
                &none,
                &with(
                    &stripe,
                    json!({"hold_reason": "x", "held_by": "x", "held_at": "2026-06-01T00:00:00Z"}),
                ),
            ),
        ),
        (
            "RENEWAL, outside Stripe, without a plan",
            MailKind::Renewal7,
            about(None, &none, &json!({})),
        ),
        ("RENEWAL, TRIAL outside Stripe", MailKind::Renewal7, about(None, &none, &trial)),
        (
            "RENEWAL, trial at Stripe",
            MailKind::Renewal7,
            about(Some("Pro"), &none, &with(&stripe, json!({"status": "TRIAL"}))),
        ),
        (
            "RENEWAL, trial at Stripe, cancelled",
            MailKind::Renewal7,
            about(
                Some("Pro"),
                &none,
                &with(&stripe, json!({"status": "TRIAL", "stripe_cancel_at": cancelled})),
            ),
        ),
        (
            "GRACE, Stripe's",
            MailKind::Grace,
            about(Some("Pro"), &none, &with(&stripe, grace.clone())),
        ),
        ("GRACE, outside Stripe", MailKind::Grace, about(Some("Pro"), &none, &grace)),
        (
            "SUSPENDED, Stripe's",
            MailKind::Suspended,
            about(Some("Pro"), &none, &with(&stripe, suspended.clone())),
        ),
        ("SUSPENDED, outside Stripe", MailKind::Suspended, about(Some("Pro"), &none, &suspended)),
        ("EXPIRED", MailKind::Expired, about(Some("Pro"), &none, &expired)),
        ("EXPIRED, TRIAL", MailKind::Expired, about(None, &none, &with(&trial, expired.clone()))),
    ];
    for (name, mail, about) in cases {
        let at = about.root.grace_end.unwrap_or(about.root.term_end);
        add(
            name,
            &wording::notice(
                &Notice { mail, subscription_id: about.root.subscription_id.clone(), at },
                &about,
            )
            .expect("rendered"),
        );
    }
    let digest = Digest { from: at("2026-12-31T06:00:00Z"), to: at("2027-01-01T06:00:00Z") };
    let quiet: Vec<_> = DigestPart::ALL.iter().map(|part| (*part, 0, Vec::new())).collect();
    add("DIGEST of a quiet day", &wording::digest(&digest, &quiet));
    let mut busy = quiet;
    busy[0] = (
        DigestPart::Flags,
        23,
        (0..20).map(|number| format!("#{number} plan_unresolved acme: no\nplan")).collect(),
    );
    busy[3] = (DigestPart::Graces, 1, vec!["acme SUB-2026-0001 by renewal".to_owned()]);
    add("DIGEST of another", &wording::digest(&digest, &busy));
    // What is new, and needs no one, is no call to act.
    busy[0] = (DigestPart::Flags, 0, Vec::new());
    assert!(wording::digest(&digest, &busy).subject.ends_with("nothing to do"));
    tests::reviewed("tests/contract/mails.txt", &file);
}

#[test]
fn names_are_escaped_in_html_and_nowhere_else_and_break_no_line() {
    let about = about(Some("<i>Pro</i>"), &json!([]), &json!({}));
    let notice = Notice {
        mail: MailKind::Renewal1,
        subscription_id: about.root.subscription_id.clone(),
        at: about.root.term_end,
    };
    let content = wording::notice(&notice, &about).expect("rendered");
    let (text, html) = content.render().expect("rendered");
    assert!(
        content.subject.starts_with("Müller & Söhne <b>IoT</b>: your <i>Pro</i> subscription"),
        "{}",
        content.subject
    );
    assert!(text.contains("Hello Müller & Söhne <b>IoT</b>,\n"), "{text}");
    assert!(
        !html.contains("<b>")
            && !html.contains("<i>")
            && html.contains("Müller &#38; Söhne &#60;b&#62;"),
        "{html}"
    );
}
