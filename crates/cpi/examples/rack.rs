//! A cloud provider, whole: the machines of a rack stand in a file, and the rack's load balancer is told by files what to do.
//! docs/write-a-provider.md goes through it. `cargo run -p cpi --example rack -- SOCKET DIR`

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cpi::contract::*;

/// `DIR/machines` has a line `NAME ID TYPE ROW ADDRESS on|off` of each machine, and ends with `end`. `DIR/pool` has the addresses of load
/// balancers, one a line. `DIR/balancers` has a file for each that there is, called after its Service's uid.
pub(crate) struct Rack {
    dir: PathBuf,
    /// Who gives out an address must know what the others have given out.
    turn: Mutex<()>,
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|e| Error::Failed(format!("cannot read {}: {e}", path.display())))
}

fn text(field: Option<&String>) -> &str {
    field.map(String::as_str).unwrap_or_default()
}

impl Rack {
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), turn: Mutex::new(()) }
    }

    /// What is known of a node's machine, and whether it is on. A file that is not whole says nothing of anybody.
    fn machine(&self, node: &Node) -> Result<(InstanceMetadata, bool), Error> {
        let file = read(&self.dir.join("machines"))?;
        let lines = file.trim_end().strip_suffix("end");
        let lines = lines.ok_or_else(|| Error::Failed("`machines` does not end with `end`".into()))?;
        let id = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).unwrap_or_default();
        for line in lines.lines() {
            let [name, number, kind, row, ip, state] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(Error::Failed(format!(
                    "`machines` has {line:?}; write NAME ID TYPE ROW ADDRESS on|off"
                )));
            };
            let provider_id = format!("rack://{number}");
            if id == provider_id || id.is_empty() && name == text(node.metadata.name.as_ref()) {
                let address = NodeAddress { type_: "InternalIP".into(), address: ip.into() };
                let metadata = InstanceMetadata {
                    provider_id,
                    instance_type: kind.into(),
                    node_addresses: vec![address],
                    zone: row.into(),
                    ..InstanceMetadata::default()
                };
                return Ok((metadata, state == "on"));
            }
        }
        Err(Error::InstanceNotFound)
    }

    fn file(&self, service: &Service) -> PathBuf {
        self.dir.join("balancers").join(text(service.metadata.uid.as_ref()))
    }

    /// The address of a load balancer, if there is one: the first line of its file.
    fn address(file: &Path) -> Result<Option<String>, Error> {
        if !file.exists() {
            return Ok(None);
        }
        Ok(read(file)?.lines().next().map(str::to_owned))
    }

    /// The address that it has, or else the first that none has.
    fn address_for(&self, service: &Service) -> Result<String, Error> {
        if let Some(address) = Self::address(&self.file(service))? {
            return Ok(address);
        }
        let folder = self.dir.join("balancers");
        let files = fs::create_dir_all(&folder).and_then(|()| fs::read_dir(&folder)).map_err(Error::of)?;
        let used = files.flatten().map(|entry| Self::address(&entry.path()));
        let used: BTreeSet<String> = used.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        let (pool, name) = (read(&self.dir.join("pool"))?, text(service.metadata.name.as_ref()));
        let none = || Error::Failed(format!("no address is left for {name}; add one to `pool`"));
        pool.lines().find(|one| !used.contains(*one)).map(str::to_owned).ok_or_else(none)
    }

    /// Writes what the balancer is to do: its address, who may come, and for each port where it leads.
    fn ensure(&self, service: &Service, nodes: &[Node]) -> Result<LoadBalancerStatus, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let address = self.address_for(service)?;
        let mut lines = format!("{address}\n");
        for range in source_ranges(service).map_err(Error::of)? {
            lines += &format!("allow {range}\n");
        }
        if let Some((path, port)) = health_check(service) {
            lines += &format!("check {port}{path}\n");
        }
        let ips = nodes.iter().filter_map(|node| {
            let addresses = node.status.as_ref()?.addresses.as_ref()?;
            addresses.iter().find(|one| one.type_ == "InternalIP").map(|one| one.address.as_str())
        });
        let ips: Vec<&str> = ips.collect();
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let (protocol, to) = (text(port.protocol.as_ref()), port.node_port.unwrap_or_default());
            lines += &format!("{} {protocol} -> {to} of {}\n", port.port, ips.join(" "));
        }
        // Whole, or not at all: what is there was made, whenever this process ends.
        let (file, new) = (self.file(service), self.dir.join("new"));
        fs::write(&new, lines).and_then(|()| fs::rename(&new, file)).map_err(Error::of)?;
        Ok(status(&address))
    }
}

fn status(address: &str) -> LoadBalancerStatus {
    let ingress = LoadBalancerIngress { ip: Some(address.into()), ..LoadBalancerIngress::default() };
    LoadBalancerStatus { ingress: Some(vec![ingress]) }
}

impl CloudProvider for Rack {
    fn name(&self) -> &str {
        "rack"
    }

    fn instances(&self) -> Option<&dyn Instances> {
        Some(self)
    }

    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }
}

impl Instances for Rack {
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move { self.machine(node).map(|_| true) })
    }

    fn instance_shutdown<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move { self.machine(node).map(|(_, is_on)| !is_on) })
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        Box::pin(async move { self.machine(node).map(|(metadata, _)| Some(metadata)) })
    }
}

impl LoadBalancers for Rack {
    fn get_load_balancer<'a>(
        &'a self,
        _: &'a str,
        of: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        Box::pin(async move { Ok(Self::address(&self.file(of))?.map(|address| status(&address))) })
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        Box::pin(async move { self.ensure(service, nodes) })
    }

    fn update_load_balancer<'a>(&'a self, _: &'a str, of: &'a Service, nodes: &'a [Node]) -> Answer<'a, ()> {
        Box::pin(async move { self.ensure(of, nodes).map(drop) })
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, _: &'a str, service: &'a Service) -> Answer<'a, ()> {
        Box::pin(async move {
            match fs::remove_file(self.file(service)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::of(error)),
                _ => Ok(()),
            }
        })
    }
}

/// The provider as a program of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [socket, dir] = &words[..] else { return Err("usage: rack SOCKET DIR".into()) };
    let provider = Arc::new(Rack::at(dir));
    cpi::plugin::serve(provider, socket, std::future::pending(), || eprintln!("rack: serves")).await?;
    Ok(())
}
