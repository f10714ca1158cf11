//! What streaming costs: bytes a second through each protocol, and memory of a thousand idle sessions.
//!
//! `cargo run --release --package streaming --example throughput`. The server is a process of its own (this program,
//! called `serve`), so that its CPU time and memory are seen alone.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use streaming::client::{Command, PortForward, Protocol, Target};
use streaming::remote_command::{Exit, RemoteCommand, Requested};
use streaming::server::{Config, Runtime, TokenServer};
use streaming::{Failure, relay};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const LENGTH: u64 = 4 << 30;
const SESSIONS: usize = 1000;

/// Sends zeros, swallows what comes, or waits.
struct Pod;

impl Runtime for Pod {
    type Exec = String;
    type Attach = ();
    type PortForward = ();
    type Connection = TcpStream;

    async fn exec(&self, what: String, mut streams: RemoteCommand) -> Result<Exit, Failure> {
        match (what.as_str(), streams.stdout.take(), streams.stdin.take()) {
            ("out", Some(stdout), _) => drop(relay(tokio::io::repeat(0).take(LENGTH), stdout).await?),
            ("in", _, Some(stdin)) => drop(relay(stdin, tokio::io::sink()).await?),
            _ => streams.client.gone().await,
        }
        Ok(Exit::SUCCESS)
    }

    async fn attach(&self, (): (), _: RemoteCommand) -> Result<(), Failure> {
        Ok(())
    }

    async fn connect(&self, (): &(), port: u16) -> Result<TcpStream, Failure> {
        Ok(TcpStream::connect(("127.0.0.1", port)).await?)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    for (name, protocol) in [("SPDY", Protocol::Spdy), ("WebSocket", Protocol::WebSocket)] {
        measure(name, protocol).await?;
    }
    Ok(())
}

/// One protocol, with a server that has done nothing before.
async fn measure(name: &str, protocol: Protocol) -> Result<(), Failure> {
    let mut server = tokio::process::Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let id = server.id().ok_or("the server has ended")?;
    let mut ask = server.stdin.take().ok_or("no pipe")?;
    let mut answers = BufReader::new(server.stdout.take().ok_or("no pipe")?).lines();
    let mut url = async |what: &str| -> Result<Target, Failure> {
        ask.write_all(format!("{what}\n").as_bytes()).await?;
        let line = answers.next_line().await?.ok_or("the server has ended")?;
        Ok(Target::parse(&line)?)
    };
    let idle = memory(id)?;
    let mut commands = Vec::new();
    let before = (Instant::now(), cpu(id)?);
    for _ in 0..SESSIONS {
        commands.push(Command::start(&url("wait").await?, requested()?, protocol).await?);
    }
    let (took, used) = (before.0.elapsed(), cpu(id)? - before.1);
    let each = (memory(id)? - idle) * 1024 / SESSIONS as u64;
    println!(
        "{SESSIONS} idle sessions, {name}: {each} bytes each; made in {took:.2?}, {used} ms CPU of the server's"
    );
    drop(commands);

    let before = (Instant::now(), cpu(id)?);
    let mut command = Command::start(&url("out").await?, requested()?, protocol).await?;
    let stdout = command.stdout.take().ok_or("no stdout")?;
    let received = relay(stdout, tokio::io::sink()).await?;
    report(&format!("exec stdout, {name}"), received, before, id)?;
    command.wait().await?;

    let before = (Instant::now(), cpu(id)?);
    let mut command = Command::start(&url("in").await?, requested()?, protocol).await?;
    let stdin = command.stdin.take().ok_or("no stdin")?;
    let sent = relay(tokio::io::repeat(0).take(LENGTH), stdin).await?;
    command.wait().await?;
    report(&format!("exec stdin, {name}"), sent, before, id)?;

    let source = source().await?;
    let forward = PortForward::start(&url("port").await?, protocol).await?;
    let before = (Instant::now(), cpu(id)?);
    let mut connection = forward.connect(source).await?;
    connection.shutdown().await?;
    let received = relay(connection, tokio::io::sink()).await?;
    report(&format!("port-forward, {name}"), received, before, id)?;
    Ok(())
}

fn requested() -> Result<Requested, Failure> {
    Ok(Requested::new(true, true, false, false)?)
}

/// A port that sends.
async fn source() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let _ = relay(tokio::io::repeat(0).take(LENGTH), stream).await;
        Ok::<_, std::io::Error>(())
    });
    Ok(port)
}

/// Gives addresses for what is asked on standard input.
async fn serve() -> Result<(), Failure> {
    let server = TokenServer::start(Config::default(), Arc::new(Pod)).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(what) = lines.next_line().await? {
        let url = match what.as_str() {
            "port" => server.port_forward((), Vec::new())?,
            _ => server.exec(what, requested()?)?,
        };
        println!("{url}");
    }
    Ok(())
}

fn report(what: &str, bytes: u64, before: (Instant, u64), id: u32) -> Result<(), Failure> {
    let (seconds, used) = (before.0.elapsed().as_secs_f64(), cpu(id)? - before.1);
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "{what}: {:.2} GB/s; {:.0} ms CPU of the server's a GB",
        gigabytes / seconds,
        used as f64 / gigabytes
    );
    Ok(())
}

/// CPU time of a process in ms.
fn cpu(id: u32) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) * 10)
}

/// Proportional memory of a process in KiB.
fn memory(id: u32) -> Result<u64, Failure> {
    let rollup = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).ok_or("no Pss")?;
    Ok(line.split_whitespace().nth(1).unwrap_or_default().parse()?)
}
