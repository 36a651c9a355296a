//! Requests to one instance whose database is some way off. Their floor is the same statements by
//! pgbench over the same way, in as few round trips.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::database::Fleet;
use super::report::{Aim, Measure};
use super::requests::{ROUTES, Route, Script, pgbench, start, token};
use super::runtime::body;
use super::{Bench, milliseconds};

/// Requests per round.
const REQUESTS: u32 = 100;

/// There and back: on the same machine, in the same zone, in another zone, behind a proxy in
/// another zone.
const DISTANCES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
];

/// Measures each route at each distance.
pub(super) async fn run(bench: &Bench, fleet: &Fleet) -> Result<Vec<Measure>> {
    let step = bench.progress.step(format!("requests at a distance, over {}", fleet.rows));
    let issuer = bench.issuer().await?;
    let mut measures = Vec::new();
    for distance in DISTANCES {
        let port = delayed(bench.env.get("DATABASE_PORT")?.parse()?, distance / 2)?.to_string();
        for route in &ROUTES {
            let first = (route.event)(&token(&issuer, route.script.role, 1)?, 1);
            let function = start(bench, fleet, &issuer, (route.function, &port), &first).await?;
            let mut measure = Measure::new(
                format!("{}, database {} ms off", route.name, milliseconds(distance)),
                "ms",
                if is_far(route, distance) { Aim::AtMost(1.25) } else { Aim::None },
            );
            for _ in 0..bench.rounds {
                let token = token(&issuer, route.script.role, 1)?;
                let mut ours = Duration::ZERO;
                for number in 0..REQUESTS {
                    let (answer, took) = function.invoke((route.event)(&token, number)).await?;
                    body(&answer, 200)?;
                    ours += took;
                }
                let script = Script { sql: pipelined(&route.script.sql).into(), ..route.script };
                let floor = pgbench(bench, fleet, (&script, &port), 1, 1).await?;
                measure.push(milliseconds(ours / REQUESTS), milliseconds(floor.each));
            }
            function.stop().await?;
            measures.push(measure);
        }
    }
    step.done();
    Ok(measures)
}

fn is_far(route: &Route, distance: Duration) -> bool {
    route.script.name == "assign_tier" && distance == Duration::from_millis(1)
}

/// The statements in as few round trips as the rules allow: all that is read, then all that is
/// written with COMMIT.
fn pipelined(sql: &str) -> String {
    let mut lines = Vec::new();
    let (mut is_open, mut writes) = (false, false);
    for line in sql.lines() {
        if !is_open && !line.starts_with('\\') {
            lines.push("\\startpipeline");
            is_open = true;
        }
        if !writes && (line.starts_with("UPDATE") || line.starts_with("INSERT")) {
            writes = true;
            lines.extend(["\\endpipeline", "\\startpipeline"]);
        }
        lines.push(line);
    }
    lines.extend(["\\endpipeline", ""]);
    lines.join("\n")
}

/// A port before another one, behind which everything arrives so much later, each way. Threads,
/// because the runtime's clock ticks once a millisecond.
fn delayed(port: u16, delay: Duration) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let own = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
            for (from, to) in [(&client, &server), (&server, &client)] {
                if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                    carry(from, to, delay);
                }
            }
        }
    });
    Ok(own)
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (send, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if send.send((Instant::now() + delay, bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        to.set_nodelay(true).ok();
        for (at, bytes) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write).ok();
    });
}
