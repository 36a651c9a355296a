//! Keycloak: the real server with the realm of `xtask/stack/pulse-realm.json`, or the embedded
//! issuer without a JDK.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use simulators::keycloak::Fake;
use simulators::keycloak::Options;
use tokio::process::Command;

use super::CLIENT_ID;
use super::REALM;
use super::Starting;
use super::console::WEB_CLIENT;
use crate::tools::JavaTools;
use crate::tools::Tools;

const REALM_FILE: &str = "xtask/stack/pulse-realm.json";

/// Starts one of them. The embedded issuer lives as long as the returned value.
pub(super) async fn start(stack: &Starting<'_>, tools: &Tools) -> Result<Option<Fake>> {
    if let Some(java) = &tools.java {
        start_keycloak(stack, java).await?;
        return Ok(None);
    }
    let fake = Fake::start(Options {
        listen: ([127, 0, 0, 1], stack.ports.keycloak).into(),
        realm: REALM.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: stack.credentials.keycloak_client.clone(),
        smtp: Some(([127, 0, 0, 1], stack.ports.smtp).into()),
        origins: super::console::origins(stack.ports.console),
    });
    Ok(Some(fake.await?))
}

async fn start_keycloak(stack: &Starting<'_>, java: &JavaTools) -> Result<()> {
    let step = stack.progress.step("Keycloak");
    let home = home(stack, &java.keycloak)?;
    let mut server = Command::new(java.keycloak.join("bin/kc.sh"));
    server.arg(format!("-Dkc.home.dir={}", home.display()));
    server.args([
        "start",
        "--optimized",
        "--import-realm",
        "--cache=local",
        "--http-enabled=true",
        "--hostname-strict=false",
    ]);
    server.args(["--http-host=127.0.0.1", &format!("--http-port={}", stack.ports.keycloak)]);
    // A fast start is worth more than throughput here.
    server.env("JAVA", "java").env("JAVA_OPTS_APPEND", "-XX:TieredStopAtLevel=1");
    server
        .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
        .env("KC_BOOTSTRAP_ADMIN_PASSWORD", &stack.credentials.keycloak_admin);
    // Keycloak's "Importing and exporting realms": the values of the file's placeholders come from
    // the environment.
    server
        .env("PULSE_BACKEND_SECRET", &stack.credentials.keycloak_client)
        .env("PULSE_SMTP_PORT", stack.ports.smtp.to_string())
        .env("PULSE_CONSOLE_ORIGIN", super::console::origin(stack.ports.console));
    stack.supervisor.start("keycloak", &mut server)?;

    let http = crate::http_client(Duration::from_secs(20))?;
    let url = format!("http://127.0.0.1:{}", stack.ports.keycloak);
    let discovery = format!("{url}/realms/{REALM}/.well-known/openid-configuration");
    let probe = || async {
        http.get(&discovery).send().await.is_ok_and(|answer| answer.status().is_success())
    };
    stack.supervisor.ready("keycloak", Duration::from_mins(4), probe).await?;
    update_realm(stack, &http, &url).await.context("the realm's settings")?;
    step.done();
    Ok(())
}

/// A home folder in the stack's state, with links to the shared program. Each stack has its own
/// Keycloak database, so that users are kept together with the tenants in `PostgreSQL`.
fn home(stack: &Starting<'_>, program: &Path) -> Result<PathBuf> {
    let home = stack.state.join("keycloak");
    let import = home.join("data/import");
    fs::create_dir_all(&import)?;
    for part in ["conf", "lib", "providers", "themes"] {
        let link = home.join(part);
        super::remove(&link)?;
        std::os::unix::fs::symlink(program.join(part), &link)?;
    }
    let realm = stack.root.join(REALM_FILE);
    fs::copy(&realm, import.join("pulse-realm.json"))
        .with_context(|| format!("cannot copy {}", realm.display()))?;
    Ok(home)
}

/// Sets mail settings, texts and organizations of the realm: a realm from an earlier start is not
/// imported again, the sink may have another port now, and the file other texts.
async fn update_realm(stack: &Starting<'_>, http: &reqwest::Client, url: &str) -> Result<()> {
    let form = [
        ("grant_type", "password"),
        ("client_id", "admin-cli"),
        ("username", "admin"),
        ("password", &stack.credentials.keycloak_admin),
    ];
    let token = http
        .post(format!("{url}/realms/master/protocol/openid-connect/token"))
        .form(&form)
        .send()
        .await?;
    let token: Value = token.error_for_status()?.json().await?;
    let token = token["access_token"].as_str().context("no access token")?;
    let realm = format!("{url}/admin/realms/{REALM}");
    let mut file: Value = serde_json::from_slice(&fs::read(stack.root.join(REALM_FILE))?)?;
    let mut smtp = file["smtpServer"].take();
    smtp["port"] = json!(stack.ports.smtp.to_string());
    let settings =
        json!({"smtpServer": smtp, "organizationsEnabled": file["organizationsEnabled"]});
    let put = http.put(&realm).bearer_auth(token).json(&settings);
    put.send().await?.error_for_status()?;
    grant_roles(http, token, &realm, &file["users"][0]).await?;
    set_origins(http, token, &realm, &super::console::origins(stack.ports.console)).await?;
    for (locale, texts) in file["localizationTexts"].as_object().into_iter().flatten() {
        let post = http.post(format!("{realm}/localization/{locale}")).bearer_auth(token);
        post.json(texts).send().await?.error_for_status()?;
    }
    Ok(())
}

/// Lets the browser's client be used from exactly these pages: a wildcard would also give no CORS at
/// the token endpoint.
async fn set_origins(
    http: &reqwest::Client,
    token: &str,
    realm: &str,
    origins: &[String],
) -> Result<()> {
    let clients = format!("{realm}/clients");
    let find = http.get(&clients).query(&[("clientId", WEB_CLIENT)]).bearer_auth(token);
    let mut found: Value = find.send().await?.error_for_status()?.json().await?;
    let client = &mut found[0];
    let id = client["id"].as_str().context("no client of the browser")?.to_owned();
    let pages = |path: &str| origins.iter().map(|origin| format!("{origin}{path}")).collect();
    let [first, out]: [Vec<String>; 2] = [pages("/"), pages("/signed-out")];
    client["redirectUris"] = json!(first);
    client["webOrigins"] = json!(origins);
    client["attributes"]["post.logout.redirect.uris"] = json!(out.join("##"));
    let put = http.put(format!("{clients}/{id}")).bearer_auth(token).json(client);
    put.send().await?.error_for_status()?;
    Ok(())
}

/// Gives the service account the roles that it has in the file.
async fn grant_roles(http: &reqwest::Client, token: &str, realm: &str, user: &Value) -> Result<()> {
    let read = async |path: String, query: &[(&str, &str)]| -> Result<Value> {
        let get = http.get(format!("{realm}{path}")).query(query).bearer_auth(token);
        Ok(get.send().await?.error_for_status()?.json().await?)
    };
    let id = |found: &Value| found[0]["id"].as_str().map(str::to_owned);
    let username = user["username"].as_str().context("a user name")?;
    let account = read("/users".to_owned(), &[("username", username), ("exact", "true")]).await?;
    let account = id(&account).context("no service account")?;
    for (client, wanted) in user["clientRoles"].as_object().into_iter().flatten() {
        let client = read("/clients".to_owned(), &[("clientId", client)]).await?;
        let client = id(&client).context("no such client")?;
        let roles = read(format!("/clients/{client}/roles"), &[]).await?;
        let roles: Vec<_> = roles
            .as_array()
            .into_iter()
            .flatten()
            .filter(|role| wanted.as_array().is_some_and(|names| names.contains(&role["name"])))
            .collect();
        let path = format!("{realm}/users/{account}/role-mappings/clients/{client}");
        http.post(path).bearer_auth(token).json(&roles).send().await?.error_for_status()?;
    }
    Ok(())
}
