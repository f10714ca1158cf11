//! A machine: a bridge with two endpoints at its address, an API server, and what looks after Services.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use kernel::netlink::{self, Address, Batch, Kind, NewLink, Protocol, Socket};
use rustix::process::{Pid, Signal, kill_process};

use super::super::Meter;
use super::super::api::client::Endpoint;
use super::super::api::side::{API, spawn, wait};
use crate::Result;

/// The bridge, and the endpoints' address on it.
const BRIDGE: &str = "bench0";
pub(super) const ADDRESS: &str = "10.9.0.1";
/// The endpoints' ports. Each says its number.
pub(super) const PORTS: [u16; 2] = [8081, 8082];

/// A site that works; its processes end with it.
pub(super) struct Site {
    pub(super) endpoint: Endpoint,
    programs: Vec<Ended>,
    program: PathBuf,
    place: tempfile::TempDir,
}

struct Ended(Child);

impl Site {
    pub(super) async fn start(program: &Path, meter: &Meter) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("sextant-bench-").tempdir_in("/var/tmp")?;
        network()?;
        let log = |name: &str| place.path().join(format!("{name}.log"));
        let mut api = command(program, place.path());
        api.args(["api", "--listen", &API.to_string()]);
        let began = Instant::now();
        let mut programs = vec![Ended(spawn(meter, api, &log("api"))?)];
        let kubeconfig = place.path().join("data/api/kubeconfig");
        let endpoint = loop {
            if let Ok(endpoint) = Endpoint::of_kubeconfig(API, &kubeconfig) {
                break endpoint;
            }
            wait(began, &log("api")).await?;
        };
        endpoint.until_ready("/readyz", began).await?;
        let mut services = command(program, place.path());
        services
            .args(["services", "--node", "node-1", "--upstream", "127.0.0.1:1", "--kubeconfig"])
            .arg(&kubeconfig);
        let log = log("services");
        programs.push(Ended(spawn(meter, services, &log)?));
        while !std::fs::read_to_string(&log)?.contains("all Services are reached") {
            wait(began, &log).await?;
        }
        Ok(Self { endpoint, programs, program: program.to_owned(), place })
    }

    /// KiB that `sextant services` has had resident at most.
    pub(super) fn peak(&self) -> Result<f64> {
        let services = self.programs.last().ok_or("no program")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", services.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Ends it, and takes away what it has made.
    pub(super) fn end(mut self) -> Result<()> {
        self.programs.clear();
        if !command(&self.program, self.place.path()).args(["services", "--remove"]).status()?.success() {
            return Err("cannot take Services away".into());
        }
        Ok(netlink::delete_link(BRIDGE)?)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

fn command(program: &Path, place: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(place.join("data")).arg("--run-dir").arg(place.join("run"));
    command
}

/// The bridge, and behind its address who says which endpoint it is.
fn network() -> Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let mut batch = Batch::new();
    let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
    batch.add_link(&NewLink { up: true, ..NewLink::new(BRIDGE, bridge) });
    socket.run(&batch)?;
    let index = netlink::link_by_name(&mut socket, BRIDGE)?.ok_or("no bridge")?.index;
    let mut batch = Batch::new();
    batch.add_address(&Address::new(index, format!("{ADDRESS}/24").parse()?));
    socket.run(&batch)?;
    for (port, number) in PORTS.into_iter().zip(0_u8..) {
        // Those of the round before still listen.
        let Ok(listener) = TcpListener::bind((ADDRESS, port)) else { continue };
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(&[number]);
            }
        });
    }
    Ok(())
}
