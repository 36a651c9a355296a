//! How the functions connect to the database: TLS, passwords, time limits, migrations.

use std::sync::Arc;

use futures::future::join_all;
use migrate::Migrate;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use shared::outside::secrets::Role;
use tests::{World, connect, stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_migrate_function_runs_many_times_at_once_and_one_does_the_work() {
    let world = World::new().await;
    let empty = format!("{}_empty", world.settings["DATABASE_NAME"]);
    connect("postgres")
        .await
        .batch_execute(&format!("CREATE DATABASE {empty}"))
        .await
        .expect("a database");
    let env = world.env(&[("DATABASE_NAME", &empty)]);
    let runs = join_all((0..4).map(|_| async {
        Migrate::start(&env).await.expect("started").handle(0).await.expect("a run")
    }))
    .await;
    let applied: Vec<_> = runs
        .iter()
        .filter_map(|answer| answer["applied"].as_u64())
        .filter(|applied| *applied > 0)
        .collect();
    assert_eq!(applied.len(), 1, "{runs:?}");
    // Roles belong to the cluster: here from two databases at once, many times.
    let (here, there) = (connect(&empty).await, connect(&world.settings["DATABASE_NAME"]).await);
    let aws = tests::aws();
    let secrets = shared::outside::secrets::Secrets::read(&aws, &env, Role::System)
        .await
        .expect("the secret");
    let password = secrets.database_password().expect("a password");
    for _ in 0..20 {
        let both = tokio::join!(
            migrate::migrations::set_password(&here, "pulse_system", &password),
            migrate::migrations::set_password(&there, "pulse_system", &password)
        );
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    }
    let settings: Vec<String> = here
        .query_one(
            "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'pulse_system'::regrole",
            &[],
        )
        .await
        .expect("the role's settings")
        .get(0);
    assert!(
        settings.contains(&"idle_session_timeout=5min".to_owned()),
        "a frozen instance keeps its connection: {settings:?}"
    );
}

/// A proxy that ends TLS as a managed database does: the client must ask for TLS, and check the
/// certificate and its name.
async fn tls_front(names: &[&str]) -> (u16, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a config");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let database = format!("{}:{}", stack("DATABASE_HOST"), stack("DATABASE_PORT"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, database) = (acceptor.clone(), database.clone());
            tokio::spawn(async move {
                // SSLRequest, as PostgreSQL's protocol has it: length 8, code 80877103.
                let mut request = [0; 8];
                client.read_exact(&mut request).await?;
                if request != [0, 0, 0, 8, 4, 210, 22, 47] {
                    return Ok(());
                }
                client.write_all(b"S").await?;
                let mut inside = acceptor.accept(client).await?;
                let mut outside = TcpStream::connect(database).await?;
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await.map(drop)
            });
        }
    });
    (port, certified.cert.pem())
}

#[tokio::test]
async fn tls_is_used_and_the_certificate_and_its_name_are_checked() {
    let world = World::new().await;
    let (port, certificate) = tls_front(&["localhost"]).await;
    let file = std::env::temp_dir().join(format!("{}.pem", world.settings["DATABASE_NAME"]));
    std::fs::write(&file, certificate).expect("written");
    let ca_file = file.to_str().expect("a path");
    let port = port.to_string();
    let secure = [
        ("DATABASE_SSLMODE", "verify-full"),
        ("DATABASE_PORT", port.as_str()),
        ("DATABASE_CA_FILE", ca_file),
    ];
    let connect = async |settings: &[(&str, &str)]| {
        let env = world.env(settings);
        let secrets = shared::outside::secrets::Secrets::read(&tests::aws(), &env, Role::System)
            .await
            .expect("the secret");
        let db = shared::db::Db::new(
            shared::process::config::DatabaseSettings::from_env(&env).expect("settings"),
            "pulse_system",
            secrets,
        )
        .expect("a pool");
        db.connection().await.map(drop)
    };
    connect(&[&secure[..], &[("DATABASE_HOST", "localhost")]].concat())
        .await
        .expect("trusted and of this name");
    let refused = [
        ("another name", [&secure[..], &[("DATABASE_HOST", "127.0.0.1")]].concat()),
        ("an unknown issuer", vec![secure[0], secure[1], ("DATABASE_HOST", "localhost")]),
        ("a server without TLS", vec![secure[0], ("DATABASE_HOST", "localhost")]),
    ];
    for (name, settings) in refused {
        assert!(connect(&settings).await.is_err(), "{name}");
    }
    std::fs::remove_file(&file).expect("removed");
}

/// A password rotated in Secrets Manager and the database is picked up by a running function.
#[tokio::test]
async fn a_rotated_database_password_is_read_again() {
    let world = World::new().await;
    let aws = tests::aws();
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    let name = &world.settings["DATABASE_NAME"];
    let prefix = format!("{name}/");
    let secret = |password: &str| json!({"DATABASE_PASSWORD": password}).to_string();
    // A role of this test's own, so that no other test's password changes.
    world
        .db
        .batch_execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'first'"))
        .await
        .expect("a role");
    manager
        .create_secret()
        .name(format!("{prefix}system"))
        .secret_string(secret("first"))
        .send()
        .await
        .expect("a secret");
    let env = world.env(&[("SECRETS_PREFIX", &prefix)]);
    let secrets = shared::outside::secrets::Secrets::read_with(
        &aws,
        &env,
        Role::System,
        std::time::Duration::ZERO,
    )
    .await
    .expect("the secret");
    let db = shared::db::Db::new(
        shared::process::config::DatabaseSettings::from_env(&env).expect("settings"),
        name.as_str(),
        secrets,
    )
    .expect("a pool");
    let first = db.connection().await.expect("the first password");
    world.db.batch_execute(&format!("ALTER ROLE {name} PASSWORD 'second'")).await.expect("rotated");
    manager
        .put_secret_value()
        .secret_id(format!("{prefix}system"))
        .secret_string(secret("second"))
        .send()
        .await
        .expect("rotated");
    // The connection that the instance holds ends, as at a fail-over.
    assert!(first.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await.is_err());
    drop(first);
    drop(db.connection().await.expect("the second password"));
}

/// What does not come to a word in time is ended, and its connection, which may hang for ever, is
/// not used again.
#[tokio::test]
async fn a_connection_that_does_not_answer_in_time_is_given_up() {
    let world = World::new().await;
    let env = world.env(&[("DATABASE_POOL_SIZE", "1")]);
    let secrets = shared::outside::secrets::Secrets::read(&tests::aws(), &env, Role::System)
        .await
        .expect("the secret");
    let db = shared::db::Db::new(
        shared::process::config::DatabaseSettings::from_env(&env).expect("settings"),
        "pulse_system",
        secrets,
    )
    .expect("a pool");
    let pid = async || {
        db.connection()
            .await
            .expect("a connection")
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .expect("a number")
            .get::<_, i32>(0)
    };
    let first = pid().await;
    assert_eq!(pid().await, first, "kept while it is well");
    let sleep = async { Ok(db.connection().await?.execute("SELECT pg_sleep(3)", &[]).await?) };
    let error =
        db.bounded(std::time::Duration::from_millis(100), sleep).await.expect_err("too slow");
    assert!(error.is_transient(), "{error}");
    assert_ne!(pid().await, first);
}
