//! Customers over their whole term.

use jiff::SignedDuration;
use serde_json::json;
use tests::company::Company;
use tests::text;

use super::{days, instant, mails, offline, run, state, world_at};

#[tokio::test]
async fn a_customer_who_pays_by_wire_and_forgets_goes_from_notices_to_grace_to_suspended() {
    let start = instant("2027-01-31T09:00:00Z");
    let mut world = world_at("2027-01-31T09:00:00Z").await;
    let smtp = world.mail().await;
    offline(&world, "wire", "MAIN", "ACTIVE", start, start + days(60)).await;
    let mut seen = Vec::new();
    for hour in 0..24 * 80 {
        world
            .clock
            .stop_at(start + SignedDuration::from_hours(hour) + SignedDuration::from_mins(17));
        if hour % 6 == 0 || (24 * 59..24 * 61).contains(&hour) {
            run(&world).await;
            assert_eq!(world.outbox().await["retried"], 0);
            let now = state(&world, "wire").await;
            if seen.last().is_none_or(|(_, before)| *before != now) {
                seen.push((hour, now));
            }
        }
    }
    let end = start + days(60);
    assert_eq!(
        seen,
        [
            (0, ("ACTIVE".to_owned(), None)),
            (24 * 60, ("GRACE".to_owned(), Some(end + days(14)))),
            (24 * 74, ("SUSPENDED".to_owned(), None))
        ]
    );
    assert_eq!(
        mails(&world).await["wire"],
        ["RENEWAL_30", "RENEWAL_14", "RENEWAL_7", "RENEWAL_1", "GRACE", "SUSPENDED"]
    );
    let sent: Vec<_> = smtp
        .taken()
        .iter()
        .filter(|mail| mail.to == "wire@example.com")
        .map(|mail| (mail.to.clone(), mail.header("Subject")))
        .collect();
    let subject =
        |text: &str| ("wire@example.com".to_owned(), format!("wire: your subscription {text}"));
    let ends = "ends on 1 April 2027";
    assert_eq!(
        sent,
        [
            subject(ends),
            subject(ends),
            subject(ends),
            subject(ends),
            (
                "wire@example.com".to_owned(),
                "wire: payment is missing, your subscription will be suspended on 15 April 2027"
                    .to_owned()
            ),
            subject("is suspended")
        ]
    );
    let trail = world
        .rows("SELECT event_type FROM subscription_audit WHERE tenant_id = 'wire' ORDER BY id")
        .await;
    let names: Vec<_> = trail.iter().map(|row| text(&row["event_type"])).collect();
    assert_eq!(
        names,
        [
            "KEYCLOAK_ORGANIZATION_SET",
            "MAIL_SENT",
            "MAIL_SENT",
            "MAIL_SENT",
            "MAIL_SENT",
            "STATUS_GRACE",
            "MAIL_SENT",
            "STATUS_SUSPENDED",
            "MAIL_SENT"
        ]
    );
    // A digest a day, whatever happened.
    assert_eq!(world.count("outbox_steps WHERE kind = 'mail' AND tenant_id IS NULL").await, 80);
}

#[tokio::test]
async fn who_pays_by_card_is_renewed_without_a_moment_of_grace() {
    let mut company = Company::new().await;
    company.pass(27).await;
    for hour in 0..24 * 4 {
        let now = company.world.clock.pass(3600);
        company.world.stripe.advance_to(now);
        // The run comes first: Stripe's event is under way for an hour.
        let summary = run(&company.world).await;
        assert_eq!(
            (&summary["changes"], &summary["notices"]),
            (&json!({}), &json!({})),
            "hour {hour}"
        );
        assert_eq!(company.status().await, "ACTIVE");
        company.deliver().await;
    }
    let row = company.row("term_start, term_end").await;
    assert_eq!(
        (text(&row["term_start"]), text(&row["term_end"])),
        ("2026-02-28T10:00:00+00:00".to_owned(), "2026-03-31T10:00:00+00:00".to_owned())
    );
    assert_eq!(company.world.count("subscription_audit WHERE actor_id = 'renewal'").await, 0);
}
