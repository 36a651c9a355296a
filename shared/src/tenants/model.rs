//! A new tenant's profile and id.

use unicode_normalization::UnicodeNormalization;

use crate::ids::TenantId;
use crate::stripe::{CustomerDetails, Metadata};

/// How much of the company's name goes into the id.
const SLUG_LENGTH: usize = 50;

/// What a checkout tells of a company; the columns of `tenants` that it fills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct Profile {
    pub name: Option<String>,
    pub legal_name: Option<String>,
    pub contact_email: Option<String>,
    pub contact_name: Option<String>,
    pub phone: Option<String>,
    pub industry: Option<String>,
    pub company_size: Option<String>,
    pub address_line1: Option<String>,
    pub address_line2: Option<String>,
    pub city: Option<String>,
    pub state_province: Option<String>,
    pub postal_code: Option<String>,
    pub country: Option<String>,
    pub data_residency_region: Option<String>,
    pub billing_email: Option<String>,
}

impl Profile {
    /// From the marketing site's metadata first, else from what the customer typed at Stripe (docs/events.md, "Metadata").
    #[must_use]
    pub fn from_checkout(metadata: &Metadata, details: &CustomerDetails) -> Self {
        let meta = |key: &str| filled(metadata.get(key).map(String::as_str));
        let typed = |value: &Option<String>| filled(value.as_deref());
        let contact = [meta("admin_first_name"), meta("admin_last_name")].into_iter().flatten().collect::<Vec<_>>().join(" ");
        Self {
            name: meta("company_name").or_else(|| typed(&details.name)),
            legal_name: meta("legal_name"),
            contact_email: typed(&details.email).or_else(|| meta("admin_email")),
            contact_name: filled(Some(&contact)),
            phone: meta("phone").or_else(|| typed(&details.phone)),
            industry: meta("industry"),
            company_size: meta("company_size"),
            address_line1: typed(&details.address.line1),
            address_line2: typed(&details.address.line2),
            city: typed(&details.address.city),
            state_province: typed(&details.address.state),
            postal_code: typed(&details.address.postal_code),
            country: typed(&details.address.country),
            data_residency_region: meta("data_residency_region"),
            billing_email: typed(&details.email).or_else(|| meta("admin_email")),
        }
    }
}

/// The value without its margins and without NUL (which `PostgreSQL` has no room for), where something is left.
pub(crate) fn filled(value: Option<&str>) -> Option<String> {
    let value = value?.replace('\0', "");
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// The ids to try for a new tenant, best first: the slug of its company's name, then the slug with a suffix that only this checkout
/// yields. The suffix is no counter: a number would tell one customer that another of its name exists.
///
/// `seed` is the checkout's id, so that a repeated try yields the same ids.
pub fn candidate_ids(company_name: Option<&str>, seed: &str) -> impl Iterator<Item = TenantId> {
    let slug = slug(company_name.unwrap_or_default());
    let bare = (!slug.is_empty()).then(|| slug.clone());
    let stem = if slug.is_empty() { "tenant".to_owned() } else { slug };
    let suffixed = suffixes(seed).into_iter().map(move |suffix| format!("{stem}-{suffix}"));
    bare.into_iter().chain(suffixed).filter_map(|id| TenantId::parse(&id).ok())
}

/// Four ways to tell this checkout from any other: 5 hexadecimal digits have room for a million of one name, 12 for all.
fn suffixes(seed: &str) -> Vec<String> {
    let digest = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, seed.as_bytes()));
    [0..5, 5..10, 10..15, 15..27].into_iter().map(|range| digest[range].to_owned()).collect()
}

/// Letters and digits of the name in ASCII, what is between them as one hyphen, at most `SLUG_LENGTH` long.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    // NFKD takes letters and accents apart; the accents are then dropped without becoming a hyphen.
    for c in name.nfkd().filter(|c| !unicode_normalization::char::is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            'ß' => slug.push_str("ss"),
            'æ' => slug.push_str("ae"),
            'ø' => slug.push('o'),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(SLUG_LENGTH);
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slug_is_what_a_person_would_type() {
        for (name, expected) in [
            ("Acme IoT Corp", "acme-iot-corp"),
            ("  --Acme,  Inc.--  ", "acme-inc"),
            ("Ångström & Söhne GmbH", "angstrom-sohne-gmbh"),
            ("Großmann Ærø", "grossmann-aero"),
            ("ＦＵＬＬ　ｗｉｄｔｈ", "full-width"),
            ("東京電力", ""),
            ("", ""),
        ] {
            assert_eq!(slug(name), expected, "{name}");
        }
        assert_eq!(slug(&"abcd ".repeat(40)).len(), 49, "cut at 50, without a hyphen at its end");
    }

    #[test]
    fn a_name_of_which_nothing_is_left_yields_an_id_all_the_same() {
        for name in [None, Some(""), Some("東京")] {
            let first = candidate_ids(name, "cs_1").next().expect("an id");
            assert!(first.as_str().starts_with("tenant-"), "{first}");
        }
    }

    #[test]
    fn two_checkouts_of_one_name_have_different_ids_to_fall_back_on_and_one_checkout_always_the_same() {
        let ids = |seed| candidate_ids(Some("Acme"), seed).collect::<Vec<_>>();
        assert_eq!(ids("cs_1"), ids("cs_1"));
        assert_eq!(ids("cs_1")[0], ids("cs_2")[0]);
        assert!(ids("cs_1")[1..].iter().all(|id| !ids("cs_2").contains(id)));
    }

    #[test]
    fn what_the_marketing_site_knows_wins_over_what_was_typed() {
        let metadata = Metadata::from([
            ("company_name".to_owned(), "Acme".to_owned()),
            ("phone".to_owned(), " ".to_owned()),
            ("admin_email".to_owned(), "jane@acme.example".to_owned()),
        ]);
        let details = CustomerDetails {
            name: Some("Jane".to_owned()),
            phone: Some("+1".to_owned()),
            email: Some("pay@acme.example".to_owned()),
            ..CustomerDetails::default()
        };
        let profile = Profile::from_checkout(&metadata, &details);
        assert_eq!(profile.name.as_deref(), Some("Acme"));
        assert_eq!(profile.phone.as_deref(), Some("+1"));
        assert_eq!(profile.billing_email.as_deref(), Some("pay@acme.example"));
        assert_eq!(Profile::from_checkout(&Metadata::new(), &details).name.as_deref(), Some("Jane"));
    }

    proptest! {
        #[test]
        fn every_name_yields_well_formed_ids(name in "\\PC{0,80}", seed in "cs_[a-z0-9]{1,20}") {
            let ids: Vec<_> = candidate_ids(Some(&name), &seed).collect();
            prop_assert!(ids.len() >= 4);
            prop_assert!(slug(&name).len() <= SLUG_LENGTH);
        }
    }
}
