//! What holds of a transaction that does not wait for each answer (`shared::db::Transaction`): the
//! order of its statements, and that nothing half done stays, however it ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::future::join_all;
use futures::{join, try_join};
use serde_json::{Value, json};
use shared::base::caller::{Customer, Person};
use shared::base::ids::{DeviceId, TenantId};
use shared::db::{Db, Executor, execute, query, query_one};
use shared::domain::devices;
use shared::outside::secrets::{Role, Secrets};
use tests::api::Who;
use tests::proxy::Proxy;
use tests::{World, text};

const ACME: Who<'static> = Who::Customer("acme");

/// A pool of one connection through `proxy`.
async fn db(world: &World, role: Role) -> Db {
    let env = world.env(&[("DATABASE_POOL_SIZE", "1")]);
    let secrets = Secrets::read(&tests::aws(), &env, role).await.expect("the secret");
    let settings = shared::process::config::DatabaseSettings::from_env(&env).expect("settings");
    Db::new(settings, role.database_user().expect("a user"), secrets).expect("a pool")
}

/// A world with a table `notes` that every role may write.
async fn world() -> (World, Proxy) {
    let mut world = World::new().await;
    let sql = "CREATE TABLE notes (note text NOT NULL CHECK (note <> 'refused'));
               GRANT ALL ON notes TO PUBLIC";
    world.db.batch_execute(sql).await.expect("a table");
    let proxy = world.behind("DATABASE_PORT").await;
    (world, proxy)
}

async fn note(tx: &shared::db::Transaction, note: &str) -> shared::Result<()> {
    tx.write("INSERT INTO notes VALUES ($1)", &[&note]).await
}

async fn count(db: &impl Executor) -> i64 {
    query_one(db, "SELECT count(*) FROM notes", &[]).await.expect("a count").get(0)
}

#[tokio::test]
async fn a_transaction_waits_for_what_it_reads_and_for_its_commit() {
    let (world, proxy) = world().await;
    let db = db(&world, Role::System).await;
    let mut waits = Vec::new();
    for _ in 0..2 {
        let before = proxy.waits();
        let tx = db.begin().await.expect("a connection");
        note(&tx, "one").await.expect("sent");
        note(&tx, "two").await.expect("sent");
        let (first, second) = join!(count(&tx), count(&tx));
        assert_eq!(first, second);
        note(&tx, "three").await.expect("sent");
        tx.commit().await.expect("committed");
        waits.push(proxy.waits() - before);
    }
    assert_eq!(waits[1], 2, "the reading and the commit: {waits:?}");
    assert_eq!(world.count("notes").await, 6);
}

#[tokio::test]
async fn statements_run_in_the_order_of_their_first_poll_also_where_one_is_parsed_first() {
    let (world, _proxy) = world().await;
    let db = db(&world, Role::System).await;
    let counted = async |tx: &shared::db::Transaction| Ok(count(tx).await);
    counted(&db.begin().await.expect("a connection")).await.expect("parsed from now on");
    for nth in 0..50 {
        let tx = db.begin().await.expect("a connection");
        // A statement that this connection does not know yet, before one that it knows.
        let fresh = format!("INSERT INTO notes VALUES ('{nth}')");
        let (_, seen) = try_join!(execute(&tx, &fresh, &[]), counted(&tx)).expect("both");
        assert_eq!(seen, nth + 1);
        tx.commit().await.expect("committed");
    }
}

#[tokio::test]
async fn a_refused_statement_is_the_error_of_the_whole_and_nothing_stays() {
    let (world, _proxy) = world().await;
    let db = db(&world, Role::System).await;
    for nth in 0..2 {
        let tx = db.begin().await.expect("a connection");
        note(&tx, "refused").await.expect("sent");
        note(&tx, "after it").await.expect("sent");
        let error = tx.commit().await.expect_err("refused").to_string();
        assert!(error.contains("notes_note_check"), "{nth}: {error}");
        drop(tx);

        let tx = db.begin().await.expect("a connection");
        note(&tx, "refused").await.expect("sent");
        let error = query(&tx, "SELECT FROM notes", &[]).await.expect_err("refused").to_string();
        assert!(error.contains("notes_note_check"), "{nth}: {error}");
        let error = tx.commit().await.expect_err("nothing to commit").to_string();
        assert!(error.contains("nothing was committed"), "{nth}: {error}");
        drop(tx);

        let tx = db.begin().await.expect("a connection");
        let both = try_join!(query(&tx, "SELECT 1 / (SELECT 0)", &[]), tx.commit());
        assert!(both.expect_err("refused").to_string().contains("22012"), "{nth}");
        drop(tx);

        // Whoever did not look at the answer does not commit either.
        let tx = db.begin().await.expect("a connection");
        note(&tx, "before it").await.expect("sent");
        let mut lost = Box::pin(query(&tx, "SELECT 1 / (SELECT 0)", &[]));
        assert!(futures::poll!(lost.as_mut()).is_pending());
        drop(lost);
        tx.commit().await.expect_err("its answer is not known");
        drop(tx);

        let tx = db.begin().await.expect("a connection");
        tx.commit().await.expect("the connection is as new");
        tx.commit().await.expect_err("it has ended");
        note(&tx, "outside").await.expect_err("it has ended");
        drop(tx);
    }
    assert_eq!(world.count("notes").await, 0);
}

#[tokio::test]
async fn a_deleted_tenants_write_does_not_stay_though_nothing_was_read() {
    let (world, _proxy) = world().await;
    let db = db(&world, Role::Customer).await;
    let gone = TenantId::parse("gone").expect("an id");
    // Where a statement is to be parsed first, it is refused at once; later, only the commit is.
    for _ in 0..2 {
        let tx = shared::domain::tenants::session::begin(&db, &gone).await.expect("a connection");
        let ended = match note(&tx, "of nobody").await {
            Ok(()) => tx.commit().await,
            refused => refused,
        };
        assert_eq!(ended.expect_err("refused").code(), "tenant_deleted");
    }
    assert_eq!(world.count("notes").await, 0);
}

/// A subscription with two slots of tier 1 and a device on it.
async fn device(world: &mut World) {
    let tenant = "INSERT INTO tenants (tenant_id, name, billing_email)
                  VALUES ('acme', 'Acme', 'pay@acme.example')";
    world.db.batch_execute(tenant).await.expect("a tenant");
    let api = world.api().await;
    let body = json!({"tenant_id": "acme", "subscription_type": "MAIN", "plan_id": "pro",
        "device_limit": 10, "term_days": 365});
    let main = text(&api.create_subscription(body).await["subscription_id"]);
    let path = format!("/api/v1/operator/subscriptions/{main}/tier-allocations");
    api.write("POST", &path, json!({"tier_id": 1, "slot_limit": 2})).await.expect(201);
    api.send(ACME, "POST", "/api/v1/customer/devices", &[], Some(json!({"device_id": "D-1"})))
        .await
        .expect(201);
}

/// The device's tier, the slots that are counted, and the assignments that are audited.
async fn counted(world: &World) -> Value {
    world
        .row(
            "SELECT d.tier_id AS tier, a.slots_used AS used, (SELECT count(*)
             FROM subscription_audit WHERE event_type = 'DEVICE_TIER_ASSIGNED') AS audited
             FROM devices d JOIN subscription_tier_allocations a USING (subscription_id)
             WHERE d.device_id = 'D-1' AND a.tier_id = 1",
        )
        .await
}

fn nothing(audited: i64) -> Value {
    json!({"tier": null, "used": 0, "audited": audited})
}

fn assigned(audited: i64) -> Value {
    json!({"tier": 1, "used": 1, "audited": audited})
}

async fn take_back(world: &World) {
    let sql = "UPDATE devices SET tier_id = NULL; UPDATE subscription_tier_allocations
               SET slots_used = 0";
    world.db.batch_execute(sql).await.expect("taken back");
}

/// Jane of Acme gives the device tier 1.
async fn assign(db: &Db, world: &World) -> shared::Result<()> {
    let caller = Customer {
        person: Person { id: "jane".to_owned(), ip: None },
        tenant: TenantId::parse("acme").expect("an id"),
    };
    let id = DeviceId::parse("D-1").expect("an id");
    devices::customer::assign_tier(db, &caller, &id, 1, world.clock.now()).await.map(drop)
}

#[tokio::test]
async fn an_assignment_that_is_dropped_at_any_poll_leaves_all_or_nothing_and_a_clean_connection() {
    let mut world = World::new().await;
    device(&mut world).await;
    let db = db(&world, Role::Customer).await;
    let (mut audited, mut most) = (0, 1);
    loop {
        let mut work = Box::pin(assign(&db, &world));
        let mut polls = 0;
        let ended = poll_fn(|context| {
            polls += 1;
            match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if polls == most => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        drop(work);
        world.sessions_rest().await;
        // Whatever the connection was in the midst of, its next user is not in it.
        let connection = db.connection().await.expect("the connection");
        assert_eq!(query(&connection, "SELECT FROM devices", &[]).await.expect("rows").len(), 0);
        drop(connection);
        let now = counted(&world).await;
        if now == assigned(audited + 1) {
            audited += 1;
            take_back(&world).await;
        } else {
            assert_eq!(now, nothing(audited), "dropped after {most} polls");
        }
        if let Some(done) = ended {
            done.expect("assigned");
            break;
        }
        most += 1;
    }
    assert!(most > 3, "it was dropped {most} times");
    assert!(audited > 0);
}

#[tokio::test]
async fn an_assignment_that_is_cut_at_any_byte_leaves_all_or_nothing() {
    let mut world = World::new().await;
    device(&mut world).await;
    let proxy = world.behind("DATABASE_PORT").await;
    let afresh = async || db(&world, Role::Customer).await;
    let before = proxy.sent();
    assign(&afresh().await, &world).await.expect("assigned");
    let whole = proxy.sent() - before;
    take_back(&world).await;
    let (mut audited, mut cuts) = (1, [0, 0]);
    // From a connection's first byte to past its last: the names of statements become longer.
    for bytes in (1..whole + 400).step_by(23) {
        proxy.cut_after(bytes);
        let ended = assign(&afresh().await, &world).await;
        world.sessions_rest().await;
        let now = counted(&world).await;
        if now == assigned(audited + 1) {
            (audited, cuts[1]) = (audited + 1, cuts[1] + 1);
            take_back(&world).await;
        } else {
            assert_eq!(now, nothing(audited), "cut after {bytes} of {whole} bytes");
            ended.expect_err("nothing was done");
            cuts[0] += 1;
        }
    }
    assert!(cuts[0] > 20 && cuts[1] > 0, "{cuts:?} of {whole} bytes");
    proxy.pass();
    assign(&afresh().await, &world).await.expect("assigned");
    assert_eq!(counted(&world).await, assigned(audited + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_transactions_on_few_connections_keep_apart() {
    let (world, _proxy) = world().await;
    let db = Arc::new(db(&world, Role::System).await);
    let works = (0..200).map(|nth| {
        let db = db.clone();
        tokio::spawn(async move {
            let tx = db.begin().await.expect("a connection");
            note(&tx, &nth.to_string()).await.expect("sent");
            match nth % 4 {
                0 => tx.commit().await.expect("committed"),
                1 => drop(tx),
                2 => {
                    let slow = query(&tx, "SELECT pg_sleep(0.05)", &[]);
                    let limit = std::time::Duration::from_millis(1);
                    tokio::time::timeout(limit, slow).await.expect_err("slow");
                }
                _ => {
                    note(&tx, "refused").await.expect("sent");
                    tx.commit().await.expect_err("refused");
                }
            }
        })
    });
    for work in join_all(works).await {
        work.expect("no panic");
    }
    assert_eq!(world.count("notes").await, 50);
    assert_eq!(world.count("notes WHERE note::int % 4 <> 0").await, 0);
}
