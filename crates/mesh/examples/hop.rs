//! What a plain hop costs: `cargo run --release -p mesh --example hop [--model FILE] [--rounds N] [--seconds N] [--connections N] [--idle N]`.
//!
//! A backend that answers 1 KiB, the proxy with the frontend of a model, and haproxy (Debian's; left out where there is none) in front of it,
//! each a process of one thread; a client that keeps connections and sends the next request when it has the answer. The proxies are
//! on the last CPU, backend and client on the first. Rounds alternate. Printed are requests a second and the proxy's CPU time for each
//! (`/proc/PID/schedstat`, user and kernel), and their medians. Before, of a process of its own, what connections without a request cost: its
//! memory (VmRSS) before `--idle` connections are made, each with one request that is answered, and with all of them.
//!
//! The model is a `Delta` as JSON; its first frontend is served on loopback, and its endpoints must answer as the backend here does. haproxy gets
//! its endpoint, if it has but one. Without a model it is a route of one rule with one backend.
#![allow(clippy::unwrap_used, reason = "an example ends by panicking")]

use std::cell::Cell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mesh::proxy::{Builder, Origin, Proxy, Settings};
use mesh::reactor::{Buffer, Reactor, Socket};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};
use smi::model::{Delta, Entry, Key};

const BODY: usize = 1024;
const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: web.shop.svc.cluster.local\r\nUser-Agent: hop\r\nAccept: */*\r\n\
                         Accept-Encoding: gzip\r\nX-Request-Id: 5f0c7a52-6c7e-4a4a-9c51-3a1f5a6f3c11\r\n\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("backend") => backend(),
        Some("proxy") => proxy(&std::fs::read(&arguments[1]).unwrap()),
        _ => measure(&arguments),
    }
}

fn option(arguments: &[String], name: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).cloned()
}

fn pin(last: bool) {
    let all = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(if last { *cpus.last().unwrap() } else { cpus[0] });
    sched_setaffinity(None, &one).unwrap();
}

fn listen(reactor: &Reactor) -> Socket {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("{}", listener.local_addr().unwrap());
    reactor.socket(listener.into()).unwrap()
}

/// Answers each head that comes, whatever it says.
fn backend() {
    pin(false);
    let reactor = Reactor::new().unwrap();
    let listener = listen(&reactor);
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: hop\r\nContent-Type: text/html\r\nContent-Length: {BODY}\r\n\r\n"
    )
    .into_bytes();
    answer.extend(std::iter::repeat_n(b'x', BODY));
    let (answer, inner) = (Rc::new(answer), reactor.clone());
    reactor
        .run(async move {
            loop {
                let fd = listener.accept().await.unwrap();
                rustix::net::sockopt::set_tcp_nodelay(&fd, true).unwrap();
                let (socket, reactor, answer) = (inner.socket(fd).unwrap(), inner.clone(), answer.clone());
                inner.spawn(async move {
                    let mut buffer = reactor.buffer();
                    while let Ok(1..) = socket.read(&mut buffer).await {
                        while let Some(end) = buffer.data().windows(4).position(|part| part == b"\r\n\r\n") {
                            buffer.consume(end + 4);
                            if socket.write(&answer).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        })
        .unwrap()
}

struct Fixed(SocketAddr);

impl Origin for Fixed {
    fn destination(&self, _: BorrowedFd<'_>) -> std::io::Result<SocketAddr> {
        Ok(self.0)
    }

    fn namespace(&self) -> Option<&str> {
        None
    }
}

/// Serves the first frontend of a model.
fn proxy(model: &[u8]) {
    pin(true);
    let delta: Delta = serde_json::from_slice(model).unwrap();
    let to = delta.set.iter().find_map(|shared| match (&shared.key, &*shared.entry) {
        (Key::Frontend { port, .. }, Entry::Frontend(frontend)) => {
            frontend.addresses.first().map(|address| SocketAddr::new(*address, *port))
        }
        _ => None,
    });
    let origin = Rc::new(Fixed(to.expect("the model has a frontend with an address")));
    let reactor = Reactor::new().unwrap();
    let proxy = Proxy::new(&reactor, Settings::default());
    proxy.swap(Builder::default().apply(delta));
    let listener = listen(&reactor);
    reactor.run(proxy.accept(listener, origin)).unwrap()
}

fn model(backend: SocketAddr) -> Value {
    let service = json!("shop/web");
    json!({"removed": [], "set": [
        {"key": {"frontend": {"service": service, "port": 80, "transport": "tcp"}},
         "entry": {"frontend": {"addresses": ["10.96.0.1"], "appProtocol": "http", "routing": {"http": {
            "matches": [{"requests": {"path": {"prefix": "/admin"}}, "rule": 0}, {"requests": {"path": {"prefix": ""}}, "rule": 0}],
            "rules": [{"from": {"object": {"kind": "HttpRoute", "name": "shop/web"}, "rule": 0},
                       "backends": [{"to": {"service": {"service": service, "port": 80}}, "weight": 1}]}],
            "unmatched": "notFound"}}}}},
        {"key": {"endpoints": {"service": service, "port": 80, "transport": "tcp"}},
         "entry": {"endpoints": [{"address": backend.ip(), "port": backend.port(), "ready": true, "serving": true}]}},
    ]})
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn role(arguments: &[&str]) -> (Running, SocketAddr) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Running(child), line.trim().parse().unwrap())
}

/// One for so many connections; none where it is not installed.
fn haproxy(dir: &Path, backend: SocketAddr, idle: usize) -> Option<(Running, SocketAddr)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let text = format!(
        "global\n nbthread 1\n maxconn {}\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n \
         http-reuse always\nfrontend f\n bind {port}\n default_backend b\nbackend b\n server s {backend} pool-purge-delay 60s\n",
        idle.max(4000) + 100
    );
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let all = sched_getaffinity(None).unwrap();
    pin(true);
    let started = Command::new("haproxy").arg("-db").arg("-f").arg(&file).spawn();
    sched_setaffinity(None, &all).unwrap();
    let mut running = match started {
        Ok(child) => Running(child),
        Err(e) => {
            println!("haproxy cannot be started, it is left out: {e}");
            return None;
        }
    };
    while std::net::TcpStream::connect(port).is_err() {
        if let Some(status) = running.0.try_wait().unwrap() {
            panic!("haproxy has ended at once: {status}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((running, port))
}

/// The endpoint of a model that has but one.
fn endpoint_of(model: &Delta) -> Option<SocketAddr> {
    let mut all = model.set.iter().flat_map(|shared| match &*shared.entry {
        Entry::Endpoints(endpoints) => endpoints.as_slice(),
        _ => &[],
    });
    let one = all.next().map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port));
    if all.next().is_some() { None } else { one }
}

/// The memory of a process, in kB.
fn memory(pid: u32) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a request and takes its answer.
async fn ask(socket: &Socket, buffer: &mut Buffer) {
    socket.write(REQUEST).await.unwrap();
    let mut whole = None;
    while whole.is_none_or(|whole| buffer.data().len() < whole) {
        assert!(socket.read(buffer).await.unwrap() > 0, "the proxy ended the connection");
        whole = whole.or_else(|| {
            let head = buffer.data().windows(4).position(|part| part == b"\r\n\r\n")?;
            Some(head + 4 + BODY)
        });
    }
    assert!(buffer.data().starts_with(b"HTTP/1.1 200"), "{}", buffer.data().escape_ascii());
    buffer.consume(whole.unwrap());
}

/// So many connections, each of which has had a request.
fn idle(to: SocketAddr, count: usize) -> Vec<Socket> {
    let reactor = Reactor::new().unwrap();
    let inner = reactor.clone();
    reactor
        .run(async move {
            let (mut sockets, mut buffer) = (Vec::with_capacity(count), inner.buffer());
            for _ in 0..count {
                let socket = Socket::connect(&inner, to).await.unwrap();
                ask(&socket, &mut buffer).await;
                sockets.push(socket);
            }
            sockets
        })
        .unwrap()
}

fn print_memory(name: &str, process: &Running, at: SocketAddr, count: usize) {
    let pid = process.0.id();
    // The first is for what is made when it is needed.
    let _first = idle(at, 1);
    let before = memory(pid);
    let _all = idle(at, count);
    let after = memory(pid);
    let each = (after - before) as f64 / count as f64;
    println!(
        "memory: {name:12} {before} kB, {after} kB with {count} connections without a request: {each:.2} kB each"
    );
}

/// As many descriptors as there may be: a proxy needs one for each connection.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Nanoseconds that a process has run.
fn cpu(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// How many requests were answered, and the times they took in microseconds, in order.
fn load(to: SocketAddr, connections: usize, time: Duration) -> Vec<u32> {
    let reactor = Reactor::new().unwrap();
    let times = Rc::new(Cell::new(Vec::new()));
    let end = Instant::now() + time;
    for _ in 0..connections {
        let (reactor, times) = (reactor.clone(), times.clone());
        reactor.clone().spawn(async move {
            let socket = Socket::connect(&reactor, to).await.unwrap();
            let mut buffer = reactor.buffer();
            loop {
                let began = Instant::now();
                if began >= end {
                    return;
                }
                ask(&socket, &mut buffer).await;
                let mut all = times.take();
                all.push(u32::try_from(began.elapsed().as_micros()).unwrap());
                times.set(all);
            }
        });
    }
    let waiting = reactor.clone();
    reactor
        .run(async move {
            while waiting.tasks() > 1 {
                waiting.until(waiting.now() + Duration::from_millis(10)).await;
            }
        })
        .unwrap();
    let mut times = times.take();
    times.sort_unstable();
    times
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(arguments: &[String]) {
    let number = |name, default| option(arguments, name).map_or(default, |text| text.parse::<u64>().unwrap());
    let (rounds, seconds, connections) =
        (number("--rounds", 7), number("--seconds", 2), number("--connections", 32));
    let resting = usize::try_from(number("--idle", 1000)).unwrap();
    raise_limit();
    let dir = tempfile::tempdir().unwrap();
    // Its process ends with this.
    let mut backend = None;
    let (file, endpoint) = match option(arguments, "--model") {
        Some(file) => {
            let text = std::fs::read(&file).unwrap_or_else(|e| panic!("cannot read --model {file}: {e}"));
            let model: Delta = serde_json::from_slice(&text)
                .unwrap_or_else(|e| panic!("cannot read --model {file}: it is no delta of a model: {e}"));
            (PathBuf::from(file), endpoint_of(&model))
        }
        None => {
            let (_, at) = backend.insert(role(&["backend"]));
            let file = dir.path().join("model.json");
            std::fs::write(&file, model(*at).to_string()).unwrap();
            (file, Some(*at))
        }
    };
    if endpoint.is_none() {
        println!("haproxy is left out: the model has not one endpoint");
    }
    let start = || {
        let (process, at) = role(&["proxy", file.to_str().unwrap()]);
        let mut hops = vec![("sextant mesh", process, at)];
        let haproxy = endpoint.and_then(|endpoint| haproxy(dir.path(), endpoint, resting));
        hops.extend(haproxy.map(|(process, at)| ("haproxy", process, at)));
        hops
    };
    if resting > 0 {
        start().iter().for_each(|(name, process, at)| print_memory(name, process, *at, resting));
    }
    let hops = start();
    pin(false);
    let mut results = vec![(Vec::new(), Vec::new(), Vec::new()); hops.len()];
    for round in 0..=rounds {
        for ((name, process, at), (cpus, rates, lates)) in hops.iter().zip(&mut results) {
            let before = cpu(process.0.id());
            let times = load(*at, usize::try_from(connections).unwrap(), Duration::from_secs(seconds));
            let used = cpu(process.0.id()) - before;
            // The first round is for connections and caches.
            if round == 0 {
                continue;
            }
            let each = used as f64 / 1000.0 / times.len() as f64;
            let rate = times.len() as f64 / seconds as f64;
            let (half, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            println!(
                "{round:2} {name:12} {each:6.2} us/request {rate:8.0} requests/s  p50 {half:5} us  p99 {late:6} us"
            );
            cpus.push(each);
            rates.push(rate);
            lates.push(f64::from(late));
        }
    }
    drop(backend);
    for ((name, ..), (cpus, rates, lates)) in hops.iter().zip(&mut results) {
        let (cpu, rate, late) = (median(cpus), median(rates), median(lates));
        println!(
            "median of {rounds}: {name:12} {cpu:6.2} us/request {rate:8.0} requests/s  p99 {late:6.0} us"
        );
    }
    std::io::stdout().flush().unwrap();
}
