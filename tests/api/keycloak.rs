//! The same calls against the real Keycloak, with the realm of this repository (trap 39). Skipped
//! by name where there is no JDK.

use shared::base::ids::TenantId;
use shared::outside::keycloak::{AccountChange, Keycloak, NewAccount};
use shared::outside::secrets::{Role, Secrets};
use shared::process::config::{Env, KeycloakSettings};
use tests::stack;

async fn keycloak() -> Keycloak {
    shared::process::tls::install();
    let names = ["SECRETS_PREFIX", "KEYCLOAK_URL", "KEYCLOAK_REALM", "KEYCLOAK_CLIENT_ID"];
    let env = Env::of(names.into_iter().map(|name| (name.to_owned(), stack(name))).collect());
    let secrets = Secrets::read(&tests::aws(), &env, Role::System).await.expect("the secret");
    Keycloak::new(KeycloakSettings::from_env(&env).expect("settings"), secrets).expect("a client")
}

fn user(name: &str) -> NewAccount {
    NewAccount {
        email: format!("{name}.{}@Real.example", std::process::id()),
        first_name: Some("Jane".to_owned()),
        last_name: None,
    }
}

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).expect("well formed")
}

#[tokio::test]
async fn real_keycloak_makes_a_user_once_with_tenant_and_role_and_keeps_it_from_others() {
    let keycloak = keycloak().await;
    let user = user("once");
    let (id, change) = keycloak.create_customer(&user, &tenant("acme")).await.expect("made");
    assert_eq!(change, AccountChange::Created);
    assert_eq!(
        keycloak.create_customer(&user, &tenant("acme")).await.expect("there"),
        (id.clone(), AccountChange::Unchanged),
        "attribute and role were kept"
    );
    let error = keycloak.create_customer(&user, &tenant("other")).await.expect_err("another's");
    assert_eq!(error.code(), "user_exists");
    assert!(!error.is_transient());
    assert_eq!(keycloak.create(&user, &tenant("other")).await.expect("asked"), None);
    keycloak.send_welcome_mail(&id).await.expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_keycloak_asked_for_one_user_by_many_at_once_has_one() {
    let keycloak = keycloak().await;
    let user = user("many");
    let (id, _) = {
        let made =
            futures::future::join_all((0..6).map(|_| keycloak.create_customer(&user, &TENANT)))
                .await;
        let ids: Vec<_> = made.into_iter().filter_map(Result::ok).collect();
        assert!(!ids.is_empty() && ids.iter().all(|(id, _)| *id == ids[0].0), "{ids:?}");
        ids.into_iter().next().expect("one")
    };
    assert_eq!(
        keycloak.create_customer(&user, &TENANT).await.expect("complete by now"),
        (id, AccountChange::Unchanged)
    );
}

static TENANT: std::sync::LazyLock<TenantId> = std::sync::LazyLock::new(|| tenant("many"));

#[tokio::test]
async fn real_keycloak_knows_no_such_user() {
    let error = keycloak()
        .await
        .send_welcome_mail("00000000-0000-4000-8000-000000000000")
        .await
        .expect_err("nobody");
    assert!(!error.is_transient(), "{error}");
}
