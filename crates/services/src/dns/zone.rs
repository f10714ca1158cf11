//! The names of a cluster, from what is known at the moment that they are asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use client::cache::Name as ObjectName;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::Outcome;
use crate::plan::{Protocol, cluster_ips};
use crate::world::Known;

/// How long others may keep what is said here.
const TTL: u32 = 5;
/// The version of the specification that is followed.
const VERSION: &str = "1.1.0";

/// A domain and all below it.
#[derive(Debug)]
pub(super) struct Zone {
    name: Name,
    labels: Vec<String>,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing: it is not ours.
    Elsewhere,
    /// It is another name.
    Alias(Box<Record>, Name),
    /// All there is.
    Here(Outcome),
}

/// An endpoint of a Service as it is named.
struct Backend {
    host: String,
    address: IpAddr,
    /// Protocol, name and number of its ports.
    ports: Vec<(Protocol, String, u16)>,
}

impl Zone {
    pub(super) fn new(domain: &str) -> Result<Self, String> {
        let mut name =
            Name::from_ascii(domain).map_err(|e| format!("cannot use {domain:?} as a domain: {e}"))?;
        name.set_fqdn(true);
        let name = name.to_lowercase();
        let labels = labels(&name).unwrap_or_default();
        if labels.is_empty() {
            return Err(format!("cannot use {domain:?} as a domain: it has no label"));
        }
        Ok(Self { name, labels })
    }

    /// What there is of this type at a name.
    pub(super) fn answer(&self, known: &Known, name: &Name, kind: RecordType) -> Found {
        let Some(labels) = labels(name) else { return self.unreadable(name) };
        let Some(rest) = labels.strip_suffix(self.labels.as_slice()) else {
            return self.address(known, name, &labels, kind);
        };
        if !known.is_complete() {
            return Found::Here(Outcome::of(ResponseCode::ServFail));
        }
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let in_namespace = |namespace: &str| match known.has_namespace(namespace) {
            true => self.nothing(),
            false => self.nobody(),
        };
        match rest.as_slice() {
            [] => self.apex(name, kind),
            ["dns-version"] => {
                let version = RData::TXT(TXT::new(vec![VERSION.into()]));
                self.those(kind, RecordType::TXT, vec![record(name, version)])
            }
            ["svc" | "pod"] => self.nothing(),
            [namespace, "svc" | "pod"] => in_namespace(namespace),
            [address, namespace, "pod"] => match dashed(address) {
                Some(address) if known.has_namespace(namespace) => self.addresses(name, kind, &[address]),
                _ => self.nobody(),
            },
            [below @ .., service, namespace, "svc"] => {
                let object = ObjectName::new(*namespace, *service);
                match known.service(&object) {
                    Some(found) => self.service(known, (&object, found), below, name, kind),
                    None => self.nobody(),
                }
            }
            _ => self.nobody(),
        }
    }

    fn service(
        &self,
        known: &Known,
        (object, service): (&ObjectName, &Service),
        below: &[&str],
        name: &Name,
        kind: RecordType,
    ) -> Found {
        let Some(spec) = &service.spec else { return self.nobody() };
        if spec.type_.as_deref() == Some("ExternalName") {
            return if below.is_empty() { self.external(spec, name) } else { self.nobody() };
        }
        let own = cluster_ips(spec);
        let headless = own.is_empty();
        match below {
            [] if kind == RecordType::SRV => self.ports(known, (object, spec), None, headless, name),
            [] if headless => {
                let addresses: Vec<IpAddr> = backends(known, object).into_iter().map(|b| b.address).collect();
                self.addresses(name, kind, &addresses)
            }
            [] => self.addresses(name, kind, &own),
            [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                let wanted = Some((port.trim_start_matches('_'), *protocol));
                match self.ports(known, (object, spec), wanted, headless, name) {
                    Found::Here(found) if !found.answers.is_empty() && kind != RecordType::SRV => {
                        self.nothing()
                    }
                    found => found,
                }
            }
            [protocol] if protocol.starts_with('_') => {
                let has = |p: &k8s_openapi::api::core::v1::ServicePort| {
                    Protocol::of(p.protocol.as_deref()).is_some_and(|p| p.label() == *protocol)
                };
                if spec.ports.iter().flatten().any(has) { self.nothing() } else { self.nobody() }
            }
            [host] if headless => {
                let mine = backends(known, object).into_iter().filter(|b| b.host == *host);
                let addresses: Vec<IpAddr> = mine.map(|b| b.address).collect();
                if addresses.is_empty() { self.nobody() } else { self.addresses(name, kind, &addresses) }
            }
            _ => self.nobody(),
        }
    }

    fn external(&self, spec: &ServiceSpec, name: &Name) -> Found {
        let target = spec.external_name.as_deref().and_then(|target| Name::from_ascii(target).ok());
        let Some(mut target) = target else { return Found::Here(Outcome::of(ResponseCode::ServFail)) };
        target.set_fqdn(true);
        Found::Alias(Box::new(record(name, RData::CNAME(CNAME(target.clone())))), target)
    }

    /// The ports of a Service: all, or those of a name and protocol.
    fn ports(
        &self,
        known: &Known,
        (object, spec): (&ObjectName, &ServiceSpec),
        wanted: Option<(&str, &str)>,
        headless: bool,
        name: &Name,
    ) -> Found {
        let fits = |protocol: Protocol, port: &str| {
            wanted.is_none_or(|(name, label)| protocol.label() == label && port == name)
        };
        let mut targets: Vec<(u16, Name, Vec<IpAddr>)> = Vec::new();
        if headless {
            for backend in backends(known, object) {
                let Some(host) = self.name_of(object, Some(&backend.host)) else { continue };
                let ports = backend.ports.iter().filter(|(protocol, port, _)| fits(*protocol, port));
                targets.extend(ports.map(|(_, _, number)| (*number, host.clone(), vec![backend.address])));
            }
        } else if let Some(host) = self.name_of(object, None) {
            let ports = spec.ports.iter().flatten().filter(|port| {
                let name = port.name.as_deref().unwrap_or_default();
                Protocol::of(port.protocol.as_deref()).is_some_and(|protocol| fits(protocol, name))
            });
            let number = |port: i32| u16::try_from(port).unwrap_or_default();
            targets.extend(ports.map(|port| (number(port.port), host.clone(), cluster_ips(spec))));
        }
        if targets.is_empty() {
            return if wanted.is_some() { self.nobody() } else { self.nothing() };
        }
        let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(100).max(1);
        let mut outcome = Outcome { authoritative: true, ..Outcome::of(ResponseCode::NoError) };
        for (port, host, addresses) in targets {
            outcome.answers.push(record(name, RData::SRV(SRV::new(0, weight, port, host.clone()))));
            for address in addresses {
                let one = record(&host, address_data(address));
                if !outcome.additionals.contains(&one) {
                    outcome.additionals.push(one);
                }
            }
        }
        Found::Here(outcome)
    }

    /// The name of a Service, or of something behind it.
    fn name_of(&self, object: &ObjectName, host: Option<&str>) -> Option<Name> {
        let labels = host.into_iter().chain([object.name.as_str(), &object.namespace, "svc"]);
        Name::from_labels(labels.map(str::as_bytes)).ok()?.append_domain(&self.name).ok()
    }

    /// The name at an address, if the address is that of a Service or behind a headless one.
    fn address(&self, known: &Known, name: &Name, labels: &[String], kind: RecordType) -> Found {
        let Some(address) = reversed(labels) else { return Found::Elsewhere };
        let mut names = BTreeSet::new();
        for (object, service) in known.at(address) {
            let Some(spec) = &service.spec else { continue };
            let own = cluster_ips(spec);
            if own.contains(&address) {
                names.extend(self.name_of(object, None));
            } else if own.is_empty() {
                let mine = backends(known, object).into_iter().filter(|b| b.address == address);
                names.extend(mine.filter_map(|b| self.name_of(object, Some(&b.host))));
            }
        }
        if names.is_empty() {
            return Found::Elsewhere;
        }
        let records = names.into_iter().map(|of| record(name, RData::PTR(PTR(of)))).collect();
        self.those(kind, RecordType::PTR, records)
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Found {
        match kind {
            RecordType::SOA => self.those(kind, RecordType::SOA, vec![self.soa()]),
            RecordType::NS => {
                let server = Name::from_labels(["ns", "dns"].map(str::as_bytes));
                let server = server.and_then(|server| server.append_domain(&self.name));
                let records = server.into_iter().map(|server| record(name, RData::NS(NS(server))));
                self.those(kind, RecordType::NS, records.collect())
            }
            _ => self.nothing(),
        }
    }

    fn addresses(&self, name: &Name, kind: RecordType, addresses: &[IpAddr]) -> Found {
        let wanted = |address: &&IpAddr| match kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        let addresses: BTreeSet<&IpAddr> = addresses.iter().filter(wanted).collect();
        let records = addresses.into_iter().map(|address| record(name, address_data(*address)));
        self.those(kind, kind, records.collect())
    }

    fn those(&self, asked: RecordType, are: RecordType, answers: Vec<Record>) -> Found {
        if asked != are || answers.is_empty() {
            return self.nothing();
        }
        Found::Here(Outcome { answers, authoritative: true, ..Outcome::of(ResponseCode::NoError) })
    }

    /// The name is there, and has nothing of that type.
    fn nothing(&self) -> Found {
        self.none(ResponseCode::NoError)
    }

    /// There is no such name.
    fn nobody(&self) -> Found {
        self.none(ResponseCode::NXDomain)
    }

    fn none(&self, code: ResponseCode) -> Found {
        let authorities = vec![self.soa()];
        Found::Here(Outcome { authorities, authoritative: true, ..Outcome::of(code) })
    }

    /// A label that is no text is of no name here.
    fn unreadable(&self, name: &Name) -> Found {
        if self.name.zone_of(name) { self.nobody() } else { Found::Elsewhere }
    }

    fn soa(&self) -> Record {
        let below = |labels: &[&str]| {
            let name = Name::from_labels(labels.iter().map(|label| label.as_bytes()));
            name.and_then(|name| name.append_domain(&self.name)).unwrap_or_else(|_| self.name.clone())
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let serial = u32::try_from(now).unwrap_or(1);
        let soa = SOA::new(below(&["ns", "dns"]), below(&["hostmaster"]), serial, 7200, 1800, 86_400, TTL);
        record(&self.name, RData::SOA(soa))
    }
}

/// What is ready behind a Service.
fn backends(known: &Known, object: &ObjectName) -> Vec<Backend> {
    let mut found = Vec::new();
    for slice in known.slices_of(object) {
        let ports: Vec<_> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                let number = port.port.and_then(|port| u16::try_from(port).ok())?;
                Some((Protocol::of(port.protocol.as_deref())?, port.name.clone().unwrap_or_default(), number))
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
                continue;
            }
            for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                let host = endpoint.hostname.clone().filter(|host| !host.is_empty());
                let host = host.unwrap_or_else(|| address.to_string().replace(['.', ':'], "-"));
                found.push(Backend { host: host.to_lowercase(), address, ports: ports.clone() });
            }
        }
    }
    found
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    }
}

/// In lower case; none if one is no text.
fn labels(name: &Name) -> Option<Vec<String>> {
    name.iter().map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase())).collect()
}

/// `10-9-0-1`, `fd09--1`.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` is of.
fn reversed(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [d, c, b, a, "in-addr", "arpa"] => {
            format!("{a}.{b}.{c}.{d}").parse::<Ipv4Addr>().ok().map(Into::into)
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let digit = |label: &&str| u128::from_str_radix(label, 16).ok().filter(|_| label.len() == 1);
            let bits =
                nibbles.iter().rev().try_fold(0_u128, |bits, label| Some(bits << 4 | digit(label)?))?;
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}
