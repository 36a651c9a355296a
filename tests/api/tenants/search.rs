//! An operator lists the companies and searches among them.

use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

use super::TENANTS;

fn ids(answer: &Value) -> Vec<String> {
    let tenants = answer["tenants"].as_array().expect("a list");
    assert_eq!(answer["count"], tenants.len());
    tenants.iter().map(|tenant| text(&tenant["tenant_id"])).collect()
}

#[tokio::test]
async fn tenants_are_listed_by_any_filter_and_page() {
    let world = World::new().await;
    let api = world.api().await;
    for n in 0..5 {
        let body = json!({"tenant_id": format!("t{n}"), "name": "T", "contact_email": format!(
            "ops@t{}.example", n / 2), "billing_email": format!("b{n}@t.example")});
        api.write("POST", TENANTS, body).await.expect(201);
    }
    // As a checkout keeps what was typed.
    world
        .db
        .execute(
            "UPDATE tenants SET contact_email = 'Ops@T0.Example',
                      stripe_customer_id = 'cus_linked' WHERE tenant_id = 't1'",
            &[],
        )
        .await
        .expect("set");
    world
        .db
        .execute("INSERT INTO stripe_customer_aliases VALUES ('cus_alias', 't2')", &[])
        .await
        .expect("an alias");
    api.send(Who::Admin, "DELETE", &format!("{TENANTS}/t4"), &[], None).await.expect(200);
    let list = async |query: &str| {
        ids(&api.get(Who::Operator, &format!("{TENANTS}{query}")).await.expect(200))
    };
    let all = ["demo-cold-chain", "demo-greenhouses", "t0", "t1", "t2", "t3", "t4"];
    assert_eq!(list("").await, all);
    assert_eq!(list("?status=ACTIVE").await, all[..6]);
    assert_eq!(list("?status=DELETED").await, ["t4"]);
    assert_eq!(list("?email=OPS@t0.example").await, ["t0", "t1"]);
    assert_eq!(list("?email=B3@T.example").await, ["t3"]);
    assert_eq!(list("?email=t.example").await, [""; 0], "the whole of it");
    assert_eq!(list("?email=%25@t.example").await, [""; 0]);
    assert_eq!(list("?stripe_customer_id=cus_linked").await, ["t1"]);
    assert_eq!(list("?stripe_customer_id=cus_alias").await, ["t2"]);
    assert_eq!(list("?stripe_customer_id=cus_none").await, [""; 0]);
    assert_eq!(
        list("?email=ops@t0.example&stripe_customer_id=cus_linked&status=ACTIVE&q=t1").await,
        ["t1"]
    );
    assert_eq!(list("?email=ops@t0.example&status=DELETED").await, [""; 0]);

    let seen = api.pages(Who::Operator, &format!("{TENANTS}?limit=3"), "tenants").await;
    let seen: Vec<_> = seen.iter().map(|tenant| &tenant["tenant_id"]).collect();
    assert_eq!(seen, all);
    assert_eq!(list("?limit=2&offset=4").await, ["t2", "t3"]);
    assert_eq!(list("?offset=7").await, [""; 0]);
    for (query, fault) in [
        ("limit=0", "limit must be from 1 to 500"),
        ("cursor=WzFd", "cursor is not a cursor of this list"),
        ("status=active", "status must be one of ACTIVE, DELETED"),
        ("stripe_customer_id=acme", "stripe_customer_id must match ^cus_[A-Za-z0-9_]{1,251}$"),
        ("email=", "email must not be empty"),
        ("tenant=x", "tenant is not a field of this request"),
    ] {
        assert_eq!(
            api.get(Who::Operator, &format!("{TENANTS}?{query}")).await.faults(),
            [fault],
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_search_finds_beginnings_of_words_and_takes_any_character() {
    let world = World::new().await;
    let api = world.api().await;
    for (id, name, legal_name) in [
        ("acme-iot-corp", "ACME IoT", "Acme Internet of Things Corporation"),
        ("acme-2", "Acme", "Booking.com B.V."),
        ("team-12e45", "Müller & Söhne", "O'Brien A/B Testing"),
        ("x1", "Version 1.5", "C:\\Temp"),
    ] {
        api.write(
            "POST",
            TENANTS,
            json!({"tenant_id": id, "name": name, "legal_name": legal_name}),
        )
        .await
        .expect(201);
    }
    let search = async |typed: &str| {
        let mut url = reqwest::Url::parse("http://x/").expect("a URL");
        url.query_pairs_mut().append_pair("q", typed);
        let reply =
            api.get(Who::Operator, &format!("{TENANTS}?{}", url.query().unwrap_or_default())).await;
        assert_eq!(reply.status, 200, "{typed:?}: {}", reply.body);
        ids(&reply.body)
    };
    for (typed, found) in [
        ("acme", vec!["acme-2", "acme-iot-corp"]),
        ("  AC   co ", vec!["acme-2", "acme-iot-corp"]),
        ("  AC   cor ", vec!["acme-iot-corp"]),
        ("internet corp", vec!["acme-iot-corp"]),
        ("acme-iot-corp", vec!["acme-iot-corp"]),
        ("acme-i", vec!["acme-iot-corp"]),
        ("iot-co", vec!["acme-iot-corp"]),
        ("acme-2", vec!["acme-2"]),
        ("2", vec!["acme-2"]),
        ("booking.com", vec!["acme-2"]),
        ("team-12", vec!["team-12e45"]),
        ("12e45", vec!["team-12e45"]),
        ("mül söh", vec!["team-12e45"]),
        ("müller & söhne", vec!["team-12e45"]),
        ("o'brien", vec!["team-12e45"]),
        ("a/b", vec!["acme-2", "team-12e45"]),
        ("a/b tes", vec!["team-12e45"]),
        ("1.5", vec!["x1"]),
        (r"c:\temp", vec!["x1"]),
        ("cme", vec![]),
        ("acme nothing", vec![]),
        ("acme:*", vec!["acme-2", "acme-iot-corp"]),
        ("!acme", vec!["acme-2", "acme-iot-corp"]),
        ("acme | x1", vec![]),
        ("acme') OR true --", vec![]),
    ] {
        assert_eq!(search(typed).await, found, "{typed}");
    }
    assert_eq!(search("").await.len(), 6, "nothing asked for");
    assert_eq!(search(" ").await.len(), 6);
    for typed in [
        "&",
        "!",
        "'",
        "''",
        "\"",
        r"\",
        ":",
        ":*",
        "<->",
        "( )",
        "%",
        "_",
        "…",
        "😀",
        "'&|!()<>:*\\\"",
        "a'b\\c:*&|!(d)<->e",
        "\t\n",
    ] {
        search(typed).await;
    }
    for nothing in ["&", ":*", "'", "-- %"] {
        assert_eq!(search(nothing).await, [""; 0], "{nothing}");
    }
    search(&"😀a'\\".repeat(25)).await;
    let long = format!("{TENANTS}?q={}", "x".repeat(101));
    assert_eq!(
        api.get(Who::Operator, &long).await.faults(),
        ["q must have at most 100 characters, not 101"]
    );
    assert_eq!(
        api.get(Who::Operator, &format!("{TENANTS}?q=%00")).await.faults(),
        ["q must not contain control characters"]
    );
}

/// Under row-level security too: the owner is subject to a policy like the operators'.
#[tokio::test]
async fn a_search_among_many_tenants_reads_an_index() {
    let world = World::new().await;
    let fill = "INSERT INTO tenants (tenant_id, name, contact_email)
                SELECT 'many-' || n, 'Company ' || md5(n::text), n || '@many.example'
                FROM generate_series(1, 5000) n;
                ANALYZE tenants";
    world.db.batch_execute(fill).await.expect("filled");
    let plan = async |condition: &str| {
        let rows = world
            .db
            .query(&format!("EXPLAIN SELECT * FROM tenants t WHERE {condition}"), &[])
            .await
            .expect("a plan");
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
    };
    let words = "search_words(t.tenant_id || ' ' || t.name || ' ' || \
                 coalesce(t.legal_name, '')) @@ search_query('4711')";
    assert!(plan(words).await.contains("tenants_search"), "{}", plan(words).await);
    let email = "lower(t.contact_email COLLATE pg_unicode_fast) =
                 lower('X@many.example' COLLATE pg_unicode_fast)
                 OR lower(t.billing_email COLLATE pg_unicode_fast) =
                 lower('X@many.example' COLLATE pg_unicode_fast)";
    let plan = plan(email).await;
    assert!(plan.contains("tenants_contact_email_folded"), "{plan}");
}

/// Trap 88: under the locale C a capital Ö has no small one, and under others it has.
#[tokio::test]
async fn names_are_found_whatever_their_case_and_accents_on_every_locale_of_the_database() {
    for locale in [
        "LOCALE_PROVIDER libc LOCALE 'C'",
        "LOCALE_PROVIDER libc LOCALE 'C.UTF-8'",
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'",
    ] {
        let world = World::on_locale(locale).await;
        let api = world.api().await;
        for (id, name, mail) in [
            ("oe", "Österreich Energie", "ÖL@oe.example"),
            ("sp", "STRASSE & PARTNER", "info@sp.example"),
            ("gr", "ΟΔΥΣΣΕΥΣ ΑΕ", "info@gr.example"),
            ("pl", "Łódź Øresund", "info@pl.example"),
            ("jp", "東京電力", "info@jp.example"),
            ("fw", "ＦＵＬＬ Ｗｉｄｔｈ", "info@fw.example"),
        ] {
            let body = json!({"tenant_id": id, "name": name, "contact_email": mail});
            api.write("POST", TENANTS, body).await.expect(201);
        }
        // As it was stored once.
        let stored = "UPDATE tenants SET billing_email = 'Ärzte@OE.example' WHERE tenant_id = 'oe'";
        world.db.execute(stored, &[]).await.expect("set");
        let list = async |field: &str, typed: &str| {
            let mut url = reqwest::Url::parse("http://x/").expect("a URL");
            url.query_pairs_mut().append_pair(field, typed);
            let query = url.query().unwrap_or_default();
            ids(&api.get(Who::Operator, &format!("{TENANTS}?{query}")).await.expect(200))
        };
        for (field, typed, found) in [
            ("q", "österreich", "oe"),
            ("q", "ÖSTERREICH", "oe"),
            ("q", "osterreich", "oe"),
            ("q", "O\u{308}sterreich", "oe"),
            ("q", "energie öster", "oe"),
            ("q", "straße", "sp"),
            ("q", "Οδυσσεύς", "gr"),
            ("q", "lodz", "pl"),
            ("q", "ORESUND", "pl"),
            ("q", "東京", "jp"),
            ("q", "full width", "fw"),
            ("email", "öl@OE.example", "oe"),
            ("email", "ÄRZTE@oe.example", "oe"),
        ] {
            assert_eq!(list(field, typed).await, [found], "{typed} on {locale}");
        }
    }
}
