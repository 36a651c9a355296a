//! A function's release binary as a child process under a Lambda runtime interface of ours (AWS,
//! "Using the Lambda runtime API"). Each instance has a listener, which reads and writes HTTP by
//! hand, so that the function is measured and not this side.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use simulators::lambda::http_event;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How long a rate is measured for.
pub(super) const SECONDS: u32 = 4;
/// No invocation of a benchmark takes longer.
const LIMIT: Duration = Duration::from_mins(15);

type Answer = oneshot::Sender<Result<Vec<u8>>>;
type Work = (Vec<u8>, Answer);

/// One running instance of a function.
pub(super) struct Instance {
    child: Child,
    pid: u32,
    work: mpsc::UnboundedSender<Work>,
    /// From the start of the process to its first answer.
    pub first_answer: Duration,
    /// The first answer.
    pub first: Vec<u8>,
}

impl Instance {
    /// Starts an instance with these settings, and waits for its answer to a first event.
    pub(super) async fn start(
        program: &Path,
        settings: &[(String, String)],
        first: Vec<u8>,
        log: &Path,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (work, queue) = mpsc::unbounded_channel();
        tokio::spawn(serve(listener, queue));
        let log = fs::File::options().create(true).append(true).open(log)?;
        let name = program.file_name().unwrap_or_default();
        let mut command = Command::new(program);
        command.env_clear().envs(settings.iter().map(|(name, value)| (name, value)));
        command
            .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}"))
            .env("AWS_LAMBDA_FUNCTION_NAME", name);
        command
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256");
        command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log).kill_on_drop(true);
        let (answer, answered) = oneshot::channel();
        work.send((first, answer)).ok().context("the runtime interface has ended")?;
        let began = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("a process that has just started has an id")?;
        let first = tokio::select! {
            answered = answered => answered.context("no answer")??,
            status = child.wait() => bail!("{} ended ({}) before its first answer",
                program.display(), status?),
        };
        Ok(Self { child, pid, work, first_answer: began.elapsed(), first })
    }

    /// Sends an event; returns the answer, and how long it took.
    pub(super) async fn invoke(&self, event: Vec<u8>) -> Result<(Vec<u8>, Duration)> {
        let (answer, answered) = oneshot::channel();
        let began = Instant::now();
        self.work.send((event, answer)).ok().context("the runtime interface has ended")?;
        let answer = tokio::time::timeout(LIMIT, answered)
            .await
            .context("no answer in time")?
            .context("the function is gone")??;
        Ok((answer, began.elapsed()))
    }

    /// The processor time of the process.
    pub(super) fn processor(&self) -> Result<Duration> {
        processor(self.pid)
    }

    /// Its memory now and at its peak, in KiB: `VmRSS` and `VmHWM` of proc(5).
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| format!("no {name} in /proc"))?;
            line.split_whitespace()
                .next()
                .unwrap_or_default()
                .parse::<u64>()
                .context("no number in /proc")
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Kills the process, and waits for its end.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end a function")
    }
}

/// Invokes each instance with its events, one after the other, for `SECONDS`. Returns how many per
/// second all of them answered, where each event counts as `many`. Stops with an error at an answer
/// that fails the check.
pub(super) async fn invoke_at_once<E>(
    instances: &mut Vec<Instance>,
    many: u32,
    events: impl IntoIterator<Item = E>,
    check: fn(&[u8]) -> Result<()>,
) -> Result<f64>
where
    E: Fn(u32) -> Vec<u8> + Send + 'static,
{
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (instance, event) in instances.drain(..).zip(events) {
        running.spawn(async move {
            let mut number = 0;
            while began.elapsed() < Duration::from_secs(SECONDS.into()) {
                check(&instance.invoke(event(number)).await?.0)?;
                number += 1;
            }
            anyhow::Ok((instance, number))
        });
    }
    let mut total: u32 = 0;
    while let Some(ended) = running.join_next().await {
        let (instance, number) = ended??;
        instances.push(instance);
        total += number;
    }
    Ok(super::rate(total * many, began.elapsed()))
}

/// Starts a server that answers each request at once with the JSON that `answer` makes of its head
/// and body; returns its address.
pub(super) async fn serve_json(
    answer: impl Fn(&str, &[u8]) -> Result<Value> + Send + Sync + 'static,
) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let served = async move {
                connection.set_nodelay(true)?;
                let mut read = Vec::new();
                loop {
                    let (head, body) = request(&mut connection, &mut read).await?;
                    let body = answer(&head, &body)?.to_string();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \
                         {}\r\n\r\n",
                        body.len()
                    );
                    connection.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
                }
            };
            // It ends when the function closes the connection.
            tokio::spawn(async move { drop::<Result<()>>(served.await) });
        }
    });
    Ok(address)
}

/// The processor time of a process, all threads together.
pub(super) fn processor(pid: u32) -> Result<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end in the meantime.
        let used = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        total += used
            .split_whitespace()
            .next()
            .and_then(|nanoseconds| nanoseconds.parse::<u64>().ok())
            .unwrap_or_default();
    }
    Ok(Duration::from_nanos(total))
}

struct Interface {
    queue: Mutex<mpsc::UnboundedReceiver<Work>>,
    open: std::sync::Mutex<HashMap<u64, Answer>>,
    number: AtomicU64,
}

async fn serve(listener: TcpListener, queue: mpsc::UnboundedReceiver<Work>) {
    let interface = Arc::new(Interface {
        queue: Mutex::new(queue),
        open: std::sync::Mutex::default(),
        number: AtomicU64::new(1),
    });
    while let Ok((connection, _)) = listener.accept().await {
        let interface = Arc::clone(&interface);
        // A function that ends closes its connection.
        tokio::spawn(async move { drop(interface.talk(connection).await) });
    }
}

impl Interface {
    async fn talk(&self, mut connection: TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        let mut read = Vec::new();
        loop {
            let (head, body) = request(&mut connection, &mut read).await?;
            if head.starts_with("GET ") {
                let Some((event, answer)) = self.queue.lock().await.recv().await else {
                    return Ok(());
                };
                let number = self.number.fetch_add(1, Ordering::Relaxed);
                self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answer);
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: \
                     application/json\r\nlambda-runtime-aws-request-id: {number}\r\n\
                     lambda-runtime-deadline-ms: \
                     9999999999999\r\nlambda-runtime-invoked-function-arn: \
                     arn:aws:lambda:us-east-1:0:function:bench\r\n\
                     content-length: {}\r\n\r\n",
                    event.len()
                );
                connection.write_all(&[head.as_bytes(), &event].concat()).await?;
                continue;
            }
            let path = head.split(' ').nth(1).unwrap_or_default();
            let number = path.split('/').rev().nth(1).and_then(|number| number.parse::<u64>().ok());
            let answer = number.and_then(|number| {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
            });
            if let Some(answer) = answer {
                let outcome = if path.ends_with("/response") {
                    Ok(body)
                } else {
                    Err(anyhow::anyhow!("{}", String::from_utf8_lossy(&body)))
                };
                // After the time limit, no one waits for the answer.
                drop(answer.send(outcome));
            }
            connection.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await?;
        }
    }
}

/// Reads the head and body of a request; bytes that follow it stay in `read`.
pub(super) async fn request(
    connection: &mut TcpStream,
    read: &mut Vec<u8>,
) -> Result<(String, Vec<u8>)> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(connection.read_buf(read).await? > 0, "closed");
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let lower = head.to_ascii_lowercase();
    ensure!(!lower.contains("\r\ntransfer-encoding:"), "a streamed answer");
    let length = lower
        .split("\r\ncontent-length:")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .map_or(Ok(0), |length| length.trim().parse::<usize>())?;
    while read.len() < end + length {
        ensure!(connection.read_buf(read).await? > 0, "closed");
    }
    let body = read[end..end + length].to_vec();
    read.drain(..end + length);
    Ok((head, body))
}

/// The event of a request with this token, as a function gets it.
pub(super) fn call(method: &str, target: &str, token: Option<&str>, body: Option<&str>) -> Vec<u8> {
    let token = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = token
        .iter()
        .map(|token| ("authorization", token.as_str()))
        .chain([("content-type", "application/json")])
        .collect();
    http_event(method, target, &headers, body).to_string().into_bytes()
}

/// The body of the answer to such a request; an error if it has another status.
pub(super) fn body(answer: &[u8], status: u16) -> Result<String> {
    let answer: Value = serde_json::from_slice(answer).context("an answer that is not JSON")?;
    ensure!(answer["statusCode"] == status, "answered {answer}, not {status}");
    Ok(answer["body"].as_str().unwrap_or_default().to_owned())
}
