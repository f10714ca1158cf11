//! A machine: a bridge with two endpoints at its address, an API server, and what looks after Services.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kernel::netlink::{self, Address, Batch, Kind, NewLink, Protocol, Socket};

use super::super::Meter;
use super::super::api::client::Endpoint;
use super::super::api::side::{kubeconfig, serve, sextant, spawn, wait};
use super::super::ended::Ended;
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

impl Site {
    pub(super) async fn start(program: &Path, meter: &Meter) -> Result<Self> {
        let place = meter.folder()?;
        network()?;
        let (api, endpoint, _) = serve(program, meter, place.path(), &[]).await?;
        let began = Instant::now();
        let mut services = sextant(program, place.path());
        services
            .args(["services", "--node", "node-1", "--upstream", "127.0.0.1:1", "--kubeconfig"])
            .arg(kubeconfig(place.path()));
        let log = place.path().join("services.log");
        let programs = vec![api, spawn(meter, services, &log)?];
        while !std::fs::read_to_string(&log)?.contains("all Services are reached") {
            wait(began, &log).await?;
        }
        Ok(Self { endpoint, programs, program: program.to_owned(), place })
    }

    /// KiB that `sextant services` has had resident at most.
    pub(super) fn peak(&self) -> Result<f64> {
        self.programs.last().ok_or("no program")?.peak()
    }

    /// Ends it, and takes away what it has made.
    pub(super) fn end(mut self) -> Result<()> {
        self.programs.clear();
        if !sextant(&self.program, self.place.path()).args(["services", "--remove"]).status()?.success() {
            return Err("cannot take Services away".into());
        }
        Ok(netlink::delete_link(BRIDGE)?)
    }
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
