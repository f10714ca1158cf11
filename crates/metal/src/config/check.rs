//! What a file says is looked at whole: what could not work is refused before anything does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cpi::contract::{Cidr, NodeAddress};
use serde_json::Value;

use super::{
    AddressDocument, Config, ConfigError, Document, Instance, InstanceDocument, NodeRoutes, Pool,
    PoolDocument, Range,
};

/// What addresses of nodes are of.
const KINDS: [&str; 5] = ["Hostname", "InternalIP", "ExternalIP", "InternalDNS", "ExternalDNS"];
/// As long as a link's name may be.
const LINK: usize = 15;

type Checked<T> = Result<T, ConfigError>;

pub(super) fn checked(document: Document) -> Checked<Config> {
    let pools = each("pools", document.pools, pool)?;
    unique("pools", "name", pools.iter().map(|pool| &pool.name))?;
    apart(&pools)?;
    let instances = document.instances.map(|all| each("instances", all, instance)).transpose()?;
    if let Some(instances) = &instances {
        if instances.is_empty() {
            // By it every node's machine would be gone, and the node deleted.
            let what = "is an inventory of no machine; leave it out to take each node for one";
            return Err(ConfigError::field("instances", what));
        }
        unique("instances", "name", instances.iter().map(|one| &one.name))?;
        unique("instances", "id", instances.iter().map(|one| &one.id))?;
    }
    Ok(Config { pools, instances, node_routes: node_routes(document.node_routes)? })
}

fn node_routes(value: Value) -> Checked<NodeRoutes> {
    let field = "nodeRoutes";
    let wish = "write true, or the networks that all pods are in: [10.64.0.0/16, \"fd64::/48\"]";
    let networks = match value {
        Value::Null | Value::Bool(false) => return Ok(NodeRoutes::None),
        Value::Bool(true) => return Ok(NodeRoutes::All),
        Value::Array(networks) => networks,
        other => {
            let what =
                format!("{:?} is neither true or false nor networks; {wish}", shown(&other.to_string()));
            return Err(ConfigError::field(field, what));
        }
    };
    if networks.is_empty() {
        return Err(ConfigError::field(field, format!("is empty; {wish}")));
    }
    let network = |field: &str, value: Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match text.parse::<Cidr>() {
            Ok(network) if network.length() > 0 => Ok(network),
            _ => {
                let what =
                    format!("{:?} is no network of pods; write 10.64.0.0/16 or fd64::/48", shown(&text));
                Err(ConfigError::field(field, what))
            }
        }
    };
    each(field, networks, network).map(NodeRoutes::Within)
}

fn each<T, U>(field: &str, all: Vec<T>, check: fn(&str, T) -> Checked<U>) -> Checked<Vec<U>> {
    all.into_iter().enumerate().map(|(at, one)| check(&format!("{field}[{at}]"), one)).collect()
}

fn unique<'a>(field: &str, key: &str, values: impl Iterator<Item = &'a String>) -> Checked<()> {
    let mut seen = BTreeMap::new();
    for (at, value) in values.enumerate() {
        if let Some(before) = seen.insert(value, at) {
            let what = format!("{value:?} is that of {field}[{before}], too; give each its own");
            return Err(ConfigError::field(format!("{field}[{at}].{key}"), what));
        }
    }
    Ok(())
}

/// No address is there twice.
fn apart(pools: &[Pool]) -> Checked<()> {
    let all = pools.iter().enumerate();
    let mut ranges: Vec<(Range, usize, usize)> = all
        .flat_map(|(pool, its)| its.addresses.iter().enumerate().map(move |(at, range)| (*range, pool, at)))
        .collect();
    ranges.sort_unstable();
    // Sorted by their first addresses, two that overlap have one between them that overlaps its neighbour.
    for pair in ranges.windows(2) {
        let [(one, pool, at), (other, other_pool, other_at)] = pair else { continue };
        if one.overlaps(other) {
            let before = format!("pools[{pool}].addresses[{at}]");
            let what = format!("{other} has addresses of {before} ({one}) in it; name each address once");
            return Err(ConfigError::field(format!("pools[{other_pool}].addresses[{other_at}]"), what));
        }
    }
    Ok(())
}

fn pool(field: &str, document: PoolDocument) -> Checked<Pool> {
    name(&format!("{field}.name"), &document.name, 63)?;
    let at = format!("{field}.addresses");
    if document.addresses.is_empty() {
        return Err(ConfigError::field(at, "is empty; name a range of addresses, or leave out the pool"));
    }
    let addresses: Checked<Vec<Range>> = each(&at, document.addresses, |field, text: String| {
        let wrong = |why: String| ConfigError::field(field, format!("{:?} {why}", shown(&text)));
        text.parse::<Range>().map_err(wrong)
    });
    let mut namespaces = BTreeSet::new();
    for (at, namespace) in document.namespaces.iter().enumerate() {
        let field = format!("{field}.namespaces[{at}]");
        name(&field, namespace, 63)?;
        if !namespaces.insert(namespace) {
            return Err(ConfigError::field(field, format!("{namespace:?} is there twice; name it once")));
        }
    }
    labels(&format!("{field}.serviceSelector.matchLabels"), &document.service_selector.match_labels)?;
    if document.priority == Some(0) {
        let what = "0 is none; the first is 1, and a pool without one is taken last";
        return Err(ConfigError::field(format!("{field}.priority"), what));
    }
    let mut links = BTreeSet::new();
    for (at, link) in document.links.iter().enumerate() {
        let is_name = !link.is_empty()
            && link.len() <= LINK
            && !matches!(link.as_str(), "." | "..")
            && !link.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
        let field = format!("{field}.links[{at}]");
        if !is_name {
            let what = format!("{:?} is no link's name, as `ip link` shows it", shown(link));
            return Err(ConfigError::field(field, what));
        }
        if !links.insert(link) {
            return Err(ConfigError::field(field, format!("{link:?} is there twice; name it once")));
        }
    }
    let pool = Pool {
        name: document.name,
        addresses: addresses?,
        auto_assign: document.auto_assign,
        avoid_network_addresses: document.avoid_network_addresses,
        namespaces: document.namespaces,
        labels: document.service_selector.match_labels,
        priority: document.priority,
        links: document.links,
    };
    // Of three in a row one is never avoided.
    let is_left = |range: &Range| {
        range.size() > 2 || [range.first(), range.last()].iter().any(|one| !pool.avoids(*one))
    };
    if !pool.addresses.iter().any(is_left) {
        let what = "has only addresses of networks, which are avoided; name others";
        return Err(ConfigError::field(at, what));
    }
    Ok(pool)
}

fn instance(field: &str, document: InstanceDocument) -> Checked<Instance> {
    name(&format!("{field}.name"), &document.name, 253)?;
    let id = document.id.unwrap_or_else(|| document.name.clone());
    let provider_id = format!("{}://{id}", crate::NAME);
    if let Err(error) = provider_id.parse::<cpi::contract::ProviderId>() {
        let what = format!("{:?} cannot be an id: {}", shown(&id), error.message);
        return Err(ConfigError::field(format!("{field}.id"), what));
    }
    for (key, value) in [("type", &document.kind), ("zone", &document.zone), ("region", &document.region)] {
        // Nodes have them as labels.
        value_of_label(&format!("{field}.{key}"), value)?;
    }
    labels(&format!("{field}.labels"), &document.labels)?;
    let addresses: Vec<NodeAddress> = each(&format!("{field}.addresses"), document.addresses, address)?;
    let mut seen = BTreeSet::new();
    for (at, one) in addresses.iter().enumerate() {
        if !seen.insert((&one.type_, &one.address)) {
            let what = format!("{} {:?} is there twice; name it once", one.type_, one.address);
            return Err(ConfigError::field(format!("{field}.addresses[{at}]"), what));
        }
    }
    Ok(Instance {
        name: document.name,
        id,
        addresses,
        kind: document.kind,
        zone: document.zone,
        region: document.region,
        labels: document.labels,
        shutdown: document.shutdown,
    })
}

fn address(field: &str, AddressDocument { kind, address }: AddressDocument) -> Checked<NodeAddress> {
    if !KINDS.contains(&kind.as_str()) {
        let what = format!("{:?} is none of {}", shown(&kind), KINDS.join(", "));
        return Err(ConfigError::field(format!("{field}.type"), what));
    }
    let at = format!("{field}.address");
    if !kind.ends_with("IP") {
        name(&at, &address.to_ascii_lowercase(), 253)?;
        return Ok(NodeAddress { type_: kind, address });
    }
    let Ok(read) = address.parse::<IpAddr>() else {
        let what = format!("{:?} is no address; write 10.0.0.1 or fd00::1", shown(&address));
        return Err(ConfigError::field(at, what));
    };
    if read.is_unspecified() || read.is_loopback() || read.is_multicast() {
        let what =
            format!("{read} is an address that no other machine reaches this one by; name one that they do");
        return Err(ConfigError::field(at, what));
    }
    // As others write it, so that the same is the same.
    Ok(NodeAddress { type_: kind, address: read.to_string() })
}

/// As much of a text as an error repeats.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(100)).unwrap_or_default()
}

/// A name as Kubernetes' objects have it.
fn name(field: &str, text: &str, longest: usize) -> Checked<()> {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if text.len() <= longest
        && is_end(text.chars().next())
        && is_end(text.chars().last())
        && text.chars().all(is_inner)
    {
        return Ok(());
    }
    let what = format!(
        "{:?} is no name: lower-case letters, digits, dashes and dots, {longest} at most, a letter or digit first and last",
        shown(text)
    );
    Err(ConfigError::field(field, what))
}

fn is_of_label(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && is_end(text.chars().next())
        && is_end(text.chars().last())
        && text.chars().all(is_inner)
}

fn value_of_label(field: &str, value: &str) -> Checked<()> {
    if value.is_empty() || is_of_label(value) {
        return Ok(());
    }
    let what = format!(
        "{:?} cannot be a label's value: letters, digits, dashes, underscores and dots, 63 at most, a letter or digit first and last",
        shown(value)
    );
    Err(ConfigError::field(field, what))
}

fn labels(field: &str, all: &BTreeMap<String, String>) -> Checked<()> {
    for (key, value) in all {
        let (prefix, short) =
            key.split_once('/').map_or((None, key.as_str()), |(prefix, short)| (Some(prefix), short));
        let is_prefix = prefix.is_none_or(|prefix| name("", prefix, 253).is_ok());
        if !is_prefix || !is_of_label(short) {
            let what = format!("{:?} is no label's name; write it as example.com/name or name", shown(key));
            return Err(ConfigError::field(field, what));
        }
        value_of_label(&format!("{field}[{key:?}]"), value)?;
    }
    Ok(())
}
