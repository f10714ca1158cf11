//! The servers: ours, Kubernetes' own with etcd behind it where one is there, and etcd alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::super::Meter;
use super::super::meter::Beside;
use super::client::Endpoint;
use crate::Result;
use crate::program::quiet;

/// A server that is measured.
pub(super) enum Side {
    /// `sextant api`: the program.
    Ours(PathBuf),
    /// A folder with `kube-apiserver` and `etcd`.
    Peer(PathBuf),
}

/// In a network of its own every port is free.
pub(crate) const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);
const ETCD: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);
/// Kubernetes' own is let in by a token.
const TOKEN: &str = "of-the-bench";
const AGAIN: Duration = Duration::from_millis(2);

/// A server that runs; killed when this is dropped.
pub(super) struct Running {
    pub(super) endpoint: Endpoint,
    /// Milliseconds from the start of the program (of the last one) until it was ready.
    pub(super) ready: f64,
    children: Vec<Child>,
    /// Clients have as much of the processors.
    _beside: Beside,
}

impl Side {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Side::Ours(_) => "sextant api",
            Side::Peer(_) => "kube-apiserver + etcd",
        }
    }

    /// Starts it in an empty folder, and waits until it is ready.
    pub(super) async fn start(&self, meter: &Meter, place: &Path) -> Result<Running> {
        match self {
            Side::Ours(program) => ours(program, meter, place).await,
            Side::Peer(programs) => kubernetes(programs, meter, place).await,
        }
    }
}

async fn ours(program: &Path, meter: &Meter, place: &Path) -> Result<Running> {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(place.join("data")).arg("--run-dir").arg(place.join("run"));
    command.args(["api", "--listen", &API.to_string()]);
    let began = Instant::now();
    let children = vec![spawn(meter, command, &place.join("log"))?];
    let kubeconfig = place.join("data/api/kubeconfig");
    while !kubeconfig.exists() {
        wait(began, &place.join("log")).await?;
    }
    let endpoint = loop {
        match Endpoint::of_kubeconfig(API, &kubeconfig) {
            Ok(endpoint) => break endpoint,
            Err(_) => wait(began, &place.join("log")).await?,
        }
    };
    let ready = endpoint.until_ready("/readyz", began).await?;
    Ok(Running { endpoint, ready, children, _beside: meter.beside()? })
}

async fn kubernetes(programs: &Path, meter: &Meter, place: &Path) -> Result<Running> {
    let etcd = etcd(&programs.join("etcd"), meter, place).await?;
    let (key, public) = (place.join("sa.key"), place.join("sa.pub"));
    quiet(Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"))?;
    quiet(Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public))?;
    std::fs::write(place.join("tokens"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    let at = |flag: &str, path: &str| format!("--{flag}={}", place.join(path).display());
    let mut command = Command::new(programs.join("kube-apiserver"));
    command.args([
        format!("--etcd-servers=http://{ETCD}"),
        at("service-account-key-file", "sa.pub"),
        at("service-account-signing-key-file", "sa.key"),
        at("cert-dir", "pki"),
        at("token-auth-file", "tokens"),
    ]);
    // As a cluster has it. Nobody here makes service accounts' tokens or watches nodes.
    command.args([
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--bind-address=127.0.0.1",
        "--secure-port=6443",
        "--advertise-address=127.0.0.1",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=none",
        "--disable-admission-plugins=TaintNodesByCondition",
    ]);
    let began = Instant::now();
    let mut children = vec![spawn(meter, command, &place.join("log"))?];
    children.extend(etcd);
    let certificate = place.join("pki/apiserver.crt");
    let endpoint = loop {
        match Endpoint::with_token(API, &certificate, TOKEN) {
            Ok(endpoint) => break endpoint,
            Err(_) => wait(began, &place.join("log")).await?,
        }
    };
    let ready = endpoint.until_ready("/readyz", began).await?;
    Ok(Running { endpoint, ready, children, _beside: meter.beside()? })
}

/// etcd alone, of Debian or of somebody else.
pub(super) async fn start_etcd(program: &Path, meter: &Meter, place: &Path) -> Result<Running> {
    let children = etcd(program, meter, place).await?;
    Ok(Running { endpoint: Endpoint::plain(ETCD), ready: 0.0, children, _beside: meter.beside()? })
}

async fn etcd(program: &Path, meter: &Meter, place: &Path) -> Result<Vec<Child>> {
    let (clients, peers) = (format!("http://{ETCD}"), "http://127.0.0.1:2380");
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(place.join("etcd"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
    let log = place.join("etcd.log");
    let children = vec![spawn(meter, command, &log)?];
    let began = Instant::now();
    while tokio::net::TcpStream::connect(ETCD).await.is_err() {
        wait(began, &log).await?;
    }
    Ok(children)
}

/// Starts a program that says what it has to say into a file.
pub(crate) fn spawn(meter: &Meter, mut command: Command, log: &Path) -> Result<Child> {
    let log = std::fs::File::options().append(true).create(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    meter.spawn(&mut command)
}

/// A moment, unless it takes too long altogether.
pub(crate) async fn wait(began: Instant, log: &Path) -> Result<()> {
    if began.elapsed() > Duration::from_secs(60) {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        return Err(format!("it did not start in a minute; it said last: {}", last.join("; ")).into());
    }
    tokio::time::sleep(AGAIN).await;
    Ok(())
}

impl Running {
    /// KiB that its processes have resident now.
    pub(super) fn resident(&self) -> u64 {
        let of = |child: &Child| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        self.children.iter().map(of).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}
