//! The client: what it asks, and what came of it. It is in the pod's network, and on the processor that is not measured.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::backend::BODY;
use super::measure;

/// Connections of HTTP/1.1, and calls at a time of gRPC, of which so many share a connection.
const CONNECTIONS: usize = 32;
const STREAMS: usize = 8;
/// How long is measured, and how long is only asked before: for connections and caches.
const TIME: Duration = Duration::from_secs(3);
const WARM: Duration = Duration::from_millis(700);
/// Requests a second where latency is measured: what each of the sides can do.
pub(super) const PACE: u32 = 2000;
/// Longer than any answer takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any work of a client takes, if it comes to an end: that a proxy stops answering is to be told.
const LIMIT: Duration = Duration::from_secs(180);
/// The same of who only looks whether it answers, and looks again.
const SOON: Duration = Duration::from_secs(5);

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: web.default.svc.cluster.local\r\nUser-Agent: bench\r\nAccept: */*\r\n\
      Accept-Encoding: gzip\r\nX-Request-Id: 5f0c7a52-6c7e-4a4a-9c51-3a1f5a6f3c11\r\n\r\n";
/// What is in a request, and in an answer and in bytes as they are sent, and in nothing that is encrypted.
pub(super) const MARKS: [&[u8]; 2] = [b"5f0c7a52-6c7e-4a4a-9c51", &[b'x'; 64]];
/// What policies let nobody ask.
const REFUSED: &[u8] = b"GET /other HTTP/1.1\r\nHost: web.default.svc.cluster.local\r\n\r\n";
const CALL: &str = "http://rpc.default.svc.cluster.local/bench.Shop/Order";

/// What a request, a call or 1 GB cost, and how many there were a second.
pub(super) struct Cost {
    /// Microseconds of CPU time for each request, seconds for each GB.
    pub(super) cpu: f64,
    /// What of it was outside the kernel.
    pub(super) user: f64,
    /// Requests, or GB, a second.
    pub(super) rate: f64,
}

fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    within(LIMIT, work)
}

fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let done = tokio::time::timeout(limit, work).await;
        done.map_err(|_| Error::other(format!("it does not answer within {} s", limit.as_secs())))?
    })
}

/// A connection over which one request after another is asked.
pub(super) struct Asking {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Asking {
    async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, held: Vec::with_capacity(4096) })
    }

    /// Sends a request and takes its answer, which must be a whole one of the backend.
    async fn ask(&mut self) -> Result<()> {
        self.stream.write_all(REQUEST).await?;
        self.held.clear();
        let mut whole = None;
        while whole.is_none_or(|whole| self.held.len() < whole) {
            if self.stream.read_buf(&mut self.held).await? == 0 {
                let said = self.held.escape_ascii();
                return Err(Error::other(format!("the connection ended within an answer: {said}")));
            }
            whole = whole.or_else(|| {
                let head = self.held.windows(4).position(|part| part == b"\r\n\r\n")?;
                Some(head + 4 + BODY)
            });
        }
        if !self.held.starts_with(b"HTTP/1.1 200 ") || whole != Some(self.held.len()) {
            return Err(Error::other(format!("it was answered: {}", self.held.escape_ascii())));
        }
        Ok(())
    }

    /// Asks until the time is over; how often.
    async fn until(&mut self, end: Instant) -> Result<usize> {
        let mut count = 0;
        while Instant::now() < end {
            self.ask().await?;
            count += 1;
        }
        Ok(count)
    }
}

async fn connections(to: SocketAddr, count: usize) -> Result<Vec<Asking>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(Asking::connect(to).await?);
    }
    Ok(all)
}

/// Lets each connection do its work until `end`, all at once; how much all did together.
async fn together<C, W>(
    connections: &mut Vec<C>,
    end: Instant,
    work: impl Fn(C, Instant) -> W,
) -> Result<usize>
where
    C: Send + 'static,
    W: Future<Output = Result<(C, usize)>> + Send + 'static,
{
    let running: Vec<_> = connections.drain(..).map(|one| tokio::spawn(work(one, end))).collect();
    let mut sum = 0;
    for one in running {
        let (connection, count) = one.await.map_err(Error::other)??;
        connections.push(connection);
        sum += count;
    }
    Ok(sum)
}

/// The same twice: first for connections and caches, then for what it costs these processes.
async fn measured<C, W>(mut connections: Vec<C>, pids: &[u32], work: impl Fn(C, Instant) -> W) -> Result<Cost>
where
    C: Send + 'static,
    W: Future<Output = Result<(C, usize)>> + Send + 'static,
{
    together(&mut connections, Instant::now() + WARM, &work).await?;
    let (before, began) = (measure::used(pids)?, Instant::now());
    let count = together(&mut connections, began + TIME, &work).await?;
    let (used, took) = (measure::used(pids)?.since(before), began.elapsed());
    if count == 0 {
        return Err(Error::other("nothing was answered"));
    }
    let each = |time: u64| time as f64 / 1e3 / count as f64;
    Ok(Cost { cpu: each(used.all), user: each(used.user), rate: count as f64 / took.as_secs_f64() })
}

/// Requests, each as soon as the one before it was answered.
pub(super) fn http(to: SocketAddr, pids: &[u32]) -> Result<Cost> {
    run(async {
        let all = connections(to, CONNECTIONS).await?;
        measured(all, pids, |mut one: Asking, end| async move {
            let count = one.until(end).await?;
            Ok::<_, Error>((one, count))
        })
        .await
    })
}

/// Requests at a fixed rate; the 99th percentile of their times, in microseconds. A time begins when the request was due, however late its
/// connection was.
pub(super) fn paced(to: SocketAddr) -> Result<f64> {
    run(async {
        let mut all = connections(to, CONNECTIONS).await?;
        together(&mut all, Instant::now() + WARM, |mut one: Asking, end| async move {
            let count = one.until(end).await?;
            Ok::<_, Error>((one, count))
        })
        .await?;
        let (begin, gap) = (Instant::now(), Duration::from_secs(1) / PACE);
        let count = PACE as usize * TIME.as_secs() as usize / CONNECTIONS;
        let running: Vec<_> = all
            .into_iter()
            .zip(0_u32..)
            .map(|(one, number)| {
                tokio::spawn(pace(one, begin + gap * number, gap * CONNECTIONS as u32, count))
            })
            .collect();
        let mut times = Vec::new();
        for one in running {
            times.extend(one.await.map_err(Error::other)??);
        }
        times.sort_unstable();
        let late = times.get(times.len() * 99 / 100).copied();
        late.map(f64::from).ok_or_else(|| Error::other("nothing was answered"))
    })
}

/// A request at each of these times; microseconds until it was answered.
async fn pace(mut one: Asking, begin: Instant, gap: Duration, count: usize) -> Result<Vec<u32>> {
    let (mut times, mut due) = (Vec::with_capacity(count), begin);
    for _ in 0..count {
        // A timer is up to a millisecond late: that is nobody's fault. A connection that is late is.
        let since = if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            Instant::now()
        } else {
            due
        };
        one.ask().await?;
        times.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
        due += gap;
    }
    Ok(times)
}

/// So many connections that rest, each of which has had a request.
pub(super) fn rest(to: SocketAddr, count: usize) -> Result<Vec<std::net::TcpStream>> {
    run(async {
        let mut held = Vec::with_capacity(count);
        for _ in 0..count {
            held.push(resting(to).await?);
        }
        Ok(held)
    })
}

/// A connection that rests.
async fn resting(to: SocketAddr) -> Result<std::net::TcpStream> {
    let mut one = Asking::connect(to).await?;
    one.ask().await?;
    // Its end is a reset: no port waits for what may come yet, and the next side has all of them.
    rustix::net::sockopt::set_socket_linger(&one.stream, Some(Duration::ZERO))?;
    one.stream.into_std()
}

/// Whether a request is answered.
pub(super) fn answers(to: SocketAddr) -> bool {
    within(SOON, resting(to)).is_ok()
}

/// Whether what policies let nobody ask is refused.
pub(super) fn is_refused(to: SocketAddr) -> Result<bool> {
    within(SOON, async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(REFUSED).await?;
        let mut start = [0; 13];
        stream.read_exact(&mut start).await?;
        Ok(start == *b"HTTP/1.1 403 ")
    })
}

/// Sends so many bytes over a connection of their own.
pub(super) fn bytes(to: SocketAddr, count: usize) -> Result<()> {
    run(sent(to, count))
}

/// Whether one is taken.
pub(super) fn is_taken(to: SocketAddr) -> bool {
    within(SOON, sent(to, 1)).is_ok()
}

async fn sent(to: SocketAddr, count: usize) -> Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&vec![b'x'; count]).await?;
    stream.shutdown().await
}

/// A message as gRPC frames it.
pub(super) fn message(length: usize) -> Bytes {
    let size = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    std::iter::once(0).chain(size).chain(std::iter::repeat_n(b'x', length)).collect()
}

/// Calls of gRPC, each as soon as the one before it was answered.
pub(super) fn calls(to: SocketAddr, pids: &[u32]) -> Result<Cost> {
    run(async {
        let mut all = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS / STREAMS {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let greeted = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
            let (sender, connection) = greeted.map_err(Error::other)?;
            tokio::spawn(connection);
            all.extend(std::iter::repeat_n(sender, STREAMS));
        }
        let asked = message(64);
        measured(all, pids, |mut sender: SendRequest<Full<Bytes>>, end| {
            let asked = asked.clone();
            async move {
                let mut count = 0;
                while Instant::now() < end {
                    tokio::time::timeout(PATIENCE, call(&mut sender, asked.clone()))
                        .await
                        .map_err(|_| Error::other("a call is not answered"))??;
                    count += 1;
                }
                Ok::<_, Error>((sender, count))
            }
        })
        .await
    })
}

async fn call(sender: &mut SendRequest<Full<Bytes>>, asked: Bytes) -> Result<()> {
    let request = Request::post(CALL).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(Full::new(asked)).map_err(Error::other)?;
    sender.ready().await.map_err(Error::other)?;
    let answer = sender.send_request(request).await.map_err(Error::other)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(Error::other)?;
    let is_done = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"))
        .is_some_and(|status| status.as_bytes() == b"0");
    let length = body.to_bytes().len();
    if status != 200 || !is_done || length != BODY + 5 {
        return Err(Error::other(format!(
            "a call was answered with {status}, {length} bytes, done: {is_done}"
        )));
    }
    Ok(())
}

/// Bytes as fast as they are taken, over one connection.
pub(super) fn bulk(to: SocketAddr, pids: &[u32], received: &(dyn Fn() -> u64 + Sync)) -> Result<Cost> {
    run(async {
        let mut stream = TcpStream::connect(to).await?;
        let bytes = vec![b'x'; 256 << 10];
        send(&mut stream, &bytes, Instant::now() + WARM).await?;
        let (before, taken, began) = (measure::used(pids)?, received(), Instant::now());
        send(&mut stream, &bytes, began + TIME).await?;
        let (used, took) = (measure::used(pids)?.since(before), began.elapsed());
        let gigabytes = (received() - taken) as f64 / 1e9;
        if gigabytes == 0.0 {
            return Err(Error::other("nothing has come"));
        }
        let each = |time: u64| time as f64 / 1e9 / gigabytes;
        Ok(Cost { cpu: each(used.all), user: each(used.user), rate: gigabytes / took.as_secs_f64() })
    })
}

async fn send(stream: &mut TcpStream, bytes: &[u8], end: Instant) -> Result<()> {
    while Instant::now() < end {
        stream.write_all(bytes).await?;
    }
    Ok(())
}
