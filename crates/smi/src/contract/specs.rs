//! `specs.smi-spec.io`: named requests and ports, which policies and splits refer to. v1alpha1 to v1alpha4.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::finding::Reason;
use super::http::{self, HttpMatch, Pair, PathMatch, TextMatch};
use super::meta::{Kind, Meta};
use super::part::{Field, Notes, Part};

/// The methods that the CRD knows, without `*`.
const METHODS: [&str; 9] = ["GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// HTTPRouteGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRouteGroup {
    /// Its name.
    pub meta: Meta,
    /// What it names, in order.
    pub matches: Vec<NamedMatch>,
}

/// One of a group's matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMatch {
    /// How rules refer to it.
    pub name: String,
    /// Which requests; `None` where it could not be read, and then none are.
    pub requests: Option<HttpMatch>,
}

impl HttpRouteGroup {
    pub(super) fn read(meta: Meta, value: &Value, notes: &mut Notes) -> Self {
        let whole = Part::whole(value);
        let spec = whole.as_ref().and_then(|whole| whole.part("spec", notes));
        let outside = whole.as_ref().and_then(|whole| whole.get("matches"));
        let inside = spec.as_ref().and_then(|spec| spec.get("matches"));
        if let Some(spec) = &spec {
            spec.only(&["matches"], notes);
        }
        if let (Some(outside), Some(_)) = (&outside, &inside) {
            let advice = "spec.matches is there, too, and is the one that counts; take this one away";
            notes.say(Reason::Ignored, &outside.path, "", advice);
        } else if let (Some(outside), false) = (&outside, is_old(value)) {
            let advice = "was read as spec.matches, where v1alpha3 and later have it; move it there";
            notes.say(Reason::Tolerated, &outside.path, "", advice);
        }
        let found = inside.or(outside);
        let (mut matches, mut names) = (Vec::new(), BTreeSet::new());
        for item in found.map(|field| field.items(notes)).unwrap_or_default() {
            let Some(read) = named(&item, notes) else { continue };
            if !names.insert(read.name.clone()) {
                let advice = "another match has this name, and rules mean both; give each its own";
                notes.say(
                    Reason::Tolerated,
                    format!("{}.name", item.path),
                    format!("{:?}", read.name),
                    advice,
                );
            }
            matches.push(read);
        }
        if matches.is_empty() {
            let advice =
                "no request is in this group; a match without pathRegex, methods and headers is all of them";
            notes.say(Reason::Missing, "spec.matches", "", advice);
        }
        Self { meta, matches }
    }
}

/// Whether matches belong to the top level in the version that the object is of.
fn is_old(value: &Value) -> bool {
    let version = value["apiVersion"].as_str().unwrap_or_default();
    version.ends_with("/v1alpha1") || version.ends_with("/v1alpha2")
}

fn named(item: &Field<'_>, notes: &mut Notes) -> Option<NamedMatch> {
    let part = item.part(notes)?;
    let known = ["name", "pathRegex", "methods", "headers"];
    let understood = part.understood(&known, "no request matches until it is taken away", notes);
    let name = part.required("name", notes)?.to_owned();
    let requests = requests(&part, notes).filter(|_| understood);
    Some(NamedMatch { name, requests })
}

/// `None` where any of it is wrong: a part that is left out would make it say more than it should.
fn requests(part: &Part<'_>, notes: &mut Notes) -> Option<HttpMatch> {
    let path = match part.get("pathRegex") {
        None => Some(PathMatch::default()),
        Some(field) => path(&field, notes),
    };
    let methods = methods(part, notes);
    let headers = match part.get("headers") {
        None => Some(Vec::new()),
        Some(field) => headers(&field, notes),
    };
    Some(HttpMatch { path: path?, methods: methods?, headers: headers?, query: Vec::new() })
}

fn path(field: &Field<'_>, notes: &mut Notes) -> Option<PathMatch> {
    let text = field.text(notes)?;
    // What people write for "any" needs no pattern.
    if matches!(text, "" | "*" | ".*" | "/.*" | "/" | "^/.*") {
        if text == "*" {
            let advice = "is no pattern and was read as any path; write .*, or leave it out";
            notes.say(Reason::Tolerated, &field.path, "\"*\"", advice);
        }
        return Some(PathMatch::default());
    }
    checked(field, text, notes)?;
    Some(PathMatch::Regex(http::beginning(text)))
}

/// Says what is wrong with a pattern.
fn checked(field: &Field<'_>, pattern: &str, notes: &mut Notes) -> Option<()> {
    let Err(error) = http::check(pattern) else { return Some(()) };
    let advice =
        format!("is no pattern ({error}); no request matches until it is one (RE2, without look-around)");
    notes.say(Reason::InvalidValue, &field.path, format!("{pattern:?}"), advice);
    None
}

fn methods(part: &Part<'_>, notes: &mut Notes) -> Option<Vec<String>> {
    let Some(field) = part.get("methods") else { return Some(Vec::new()) };
    let items = field.items(notes);
    if !field.value.is_array() {
        return None;
    }
    let (mut methods, mut any) = (Vec::new(), items.is_empty());
    for item in items {
        let text = item.text(notes)?;
        let upper = text.to_ascii_uppercase();
        if text == "*" {
            any = true;
        } else if METHODS.contains(&upper.as_str()) {
            if upper != text {
                notes.say(Reason::Tolerated, &item.path, format!("{text:?}"), format!("was read as {upper}"));
            }
            methods.push(upper);
        } else {
            let advice = format!("is no method and matches nothing; there are * {}", METHODS.join(" "));
            notes.say(Reason::InvalidValue, &item.path, format!("{text:?}"), advice);
        }
    }
    if any {
        return Some(Vec::new());
    }
    methods.sort();
    methods.dedup();
    (!methods.is_empty()).then_some(methods)
}

/// The text and the Go types have a map, the CRD a list of maps: both are the same.
fn headers(field: &Field<'_>, notes: &mut Notes) -> Option<Vec<Pair>> {
    let parts = match field.value {
        Value::Array(_) => {
            let items = field.items(notes);
            items.iter().map(|item| item.part(notes)).collect::<Option<Vec<_>>>()?
        }
        _ => vec![field.part(notes)?],
    };
    let mut headers = Vec::new();
    for part in parts {
        for name in part.map.keys() {
            let field = Field { value: &part.map[name], path: part.at(name) };
            let pattern = field.text(notes)?;
            if http_name(name).is_none() {
                let advice = "is no name of a header; no request matches until it is one";
                notes.say(Reason::InvalidValue, &part.path, format!("{name:?}"), advice);
                return None;
            }
            checked(&field, pattern, notes)?;
            let value = TextMatch::Regex(http::whole(pattern));
            headers.push(Pair { name: name.to_ascii_lowercase(), value });
        }
    }
    headers.sort();
    headers.dedup();
    Some(headers)
}

/// A header's name in lower case, if it can be one (RFC 9110, token; `:authority` and its like are none).
pub(super) fn http_name(text: &str) -> Option<String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!text.is_empty() && text.len() <= 256 && text.bytes().all(token)).then(|| text.to_ascii_lowercase())
}

/// What carries a port's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, and all that runs over it.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    pub(super) fn smi_kind(self) -> Kind {
        match self {
            Self::Tcp => Kind::TcpPorts,
            Self::Udp => Kind::UdpPorts,
        }
    }
}

/// Ports of pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ports {
    /// Every port.
    All,
    /// These, in order; none if empty.
    Listed(Vec<u16>),
}

impl Ports {
    /// No port at all.
    #[must_use]
    pub fn none() -> Self {
        Self::Listed(Vec::new())
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Listed(ports) => ports.binary_search(&port).is_ok(),
        }
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, other) => other.clone(),
            (ports, Self::All) => ports,
            (Self::Listed(mut ports), Self::Listed(others)) => {
                ports.retain(|port| others.binary_search(port).is_ok());
                Self::Listed(ports)
            }
        }
    }
}

/// TCPRoute or UDPRoute of SMI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRoute {
    /// Its name.
    pub meta: Meta,
    /// Which of the two.
    pub transport: Transport,
    /// Which ports.
    pub ports: Ports,
}

impl PortRoute {
    pub(super) fn read(meta: Meta, transport: Transport, value: &Value, notes: &mut Notes) -> Self {
        let ports = Self::read_ports(value, notes).unwrap_or_else(Ports::none);
        Self { meta, transport, ports }
    }

    /// Only where nothing stands that could have been ports are all of them meant; `None` where something else does.
    fn read_ports(value: &Value, notes: &mut Notes) -> Option<Ports> {
        const INSTEAD: &str = "no port is meant until it is taken away";
        let whole = Part::whole(value)?;
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        let mut understood = whole.understood(&known, INSTEAD, notes);
        let matches = match whole.get("spec") {
            None => None,
            Some(field) => {
                let spec = field.part(notes)?;
                understood &= spec.understood(&["matches"], INSTEAD, notes);
                spec.get("matches")
            }
        };
        let Some(matches) = matches else {
            let is_newest =
                value["apiVersion"].as_str().is_some_and(|version| version.ends_with("/v1alpha4"));
            if understood && is_newest {
                let advice = "was read as all ports; write {ports: []} for that, or the ports";
                notes.say(Reason::Tolerated, "spec.matches", "", advice);
            }
            return understood.then_some(Ports::All);
        };
        let matches = matches.part(notes)?;
        understood &= matches.understood(&["ports", "name"], INSTEAD, notes);
        let ports = ports(&matches, notes);
        understood.then_some(ports)
    }
}

/// An empty list is all ports; a list of nothing but what is no port is none.
fn ports(matches: &Part<'_>, notes: &mut Notes) -> Ports {
    let Some(field) = matches.get("ports") else { return Ports::All };
    let is_list = field.value.is_array();
    let items = field.items(notes);
    if items.is_empty() {
        return if is_list { Ports::All } else { Ports::none() };
    }
    let mut ports: Vec<u16> = items.iter().filter_map(|item| item.port(notes)).collect();
    ports.sort_unstable();
    ports.dedup();
    Ports::Listed(ports)
}
