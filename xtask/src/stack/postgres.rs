//! `PostgreSQL`. As in a deployment, passwords are checked and the owner is not a superuser, so
//! that row-level security holds for every role.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use tokio::process::Command;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;

use super::Starting;
use crate::process::run_logged;
use crate::tools::Tools;

/// Starts the server, migrates and seeds; returns a connection as the owner.
pub(super) async fn start(stack: &Starting<'_>, tools: &Tools) -> Result<Client> {
    let step = stack.progress.step("PostgreSQL, migrations, seed");
    let bin = tools.postgres()?;
    let data = stack.state.join("postgres");
    if !data.join("PG_VERSION").exists() {
        initialise(stack, &bin, &data).await?;
    }
    let mut server = command(stack.state, &bin.join("postgres"))?;
    server.arg("-D").arg(&data).args([
        "-h",
        "127.0.0.1",
        "-k",
        "",
        "-p",
        &stack.ports.postgres.to_string(),
    ]);
    // A developer's data may be lost with the machine's power; waiting for the disk at every commit
    // would cost more.
    server.args(["-c", "fsync=off", "-c", "max_connections=200", "-c", "timezone=UTC"]);
    stack.supervisor.start("postgres", &mut server)?;
    let superuser = config(stack, "dev", &stack.credentials.superuser, "postgres");
    stack
        .supervisor
        .ready("postgres", Duration::from_secs(30), || async { connect(&superuser).await.is_ok() })
        .await?;
    create_database(&connect(&superuser).await?, &stack.credentials.owner).await?;

    let mut owner =
        connect(&config(stack, "pulse_owner", &stack.credentials.owner, "pulse")).await?;
    migrate::migrations::run(&mut owner).await.context("migrations")?;
    let passwords = &stack.credentials;
    for (role, password) in [
        ("pulse_system", &passwords.system),
        ("pulse_operator", &passwords.operator),
        ("pulse_app", &passwords.customer),
    ] {
        migrate::migrations::set_password(&owner, role, password)
            .await
            .with_context(|| format!("password of {role}"))?;
    }
    let seed = stack.root.join("xtask/stack/dev-seed.sql");
    let sql =
        fs::read_to_string(&seed).with_context(|| format!("cannot read {}", seed.display()))?;
    owner.batch_execute(&sql).await.with_context(|| format!("seed {}", seed.display()))?;
    step.done();
    Ok(owner)
}

async fn initialise(stack: &Starting<'_>, bin: &Path, data: &Path) -> Result<()> {
    // Under another name until it is complete: initdb refuses what an interrupted start left.
    let draft = stack.state.join("postgres.draft");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    let password = stack.state.join("initdb.password");
    let mut file =
        fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&password)?;
    file.write_all(stack.credentials.superuser.as_bytes())?;
    let mut initdb = command(stack.state, &bin.join("initdb"))?;
    initdb.arg("-D").arg(&draft).arg(format!("--pwfile={}", password.display()));
    initdb.args([
        "-U",
        "dev",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        // As docs/data.md has it: the server's own, alike on every machine.
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-sync",
    ]);
    let done = run_logged("initdb", &mut initdb, &stack.supervisor.log("initdb")).await;
    fs::remove_file(&password)?;
    done?;
    fs::rename(&draft, data).with_context(|| format!("cannot create {}", data.display()))
}

/// `PostgreSQL` refuses to run as root. If xtask runs as root, a user namespace gives the server
/// another user id for the same files.
fn command(state: &Path, program: &Path) -> Result<Command> {
    if fs::metadata(state)?.uid() != 0 {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(program);
    Ok(command)
}

fn config(stack: &Starting<'_>, user: &str, password: &str, database: &str) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(stack.ports.postgres)
        .user(user)
        .password(password)
        .dbname(database);
    config.connect_timeout(Duration::from_secs(5)).application_name("xtask");
    config
}

/// Connects without TLS, to a database on this machine.
pub(crate) async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    // The client's next call returns its error.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

async fn create_database(superuser: &Client, owner_password: &str) -> Result<()> {
    if superuser
        .query_opt("SELECT FROM pg_roles WHERE rolname = 'pulse_owner'", &[])
        .await?
        .is_none()
    {
        // CREATE ROLE takes no parameters; the password is hexadecimal digits that xtask chose.
        let create = format!(
            "CREATE ROLE pulse_owner LOGIN CREATEROLE CREATEDB NOSUPERUSER NOBYPASSRLS PASSWORD
             '{owner_password}'"
        );
        superuser.batch_execute(&create).await?;
    }
    if superuser.query_opt("SELECT FROM pg_database WHERE datname = 'pulse'", &[]).await?.is_none()
    {
        superuser.batch_execute("CREATE DATABASE pulse OWNER pulse_owner").await?;
    }
    Ok(())
}
