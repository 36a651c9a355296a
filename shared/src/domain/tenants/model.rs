//! A tenant, its updates, how a checkout makes one, and how tenants are searched.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;

use crate::base::error::Error;
use crate::base::fields::{Change, Email, JsonObject, Param, Percentage, Text, filled};
use crate::base::ids::{StripeCustomerId, SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::base::version::Versioned;
use crate::domain::families::subscription::Status;
use crate::outside::stripe::{CustomerDetails, Metadata};
use crate::{request, update, words};

/// A line of a profile.
pub type Line = Text<1, 200>;
/// The support that a company gets.
type SupportTier = Text<1, 50>;

words! {
    /// Whether a tenant is in use.
    pub enum TenantStatus {
        /// In use.
        Active = "ACTIVE",
        /// Deleted; its id is never reused.
        Deleted = "DELETED",
    }
}

/// What a company is and how to reach it: what its own customers may change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct Profile {
    pub name: String,
    pub legal_name: Option<String>,
    pub contact_email: Option<String>,
    pub contact_name: Option<String>,
    pub billing_email: Option<String>,
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
}

/// A customer company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct Tenant {
    pub tenant_id: TenantId,
    #[serde(flatten)]
    pub profile: Profile,
    pub status: TenantStatus,
    pub support_tier: String,
    pub sla_level: Option<Percentage>,
    /// The Stripe customer that pays for this tenant.
    pub stripe_customer_id: Option<StripeCustomerId>,
    /// Free JSON of the operators.
    pub metadata: Map<String, Value>,
    /// When what is personal was taken out of its rows (docs/privacy.md, "Erasure").
    pub erased_at: Option<Timestamp>,
    /// The number in its `ETag`.
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What the user of a tenant is told of it, also if it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TenantSummary {
    /// Its id.
    pub tenant_id: TenantId,
    /// Its name.
    pub name: String,
    /// A user of a deleted one is refused everywhere else.
    pub status: TenantStatus,
}

impl Versioned for Tenant {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A tenant as its own customers see it. They change the profile; the rest is read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of docs/data.md")]
pub struct Organization {
    pub tenant_id: TenantId,
    #[serde(flatten)]
    pub profile: Profile,
    pub status: TenantStatus,
    pub support_tier: String,
    pub sla_level: Option<Percentage>,
    /// Whether a Stripe customer is linked.
    pub billing_linked: bool,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Versioned for Organization {
    fn version(&self) -> i64 {
        self.version
    }
}

impl From<Tenant> for Organization {
    fn from(tenant: Tenant) -> Self {
        Self {
            tenant_id: tenant.tenant_id,
            profile: tenant.profile,
            status: tenant.status,
            support_tier: tenant.support_tier,
            sla_level: tenant.sla_level,
            billing_linked: tenant.stripe_customer_id.is_some(),
            version: tenant.version,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

request! {
    /// A tenant to add.
    pub struct NewTenant {
        /// Never changed, and never reused.
        tenant_id: TenantId,
        name: Line,
        legal_name: Option<Line> = None,
        contact_email: Option<Email> = None,
        contact_name: Option<Line> = None,
        billing_email: Option<Email> = None,
        phone: Option<Line> = None,
        industry: Option<Line> = None,
        company_size: Option<Line> = None,
        address_line1: Option<Line> = None,
        address_line2: Option<Line> = None,
        city: Option<Line> = None,
        state_province: Option<Line> = None,
        postal_code: Option<Line> = None,
        country: Option<Line> = None,
        data_residency_region: Option<Line> = None,
        /// `standard` by default.
        support_tier: Change<SupportTier> = Change::Keep,
        /// The availability that its contract promises.
        sla_level: Option<Percentage> = None,
        /// The Stripe customer that pays for this tenant. A customer belongs to one tenant.
        stripe_customer_id: Option<StripeCustomerId> = None,
        /// Free JSON of the operators.
        metadata: JsonObject = JsonObject::default(),
    }

    /// Which tenants to list.
    pub struct TenantFilter {
        /// Words; each must be the beginning of a word of the id, the name or the legal name. Case and
        /// accents make no difference.
        q: Option<Text<0, 100>> = None,
        /// The contact's or the billing mail address; upper and lower case are the same.
        email: Option<Text<1, 254>> = None,
        /// The linked customer, or an alias.
        stripe_customer_id: Option<StripeCustomerId> = None,
        status: Option<TenantStatus> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }
}

/// Makes an update of a tenant: the profile, and what else its caller may change, of the tenant
/// with the function that makes the column's value, and of the profile.
macro_rules! profile_update {
    ($(#[doc = $doc:expr])* pub struct $name:ident {
        $($field:ident : $ty:ty => $convert:expr),* $(,)?
    } and profile {
        $($own:ident),*
    }) => {
        update! {
            $(#[doc = $doc])*
            pub struct $name {
                name: Line,
                legal_name: Option<Line>,
                contact_email: Option<Email>,
                contact_name: Option<Line>,
                billing_email: Option<Email>,
                phone: Option<Line>,
                industry: Option<Line>,
                company_size: Option<Line>,
                address_line1: Option<Line>,
                address_line2: Option<Line>,
                city: Option<Line>,
                state_province: Option<Line>,
                postal_code: Option<Line>,
                country: Option<Line>,
                $($own: Option<Line>,)*
                $($field: $ty,)*
            }
        }

        impl $name {
            /// The tenant with the update applied.
            #[must_use]
            pub fn applied_to(self, mut tenant: Tenant) -> Tenant {
                let line = |line: Option<Line>| line.map(Line::into_string);
                let email = |email: Option<Email>| email.map(Email::into_string);
                let profile = &mut tenant.profile;
                self.name.apply(&mut profile.name, Line::into_string);
                self.legal_name.apply(&mut profile.legal_name, line);
                self.contact_email.apply(&mut profile.contact_email, email);
                self.contact_name.apply(&mut profile.contact_name, line);
                self.billing_email.apply(&mut profile.billing_email, email);
                self.phone.apply(&mut profile.phone, line);
                self.industry.apply(&mut profile.industry, line);
                self.company_size.apply(&mut profile.company_size, line);
                self.address_line1.apply(&mut profile.address_line1, line);
                self.address_line2.apply(&mut profile.address_line2, line);
                self.city.apply(&mut profile.city, line);
                self.state_province.apply(&mut profile.state_province, line);
                self.postal_code.apply(&mut profile.postal_code, line);
                self.country.apply(&mut profile.country, line);
                $(self.$own.apply(&mut profile.$own, line);)*
                $(self.$field.apply(&mut tenant.$field, $convert);)*
                tenant
            }
        }
    };
}

profile_update! {
    /// Changes of a tenant. An absent field stays as it is; `null` clears an optional one.
    pub struct TenantUpdate {
        support_tier: SupportTier => SupportTier::into_string,
        sla_level: Option<Percentage> => |level| level,
        stripe_customer_id: Option<StripeCustomerId> => |id| id,
        metadata: JsonObject => JsonObject::into_map,
    } and profile {
        data_residency_region
    }
}

profile_update! {
    /// Changes of the own company's profile. An absent field stays as it is; `null` clears an
    /// optional one.
    pub struct OrganizationUpdate {} and profile {}
}

impl Tenant {
    /// A tenant at its first version.
    #[must_use]
    pub fn from_new(new: NewTenant, now: Timestamp) -> Self {
        let line = |line: Option<Line>| line.map(Line::into_string);
        let email = |email: Option<Email>| email.map(Email::into_string);
        let profile = Profile {
            name: new.name.into_string(),
            legal_name: line(new.legal_name),
            contact_email: email(new.contact_email),
            contact_name: line(new.contact_name),
            billing_email: email(new.billing_email),
            phone: line(new.phone),
            industry: line(new.industry),
            company_size: line(new.company_size),
            address_line1: line(new.address_line1),
            address_line2: line(new.address_line2),
            city: line(new.city),
            state_province: line(new.state_province),
            postal_code: line(new.postal_code),
            country: line(new.country),
            data_residency_region: line(new.data_residency_region),
        };
        let mut tenant = Self::active(new.tenant_id, profile, new.stripe_customer_id, now);
        new.support_tier.apply(&mut tenant.support_tier, SupportTier::into_string);
        tenant.sla_level = new.sla_level;
        tenant.metadata = new.metadata.into_map();
        tenant
    }

    /// The tenant of a company that has paid, from its checkout, and what did not fit into it.
    #[must_use]
    pub fn from_checkout(
        tenant_id: TenantId,
        metadata: &Metadata,
        details: &CustomerDetails,
        stripe_customer_id: Option<StripeCustomerId>,
        now: Timestamp,
    ) -> (Self, Fit) {
        let mut fit = Fit::default();
        let profile = Profile::from_checkout(&tenant_id, metadata, details, &mut fit);
        (Self::active(tenant_id, profile, stripe_customer_id, now), fit)
    }

    fn active(
        tenant_id: TenantId,
        profile: Profile,
        stripe_customer_id: Option<StripeCustomerId>,
        now: Timestamp,
    ) -> Self {
        Self {
            tenant_id,
            profile,
            status: TenantStatus::Active,
            support_tier: STANDARD.to_owned(),
            sla_level: None,
            stripe_customer_id,
            metadata: Map::new(),
            erased_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether it was deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.status == TenantStatus::Deleted
    }

    /// The same without what is personal. It is then named by its id.
    #[must_use]
    pub fn erased(self, now: Timestamp) -> Self {
        let profile = Profile {
            name: self.tenant_id.to_string(),
            data_residency_region: self.profile.data_residency_region,
            ..Profile::default()
        };
        Self {
            profile,
            metadata: Map::new(),
            erased_at: Some(now),
            version: self.version + 1,
            updated_at: now,
            ..self
        }
    }
}

/// The support that a company gets by default.
const STANDARD: &str = "standard";

/// How many subscriptions the refusal names.
const NAMED: usize = 5;

/// Why a tenant cannot be deleted.
#[must_use]
pub fn still_live(id: &TenantId, live: &[(SubscriptionId, Status)]) -> String {
    let named = live
        .iter()
        .take(NAMED)
        .map(|(subscription, status)| format!("{subscription} ({})", status.as_str()))
        .collect::<Vec<_>>()
        .join(", ");
    let more = live.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    let plural = if live.len() == 1 { "" } else { "s" };
    format!("Tenant '{id}' has {} live subscription{plural}: {named}{more}", live.len())
}

/// The most characters of the company's name in the id.
const SLUG_LENGTH: usize = 50;

/// Makes values of Stripe obey the limits of the API, so that whoever reads a profile can write it
/// back, and keeps which fields lost something by that.
#[derive(Debug, Default)]
pub struct Fit {
    shortened: Vec<&'static str>,
}

impl Fit {
    /// A line of a profile; none where the value is blank.
    pub fn line(&mut self, field: &'static str, value: Option<&str>) -> Option<String> {
        let given = filled(value)?;
        let fitting = Line::fit(&given).map(Line::into_string);
        self.note(field, fitting.as_ref() != Some(&given));
        fitting
    }

    /// A mail address. One that the API refuses is left out as a whole: a part of it is another
    /// address.
    pub fn email(&mut self, field: &'static str, value: Option<&str>) -> Option<String> {
        let fitting = Email::parse(&filled(value)?).map(Email::into_string);
        self.note(field, fitting.is_none());
        fitting
    }

    fn note(&mut self, field: &'static str, lost: bool) {
        if lost {
            self.shortened.push(field);
        }
    }

    /// The fields that lost something, for the details of an audit row.
    #[must_use]
    pub fn details(&self) -> Option<Value> {
        (!self.shortened.is_empty()).then(|| json!({"shortened": self.shortened}))
    }
}

impl Profile {
    /// From the marketing site's metadata first, else from what the customer typed at Stripe
    /// (docs/events.md, "Metadata"). A company without a name has its id as its name.
    #[must_use]
    fn from_checkout(
        id: &TenantId,
        metadata: &Metadata,
        details: &CustomerDetails,
        fit: &mut Fit,
    ) -> Self {
        let meta = |key: &str| filled(metadata.get(key).map(String::as_str));
        let contact = [meta("admin_first_name"), meta("admin_last_name")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        let typed = |value: &Option<String>| filled(value.as_deref());
        let email = typed(&details.email).or_else(|| meta("admin_email"));
        let name = meta("company_name").or_else(|| typed(&details.name));
        let phone = meta("phone").or_else(|| typed(&details.phone));
        let mut line = |field, value: Option<String>| fit.line(field, value.as_deref());
        let address = details.address.clone();
        Self {
            name: line("name", name).unwrap_or_else(|| id.to_string()),
            legal_name: line("legal_name", meta("legal_name")),
            contact_name: line("contact_name", Some(contact)),
            phone: line("phone", phone),
            industry: line("industry", meta("industry")),
            company_size: line("company_size", meta("company_size")),
            address_line1: line("address_line1", address.line1),
            address_line2: line("address_line2", address.line2),
            city: line("city", address.city),
            state_province: line("state_province", address.state),
            postal_code: line("postal_code", address.postal_code),
            country: line("country", address.country),
            data_residency_region: line("data_residency_region", meta("data_residency_region")),
            contact_email: fit.email("contact_email", email.as_deref()),
            billing_email: fit.email("billing_email", email.as_deref()),
        }
    }
}

/// The ids to try for a new tenant, best first: the slug of its company's name, then the slug with
/// suffixes of this checkout. They are not numbers, because a number would show a customer that
/// another one of its name exists.
///
/// `seed` is the checkout's id, so a repeated attempt yields the same ids.
pub fn candidate_ids(company_name: Option<&str>, seed: &str) -> impl Iterator<Item = TenantId> {
    let slug = slug(company_name.unwrap_or_default());
    let bare = (!slug.is_empty()).then(|| slug.clone());
    let stem = if slug.is_empty() { "tenant".to_owned() } else { slug };
    let suffixed = suffixes(seed).into_iter().map(move |suffix| format!("{stem}-{suffix}"));
    bare.into_iter().chain(suffixed).filter_map(|id| TenantId::parse(&id).ok())
}

/// Four suffixes of this checkout: 5 hexadecimal digits distinguish a million companies of one
/// name, 12 all of them.
fn suffixes(seed: &str) -> Vec<String> {
    let digest =
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, seed.as_bytes()));
    [0..5, 5..10, 10..15, 15..27].into_iter().map(|range| digest[range].to_owned()).collect()
}

/// The letters and digits of the name in ASCII, with one hyphen for anything between them; at most
/// `SLUG_LENGTH` long.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    // NFKD separates letters and accents; the accents are then dropped and do not become hyphens.
    for c in name
        .nfkd()
        .filter(|c| !unicode_normalization::char::is_combining_mark(*c))
        .flat_map(char::to_lowercase)
    {
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

pub(crate) fn not_found() -> Error {
    Error::not_found("tenant_not_found", "Tenant not found")
}

pub(crate) fn deleted(id: &TenantId) -> Error {
    Error::conflict("tenant_deleted", format!("Tenant '{id}' is deleted"))
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
    fn checkouts_of_one_name_fall_back_on_different_ids_and_one_checkout_always_on_the_same() {
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
        let id = TenantId::parse("acme").expect("well formed");
        let from = |metadata: &Metadata, details: &CustomerDetails| {
            Profile::from_checkout(&id, metadata, details, &mut Fit::default())
        };
        let profile = from(&metadata, &details);
        assert_eq!(profile.name, "Acme");
        assert_eq!(profile.phone.as_deref(), Some("+1"));
        assert_eq!(profile.billing_email.as_deref(), Some("pay@acme.example"));
        assert_eq!(from(&Metadata::new(), &details).name, "Jane");
        let unknown = from(&Metadata::new(), &CustomerDetails::default());
        assert_eq!(unknown.name, "acme");
    }

    #[test]
    fn a_refusal_to_delete_names_some_and_counts_all() {
        let live: Vec<_> = (1..=7)
            .map(|n| {
                (
                    SubscriptionId::parse(&format!("SUB-2026-{n}")).expect("well formed"),
                    Status::Active,
                )
            })
            .collect();
        let id = TenantId::parse("acme").expect("well formed");
        assert_eq!(
            still_live(&id, &live[..1]),
            "Tenant 'acme' has 1 live subscription: SUB-2026-1 (ACTIVE)"
        );
        let named = "SUB-2026-1 (ACTIVE), SUB-2026-2 (ACTIVE), SUB-2026-3 (ACTIVE), SUB-2026-4 \
                     (ACTIVE), SUB-2026-5 (ACTIVE)";
        assert_eq!(
            still_live(&id, &live),
            format!("Tenant 'acme' has 7 live subscriptions: {named}, and 2 more")
        );
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
