use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const PAGE: &str = "http://localhost:3000";

async fn fake(smtp: Option<SocketAddr>) -> Fake {
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        realm: "pulse".to_owned(),
        client_id: "pulse-backend".to_owned(),
        client_secret: "secret".to_owned(),
        smtp,
        origins: vec![PAGE.to_owned()],
    };
    Fake::start(options).await.expect("a fake")
}

async fn token(fake: &Fake, form: &[(&str, &str)]) -> (u16, Value) {
    let url = format!("{}/protocol/openid-connect/token", fake.issuer());
    let answer = reqwest::Client::new().post(url).form(form).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

struct Admin {
    base: String,
    token: String,
}

impl Admin {
    async fn new(fake: &Fake) -> Self {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "pulse-backend"),
            ("client_secret", "secret"),
        ];
        let (_, answer) = token(fake, &form).await;
        let token = answer["access_token"].as_str().expect("a token").to_owned();
        Self { base: format!("{}/admin/realms/pulse", fake.base_url()), token }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let request = reqwest::Client::new()
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }
}

/// Returns the address that follows `start` in a page, up to the next quote and unescaped.
fn between(page: &str, start: &str) -> String {
    let rest = page.split_once(start).expect("the mark").1;
    rest.split('"').next().expect("the end").replace("&amp;", "&")
}

/// Returns the claims of a valid token. Checks it as a resource server does, through discovery and
/// the key set.
async fn verify(fake: &Fake, access: &str) -> Option<Value> {
    let read = async |url: String| {
        reqwest::get(url).await.expect("an answer").json::<Value>().await.expect("JSON")
    };
    let discovery = read(format!("{}/.well-known/openid-configuration", fake.issuer())).await;
    let keys = read(discovery["jwks_uri"].as_str().expect("a URL").to_owned()).await;
    let kid = jsonwebtoken::decode_header(access).expect("a header").kid.expect("a key id");
    let key = keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == kid)?;
    let field = |name: &str| key[name].as_str().expect("text").to_owned();
    let decoding = DecodingKey::from_rsa_components(&field("n"), &field("e")).expect("a key");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["pulse-api"]);
    validation.set_issuer(&[fake.issuer()]);
    Some(jsonwebtoken::decode::<Value>(access, &decoding, &validation).ok()?.claims)
}

#[tokio::test]
async fn a_provisioned_user_sets_a_password_and_gets_a_token_with_tenant_and_role() {
    let fake = fake(None).await;
    let admin = Admin::new(&fake).await;
    let user = json!({
        "username": "Ada@Example.com", "email": "Ada@Example.com", "enabled": true,
        "attributes": { "tenant_id": ["t1"], "undeclared": ["x"] },
    });
    assert_eq!(admin.call("POST", "/users", Some(user.clone())).await.0, 201);
    let (status, again) = admin.call("POST", "/users", Some(user)).await;
    assert_eq!((status, &again["errorMessage"]), (409, &json!("User exists with same username")));
    let (_, found) = admin.call("GET", "/users?email=ADA@example.com&exact=true", None).await;
    let id = found[0]["id"].as_str().expect("an id");
    assert_eq!(found[0]["attributes"], json!({ "tenant_id": ["t1"] }));

    let roles = format!("/users/{id}/role-mappings/realm");
    let (_, available) = admin.call("GET", &format!("{roles}/available"), None).await;
    let customer =
        available.as_array().expect("roles").iter().find(|role| role["name"] == "customer");
    let wrong = json!([{ "id": "other", "name": "customer" }]);
    assert_eq!(admin.call("POST", &roles, Some(wrong)).await.0, 404);
    assert_eq!(admin.call("POST", &roles, Some(json!([customer]))).await.0, 204);
    assert_eq!(admin.call("GET", &roles, None).await.1, json!([customer]));

    let log_in = async || {
        let form = [
            ("grant_type", "password"),
            ("client_id", PUBLIC_CLIENT),
            ("username", "ada@example.com"),
            ("password", "pass word"),
        ];
        token(&fake, &form).await
    };
    assert_eq!(log_in().await.1["error_description"], "Account is not fully set up");
    let mail = format!("/users/{id}/execute-actions-email?lifespan=3600");
    assert_eq!(admin.call("PUT", &mail, Some(json!(["UPDATE_PASSWORD"]))).await.0, 204);
    let user = fake.users().remove(0);
    assert_eq!(user.mails_sent, 1);
    let client = reqwest::Client::new();
    let read = async |url: String| {
        client.get(url).send().await.expect("a page").text().await.expect("text")
    };
    let page = read(user.last_link.clone().expect("a link")).await;
    let form = read(between(&page, "href=\"")).await;
    let fields = [("password-new", "pass word"), ("password-confirm", "pass word")];
    let done = client.post(between(&form, "action=\"")).form(&fields).send().await.expect("a page");
    assert_eq!(done.status(), 200);
    assert!(read(user.last_link.expect("a link")).await.contains("expired"));

    let (_, answer) = log_in().await;
    let claims = verify(&fake, answer["access_token"].as_str().expect("a token"))
        .await
        .expect("a good token");
    assert_eq!(claims["tenant_id"], "t1");
    assert_eq!(claims["realm_access"]["roles"], json!(["customer", "default-roles-pulse"]));
}

#[tokio::test]
async fn refused_calls_and_faults_get_keycloaks_errors() {
    let fake = fake(None).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "pulse-backend"),
        ("client_secret", "wrong"),
    ];
    let (status, body) = token(&fake, &form).await;
    assert_eq!((status, &body["error"]), (401, &json!("unauthorized_client")));
    let mut admin = Admin::new(&fake).await;
    assert_eq!(
        admin.call("GET", "/users/none", None).await,
        (404, json!({ "error": "User not found" }))
    );
    assert_eq!(admin.call("GET", "/nonsense", None).await.0, 404);
    fake.lose_answer_on("/users", 502);
    let user = json!({ "username": "ada", "email": "ada@example.com" });
    assert_eq!(admin.call("POST", "/users", Some(user)).await.0, 502);
    assert_eq!(fake.users().len(), 1);
    admin.token.push('x');
    assert_eq!(admin.call("GET", "/users", None).await.0, 401);
}

#[tokio::test]
async fn a_test_can_sign_any_claims() {
    let fake = fake(None).await;
    let mut claims = fake.claims(&["customer"], Some("t1"));
    assert_eq!(
        (&claims["tenant_id"], &claims["realm_access"]["roles"]),
        (&json!("t1"), &json!(["customer", "default-roles-pulse"]))
    );
    assert_ne!(fake.claims(&["customer"], Some("t1"))["sub"], claims["sub"]);
    assert_eq!(fake.claims(&["service"], None).get("tenant_id"), None);
    assert_eq!(verify(&fake, &fake.sign(&claims).expect("a token")).await.as_ref(), Some(&claims));
    claims["aud"] = json!(["other"]);
    assert_eq!(verify(&fake, &fake.sign(&claims).expect("a token")).await, None);
}

#[tokio::test]
async fn an_operator_admin_is_an_operator_too_in_every_token() {
    let fake = fake(None).await;
    let roles = json!(["default-roles-pulse", "operator", "operator_admin"]);
    assert_eq!(fake.claims(&["operator_admin"], None)["realm_access"]["roles"], roles);
    let password = Some("pass word".to_owned());
    let own = BTreeSet::from(["operator_admin".to_owned()]);
    let id = fake.add_user(User {
        username: "ada".to_owned(),
        enabled: true,
        password,
        roles: own,
        ..User::default()
    });
    let form = [
        ("grant_type", "password"),
        ("client_id", PUBLIC_CLIENT),
        ("username", "ada"),
        ("password", "pass word"),
    ];
    let (_, answer) = token(&fake, &form).await;
    let claims = verify(&fake, answer["access_token"].as_str().expect("a token"))
        .await
        .expect("a good token");
    assert_eq!(claims["realm_access"]["roles"], roles);
    let (_, mapped) = Admin::new(&fake)
        .await
        .call("GET", &format!("/users/{id}/role-mappings/realm"), None)
        .await;
    assert_eq!(
        (&mapped[0]["name"], &mapped[0]["composite"], &mapped[1]),
        (&json!("operator_admin"), &json!(true), &Value::Null)
    );
}

#[tokio::test]
async fn a_rotated_key_stays_published_until_it_is_retired() {
    let fake = fake(None).await;
    let admin = Admin::new(&fake).await;
    let claims = fake.claims(&["operator"], None);
    let old = fake.sign(&claims).expect("a token");
    fake.rotate_key().expect("a key");
    let new = fake.sign(&claims).expect("a token");
    assert_ne!(
        jsonwebtoken::decode_header(&old).expect("a header").kid,
        jsonwebtoken::decode_header(&new).expect("a header").kid
    );
    assert!(verify(&fake, &old).await.is_some() && verify(&fake, &new).await.is_some());
    assert_eq!(admin.call("GET", "/users", None).await.0, 200);

    fake.retire_old_keys();
    assert_eq!((verify(&fake, &old).await, verify(&fake, &new).await), (None, Some(claims)));
    assert_eq!(admin.call("GET", "/users", None).await.0, 401);
    assert_eq!(Admin::new(&fake).await.call("GET", "/users", None).await.0, 200);
}

#[tokio::test]
async fn the_users_of_a_tenant_are_found_page_by_page() {
    let fake = fake(None).await;
    for (username, tenant) in [("b", "t1"), ("d", "t10"), ("c", "t1"), ("a", "t1"), ("e", "")] {
        let attributes = BTreeMap::from([("tenant_id".to_owned(), vec![tenant.to_owned()])]);
        let _ =
            fake.add_user(User { username: username.to_owned(), attributes, ..User::default() });
    }
    let admin = Admin::new(&fake).await;
    let names = async |query: &str| {
        let (_, found) = admin.call("GET", &format!("/users?{query}"), None).await;
        found
            .as_array()
            .expect("users")
            .iter()
            .map(|user| user["username"].as_str().expect("a name"))
            .collect::<String>()
    };
    assert_eq!(names("q=tenant_id:t1&max=2&briefRepresentation=false").await, "ab");
    assert_eq!(names("q=tenant_id:t1&first=2&max=2").await, "c");
    assert_eq!(names("q=tenant_id:t").await, "");
    assert_eq!(names("q=tenant_id:t1&username=b&exact=true").await, "b");
}

#[tokio::test]
async fn disabling_a_user_and_resetting_its_password_change_nothing_else() {
    let fake = fake(None).await;
    let user = json!({
        "username": "ada@example.com", "email": "ada@example.com", "firstName": "Ada",
        "lastName": "L", "enabled": true, "emailVerified": true,
        "attributes": { "tenant_id": ["t1"] }, "requiredActions": ["UPDATE_PASSWORD"],
    });
    let admin = Admin::new(&fake).await;
    assert_eq!(admin.call("POST", "/users", Some(user)).await.0, 201);
    let path = format!("/users/{}", fake.users().remove(0).id);
    let (_, mut expected) = admin.call("GET", &path, None).await;

    assert_eq!(admin.call("PUT", &path, Some(json!({ "enabled": false }))).await.0, 204);
    expected["enabled"] = json!(false);
    assert_eq!(admin.call("GET", &path, None).await.1, expected);

    let reset = format!("{path}/reset-password");
    assert_eq!(admin.call("PUT", &reset, Some(json!({ "type": "password" }))).await.0, 400);
    let credential = json!({ "type": "password", "value": "pass word", "temporary": false });
    assert_eq!(admin.call("PUT", &reset, Some(credential)).await.0, 204);
    expected["requiredActions"] = json!([]);
    assert_eq!(admin.call("GET", &path, None).await.1, expected);
    let form = [
        ("grant_type", "password"),
        ("client_id", PUBLIC_CLIENT),
        ("username", "ada@example.com"),
        ("password", "pass word"),
    ];
    assert_eq!(token(&fake, &form).await.1["error_description"], "Account disabled");
}

/// Starts an SMTP server that accepts one mail and returns its lines.
async fn sink() -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mail = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        let (reader, mut writer) = socket.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut mail = Vec::new();
        let mut in_data = false;
        writer.write_all(b"220 sink\r\n").await.expect("sent");
        while let Some(line) = lines.next_line().await.expect("a line") {
            let reply = match line.as_str() {
                "DATA" => "354 go on\r\n",
                "." => "250 taken\r\n",
                "QUIT" => break,
                _ if in_data => "",
                _ => "250 ok\r\n",
            };
            in_data = line == "DATA" || in_data && line != ".";
            if line == "." {
                writer.write_all(reply.as_bytes()).await.expect("sent");
                break;
            }
            mail.push(line);
            writer.write_all(reply.as_bytes()).await.expect("sent");
        }
        mail
    });
    (address, mail)
}

#[tokio::test]
async fn the_action_mail_is_sent_over_smtp_and_a_failure_is_an_error_response() {
    let (address, mail) = sink().await;
    let fake = fake(Some(address)).await;
    let email = Some("ada@example.com".to_owned());
    let id =
        fake.add_user(User { username: "ada".to_owned(), email, enabled: true, ..User::default() });
    let admin = Admin::new(&fake).await;
    let path = format!("/users/{id}/execute-actions-email");
    assert_eq!(admin.call("PUT", &path, Some(json!(["UPDATE_PASSWORD"]))).await.0, 204);
    let link = fake.users().remove(0).last_link.expect("a link");
    let mail = mail.await.expect("a mail");
    assert!(mail.contains(&link) && mail.contains(&"To: ada@example.com".to_owned()), "{mail:#?}");
    let (status, refused) = admin.call("PUT", &path, Some(json!(["UPDATE_PASSWORD"]))).await;
    let expected = json!({ "errorMessage": "Failed to send execute actions email" });
    assert_eq!((status, refused), (500, expected));
    assert_eq!(fake.users().remove(0).mails_sent, 1);
}

#[tokio::test]
async fn an_organization_is_one_of_its_name_and_alias_and_an_update_clears_what_it_omits() {
    let fake = fake(None).await;
    let admin = Admin::new(&fake).await;
    let user = fake.add_user(User { username: "ada".to_owned(), ..User::default() });
    let make = async |name: &str, alias: &str| {
        let body = json!({ "name": name, "alias": alias, "domains": [{ "name": "acme.example" }] });
        admin.call("POST", "/organizations", Some(body)).await.0
    };
    assert_eq!(make("Acme", "acme").await, 201);
    assert_eq!(make("Acme", "other").await, 409);
    assert_eq!(make("Other", "acme").await, 409);
    assert_eq!(make(" ", "blank").await, 400);
    let (_, found) = admin.call("GET", "/organizations?q=alias:acme", None).await;
    assert_eq!(found.as_array().map(Vec::len), Some(1));
    let path = format!("/organizations/{}", found[0]["id"].as_str().expect("an id"));
    let members = format!("{path}/members");
    assert_eq!(admin.call("POST", &members, Some(json!(user))).await.0, 201);
    assert_eq!(admin.call("POST", &members, Some(json!(user))).await.0, 409);
    assert_eq!(admin.call("POST", &members, Some(json!("nobody"))).await.0, 404);
    assert_eq!(admin.call("GET", &members, None).await.1[0]["username"], "ada");
    let put = async |body: Value| admin.call("PUT", &path, Some(body)).await.0;
    assert_eq!(put(json!({ "name": "Acme", "alias": "changed" })).await, 400);
    assert_eq!(put(json!({ "name": "Acme Ltd", "alias": "acme" })).await, 204);
    let (_, found) = admin.call("GET", "/organizations?q=alias:acme", None).await;
    assert_eq!(found[0]["name"], "Acme Ltd");
    assert_eq!(found[0]["domains"], Value::Null);
    fake.switch_organizations(false);
    assert_eq!(admin.call("GET", "/organizations", None).await.0, 404);
}

/// A browser that follows no redirect, and keeps no cookie by itself.
async fn visit(request: reqwest::RequestBuilder) -> (u16, String, String, String) {
    let answer = request.send().await.expect("an answer");
    let header = |name: &str| {
        let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (status, location, cookie) =
        (answer.status().as_u16(), header("location"), header("set-cookie"));
    (status, location, cookie, answer.text().await.unwrap_or_default())
}

#[tokio::test]
async fn a_browser_logs_in_by_code_and_verifier_and_its_session_ends_with_the_logout() {
    let fake = fake(None).await;
    let _ = fake.add_user(User {
        username: "jane@acme.example".to_owned(),
        email: Some("jane@acme.example".to_owned()),
        enabled: true,
        password: Some("secret".to_owned()),
        ..User::default()
    });
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let http = http.build().expect("a client");
    // RFC 7636, appendix B.
    let (verifier, challenge) = (
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    );
    let back = format!("{PAGE}/");
    let ask = |redirect: &str| {
        let url = format!("{}/protocol/openid-connect/auth", fake.issuer());
        let query = [
            ("client_id", WEB_CLIENT),
            ("redirect_uri", redirect),
            ("response_type", "code"),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
            ("state", "s"),
        ];
        reqwest::Url::parse_with_params(&url, &query).expect("an address")
    };
    let (status, ..) = visit(http.get(ask("http://localhost:3000/other"))).await;
    assert_eq!(status, 400, "a page that is not exactly allowed");
    let (status, _, _, page) = visit(http.get(ask(&back))).await;
    assert_eq!((status, page.contains("kc-form-login")), (200, true), "{page}");
    let form = |password| [("username", "jane@acme.example"), ("password", password)];
    let (_, location, _, page) = visit(http.post(ask(&back)).form(&form("wrong"))).await;
    assert_eq!((location.as_str(), page.contains("Invalid user")), ("", true), "{page}");

    let (_, location, cookie, _) = visit(http.post(ask(&back)).form(&form("secret"))).await;
    let code = |location: &str| location.rsplit("code=").next().unwrap_or_default().to_owned();
    let exchange = async |code: &str, verifier: &str| {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", WEB_CLIENT),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", &back),
        ];
        token(&fake, &form).await
    };
    assert_eq!(exchange(&code(&location), "another").await.0, 400);
    assert_eq!(exchange(&code(&location), verifier).await.0, 400, "a code counts once");
    let cookie = cookie.split(';').next().unwrap_or_default();
    let again = http.get(ask(&back)).header("cookie", cookie);
    let (_, location, ..) = visit(again).await;
    let (status, tokens) = exchange(&code(&location), verifier).await;
    assert_eq!(status, 200, "{tokens}");
    let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
    let refreshing =
        [("grant_type", "refresh_token"), ("client_id", WEB_CLIENT), ("refresh_token", refresh)];
    assert_eq!(token(&fake, &refreshing).await.0, 200);

    let out = format!("{}/protocol/openid-connect/logout", fake.issuer());
    let out = reqwest::Url::parse_with_params(
        &out,
        [("post_logout_redirect_uri", format!("{PAGE}/signed-out"))],
    );
    let (_, location, ..) =
        visit(http.get(out.expect("an address")).header("cookie", cookie)).await;
    assert_eq!(location, format!("{PAGE}/signed-out"));
    assert_eq!(token(&fake, &refreshing).await.0, 400, "the session is over");
}
