use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use super::super::ipam::{no_ipam, one_per_family};
use super::range::Range;
use crate::contract::{Code, Dns, Error, Keys, Request, Route};

/// What the plugin `host-local` is told.
#[derive(Debug)]
pub(super) struct Conf {
    /// Where the network's leases are.
    pub(super) dir: PathBuf,
    /// What the runtime's `ipRanges` say.
    of_runtime: Vec<Vec<Range>>,
    network: Arc<Network>,
    pub(super) dns: Dns,
    /// Addresses somebody asked for.
    pub(super) requested: Vec<IpAddr>,
}

/// What `ipam` says, whoever is to have an address.
#[derive(Debug)]
struct Network {
    ipam: Map<String, Value>,
    sets: Vec<Vec<Range>>,
    routes: Vec<Route>,
}

/// The networks that were read last, by all that their configurations say: the next container's is not read again.
#[derive(Debug, Default)]
pub(super) struct Read(Mutex<Vec<Arc<Network>>>);

/// So many are kept: more networks than most hosts have.
const KEPT: usize = 8;

impl Read {
    fn network(&self, ipam: &Map<String, Value>) -> Result<Arc<Network>, Error> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = known().iter().find(|network| network.ipam == *ipam) {
            return Ok(Arc::clone(network));
        }
        let network = Arc::new(Network::of(ipam)?);
        let mut known = known();
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push(Arc::clone(&network));
        Ok(network)
    }
}

/// The reference plugin's directory.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// Where the leases of the request's network are: all that DEL needs.
pub(super) fn dir(request: &Request<'_>) -> Result<PathBuf, Error> {
    let data_dir =
        Keys::new(ipam(request)?, OF).text("dataDir")?.filter(|dir| !dir.is_empty()).unwrap_or(DATA_DIR);
    let dir = PathBuf::from(data_dir).join(request.network);
    if dir.is_absolute() {
        return Ok(dir);
    }
    Ok(std::path::absolute(dir).unwrap_or_else(|_| DATA_DIR.into()))
}

fn ipam<'a>(request: &Request<'a>) -> Result<&'a Map<String, Value>, Error> {
    request.keys().object("ipam")?.ok_or_else(no_ipam)
}

/// How errors call it.
const OF: &str = "\"ipam\"";

impl Conf {
    pub(super) fn of(request: &Request<'_>, read: &Read) -> Result<Self, Error> {
        let ipam = ipam(request)?;
        let keys = Keys::new(ipam, OF);
        let dns = keys
            .text("resolvConf")?
            .filter(|path| !path.is_empty())
            .map_or(Ok(Dns::default()), resolv_conf)?;
        let of_runtime = match request.keys().object("runtimeConfig")? {
            Some(runtime) => {
                read_sets(&Keys::new(runtime, "\"runtimeConfig\""), "ipRanges", "a range of \"ipRanges\"")?
            }
            None => Vec::new(),
        };
        let network = read.network(ipam)?;
        let (dir, requested) = (dir(request)?, requested(request)?);
        let conf = Self { dir, of_runtime, network, dns, requested };
        if !conf.of_runtime.is_empty() {
            refuse_overlaps(&keys, conf.sets())?;
        } else if conf.network.sets.is_empty() {
            return Err(keys.refuse("ranges", "a list of lists of ranges (and \"subnet\" is absent too)"));
        }
        one_per_family(request, conf.sets().flat_map(|set| set.first()).map(|range| range.subnet))?;
        Ok(conf)
    }

    /// One address is given out of each set of ranges: those of the runtime first.
    pub(super) fn sets(&self) -> impl Iterator<Item = &[Range]> + Clone {
        self.of_runtime.iter().chain(&self.network.sets).map(Vec::as_slice)
    }

    /// The container's routes.
    pub(super) fn routes(&self) -> Vec<Route> {
        self.network.routes.clone()
    }
}

impl Network {
    /// The old single range first, then `ranges`.
    fn of(ipam: &Map<String, Value>) -> Result<Self, Error> {
        let keys = Keys::new(ipam, OF);
        let mut sets = Vec::new();
        if keys.get("subnet").is_some() {
            sets.push(vec![Range::of(&keys)?]);
        }
        sets.extend(read_sets(&keys, "ranges", "a range of \"ranges\"")?);
        refuse_overlaps(&keys, sets.iter().map(Vec::as_slice))?;
        let routes = keys.decode("routes")?.unwrap_or_default();
        Ok(Self { ipam: ipam.clone(), sets, routes })
    }
}

fn refuse_overlaps<'a>(ipam: &Keys<'_>, sets: impl Iterator<Item = &'a [Range]>) -> Result<(), Error> {
    let all: Vec<&Range> = sets.flatten().collect();
    for (i, range) in all.iter().enumerate() {
        if let Some(other) = all.iter().skip(i + 1).find(|other| range.overlaps(other)) {
            return Err(ipam.refuse(
                "ranges",
                format!(
                    "ranges apart from each other: {}-{} and {}-{} overlap",
                    range.first, range.last, other.first, other.last
                ),
            ));
        }
    }
    Ok(())
}

/// `of` is what a range is called in errors.
fn read_sets(keys: &Keys<'_>, key: &str, of: &str) -> Result<Vec<Vec<Range>>, Error> {
    let set = |value: &Value| -> Result<Vec<Range>, Error> {
        let wanted = "a list of lists of ranges";
        let entries =
            value.as_array().filter(|set| !set.is_empty()).ok_or_else(|| keys.refuse(key, wanted))?;
        let range = |value: &Value| {
            let object = value.as_object().ok_or_else(|| keys.refuse(key, wanted))?;
            Range::of(&Keys::new(object, of))
        };
        let set = entries.iter().map(range).collect::<Result<Vec<_>, _>>()?;
        let v4 = set.first().is_some_and(|first| first.subnet.is_ipv4());
        if set.iter().any(|range| range.subnet.is_ipv4() != v4) {
            return Err(keys.refuse(key, "ranges of one family in each set"));
        }
        Ok(set)
    };
    keys.list(key)?.iter().map(set).collect()
}

/// `IP` of CNI_ARGS, `args.cni.ips` and the capability `ips`.
fn requested(request: &Request<'_>) -> Result<Vec<IpAddr>, Error> {
    let mut found = Vec::new();
    let parse = |text: &str, of: &str| -> Result<IpAddr, Error> {
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse().map_err(|_| {
            Error::new(
                Code::InvalidConfig,
                format!("cannot use the requested address {text:?} of {of}: it is none"),
            )
        })
    };
    if let Some(text) = request.attachment.arg("IP").filter(|ip| !ip.is_empty()) {
        found.push(parse(text, "CNI_ARGS")?);
    }
    let keys = request.keys();
    let cni =
        keys.object("args")?.map(|args| Keys::new(args, "\"args\"").object("cni")).transpose()?.flatten();
    for (object, of) in [(cni, "\"args.cni\""), (keys.object("runtimeConfig")?, "\"runtimeConfig\"")] {
        let Some(object) = object else { continue };
        let texts: Vec<String> = Keys::new(object, of).decode("ips")?.unwrap_or_default();
        for text in texts {
            found.push(parse(&text, of)?);
        }
    }
    Ok(found)
}

/// Name service as a resolv.conf has it.
fn resolv_conf(path: &str) -> Result<Dns, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::because(format!("cannot read \"resolvConf\" {path}"), e).code(Code::Io))?;
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    Ok(dns)
}
