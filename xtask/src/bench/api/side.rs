//! The servers: ours, Kubernetes' own with etcd behind it where one is there, and etcd alone.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::Meter;
use super::super::ended::Ended;
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

/// A server that runs, as long as this is held.
pub(super) struct Running {
    pub(super) endpoint: Endpoint,
    /// Milliseconds from the start of the program (of the last one) until it was ready.
    pub(super) ready: f64,
    children: Vec<Ended>,
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
    let (child, endpoint, ready) = serve(program, meter, place, &[]).await?;
    Ok(Running { endpoint, ready, children: vec![child], _beside: meter.beside()? })
}

/// `sextant`, with its directories in a folder.
pub(crate) fn sextant(program: &Path, place: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(place.join("data")).arg("--run-dir").arg(place.join("run"));
    command
}

/// Where [`serve`] and its like have the kubeconfig, in their folder.
pub(crate) fn kubeconfig(place: &Path) -> PathBuf {
    place.join("data/api/kubeconfig")
}

/// `sextant api` in a folder, with more options, and how many milliseconds it took to be ready.
pub(crate) async fn serve(
    program: &Path,
    meter: &Meter,
    place: &Path,
    more: &[&OsStr],
) -> Result<(Ended, Endpoint, f64)> {
    let log = place.join("api.log");
    let mut command = sextant(program, place);
    command.args(["api", "--listen", &API.to_string()]).args(more);
    let began = Instant::now();
    let child = spawn(meter, command, &log)?;
    let endpoint = loop {
        match Endpoint::of_kubeconfig(API, &kubeconfig(place)) {
            Ok(endpoint) => break endpoint,
            Err(_) => wait(began, &log).await?,
        }
    };
    let ready = endpoint.until_ready("/readyz", began).await?;
    Ok((child, endpoint, ready))
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

async fn etcd(program: &Path, meter: &Meter, place: &Path) -> Result<Vec<Ended>> {
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
pub(crate) fn spawn(meter: &Meter, mut command: Command, log: &Path) -> Result<Ended> {
    let log = std::fs::File::options().append(true).create(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    meter.spawn(&mut command).map(Ended)
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
        let of = |child: &Ended| {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        self.children.iter().map(of).sum()
    }
}
