//! What is on a host and in a container: links, addresses, routes, rules, queues, sysctls and files, by what they mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cases::Case;
use crate::rig::Netns;

/// Of a link's flags, those that somebody sets.
const FLAGS: &[&str] = &["UP", "NOARP", "PROMISC", "ALLMULTI", "MULTICAST"];
/// Of a link's attributes and of its kind's, those that a configuration decides on.
const ATTRIBUTES: &[&str] = &["mtu", "txqlen", "promiscuity", "master", "ifalias", "address"];
const OF_KIND: &[&str] =
    &["hairpin", "isolated", "vlan_filtering", "mode", "id", "table", "protocol", "type"];
/// What the kernel, not a plugin, writes.
const KERNELS: &[&str] = &["stable_secret", "mtu", "mc_forwarding", "flush"];

pub(crate) struct Look {
    dir: PathBuf,
    links: Vec<String>,
    sysctls: BTreeMap<String, String>,
    /// Names that a plugin made up, with what they are for.
    made_up: Vec<(String, String)>,
}

impl Look {
    pub(crate) fn before(netns: &Netns, dir: &Path) -> Self {
        let mut before = sysctls("host");
        before.extend(netns.run(|| sysctls("container")));
        let links = links().iter().map(name).collect();
        Self { dir: dir.to_owned(), links, sysctls: before, made_up: Vec::new() }
    }

    pub(crate) fn at(&mut self, netns: &Netns) -> Value {
        // Carriers and duplicate address detection take a moment.
        std::thread::sleep(Duration::from_millis(60));
        let here = links();
        for link in here.iter().filter(|link| !self.links.contains(&name(link))) {
            let name = name(link);
            let kind = link["linkinfo"]["info_kind"].as_str().unwrap_or_default().to_uppercase();
            // A cable whose other end is here as well leads to no container.
            let kind =
                if kind == "VETH" && link.get("link_netnsid").is_none() { "LOOP".into() } else { kind };
            let known = self.made_up.iter().any(|(known, _)| *known == name);
            if !known && matches!(kind.as_str(), "VETH" | "LOOP" | "IFB") && !name.contains('.') {
                let nth = self.made_up.iter().filter(|(_, role)| role.starts_with(&kind)).count();
                self.made_up.push((name, format!("{kind}{nth}")));
            }
        }
        let mut changed = sysctls("host");
        changed.extend(netns.run(|| sysctls("container")));
        changed.retain(|key, value| {
            self.sysctls.get(key) != Some(value)
                && !is_as_by_default(key, value, &changed_default(&self.sysctls, key))
        });
        json!({
            "host": network(), "container": netns.run(network),
            "sysctls": changed, "files": files(&self.dir),
        })
    }

    /// Names and addresses that are nobody's choice get the names of their roles.
    pub(crate) fn without_accidents(&self, seen: Value, netns: &Netns, case: &Case) -> Value {
        let mut text = seen.to_string();
        text = text.replace(&netns.path().display().to_string(), "SANDBOX");
        text = text.replace(&self.dir.display().to_string(), "DIR");
        for (name, role) in &self.made_up {
            text = text.replace(name, role);
        }
        let chosen = case.text();
        let mut seen: Value = serde_json::from_str(&text).unwrap();
        macs(&mut seen, &chosen);
        // They were in order by the names that they had.
        for when in ["attached", "gone"] {
            if let Some(vlans) = seen[when]["host"]["vlans"].as_array_mut() {
                vlans.sort_by_key(ToString::to_string);
            }
        }
        seen
    }
}

/// The value that the same key has by default.
fn changed_default(before: &BTreeMap<String, String>, key: &str) -> String {
    let parts: Vec<_> = key.split('/').collect();
    let at = parts.iter().position(|part| *part == "conf" || *part == "neigh").map_or(0, |at| at + 1);
    let mut parts: Vec<&str> = parts;
    if at > 0 && at < parts.len() {
        parts[at] = "default";
    }
    before.get(&parts.join("/")).cloned().unwrap_or_default()
}

fn is_as_by_default(key: &str, value: &str, default: &str) -> bool {
    let of_an_interface = key.contains("/conf/") || key.contains("/neigh/");
    of_an_interface && value == default
}

fn macs(value: &mut Value, chosen: &str) {
    match value {
        Value::String(text) if text.len() == 17 && text.matches(':').count() == 5 => {
            let fixed = chosen.contains(text.as_str()) || text == "00:00:00:00:00:00";
            if !fixed {
                *text = "MAC".into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| macs(value, chosen)),
        Value::Object(object) => object.values_mut().for_each(|value| macs(value, chosen)),
        _ => {}
    }
}

fn name(link: &Value) -> String {
    link["ifname"].as_str().unwrap().to_owned()
}

fn tool(words: &[&str]) -> Vec<Value> {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.stdout.is_empty() { Vec::new() } else { serde_json::from_slice(&output.stdout).unwrap() }
}

fn links() -> Vec<Value> {
    tool(&["ip", "-j", "-d", "link"])
}

/// One namespace.
fn network() -> Value {
    let mut seen = Map::new();
    let there = links();
    let links = there.iter().map(|link| (name(link), attributes(link))).collect::<Map<_, _>>();
    seen.insert("links".into(), links.into());
    let addresses = tool(&["ip", "-j", "addr"]);
    let of = |link: &Value| {
        let all = link["addr_info"].as_array().cloned().unwrap_or_default();
        let given =
            all.iter().filter(|address| !address["local"].as_str().unwrap_or_default().starts_with("fe80"));
        given
            .map(|address| {
                json!(format!(
                    "{}/{} {}",
                    address["local"].as_str().unwrap_or_default(),
                    address["prefixlen"],
                    address["scope"]
                ))
            })
            .collect::<Vec<_>>()
    };
    seen.insert(
        "addresses".into(),
        addresses.iter().map(|link| (name(link), json!(of(link)))).collect::<Map<_, _>>().into(),
    );
    for (family, key) in [("-4", "routes"), ("-6", "routes of IPv6")] {
        let routes = tool(&["ip", "-j", family, "route", "show", "table", "all"]);
        seen.insert(key.into(), sorted(routes.iter().filter_map(route)));
        let rules = tool(&["ip", "-j", family, "rule"]);
        seen.insert(format!("rules {family}"), sorted(rules.iter().map(|rule| rule.to_string().into())));
    }
    let queues = tool(&["tc", "-j", "qdisc"]);
    let shaped = queues.iter().filter(|queue| queue["kind"] != "noqueue");
    seen.insert("queues".into(), sorted(shaped.map(|queue| queue.to_string().into())));
    // A bridge that tells no VLANs apart has them nevertheless.
    let filters = |link: &Value| link["linkinfo"]["info_data"]["vlan_filtering"] == 1;
    let filtering: Vec<String> = there.iter().filter(|link| filters(link)).map(name).collect();
    let is_told_apart = |vlan: &&Value| {
        let link = there.iter().find(|link| link["ifname"] == vlan["ifname"]);
        let bridge = link.map(|link| link["master"].as_str().map_or_else(|| name(link), str::to_owned));
        bridge.is_some_and(|bridge| filtering.contains(&bridge))
    };
    let vlans = tool(&["bridge", "-j", "vlan"]);
    seen.insert(
        "vlans".into(),
        sorted(vlans.iter().filter(is_told_apart).map(|vlan| vlan.to_string().into())),
    );
    seen.into()
}

fn sorted(values: impl Iterator<Item = Value>) -> Value {
    let mut values: Vec<String> = values.map(|value| value.as_str().unwrap().to_owned()).collect();
    values.sort();
    json!(values)
}

fn attributes(link: &Value) -> Value {
    let mut kept = Map::new();
    for key in ATTRIBUTES {
        if let Some(value) = link.get(key) {
            kept.insert((*key).into(), value.clone());
        }
    }
    let flags = link["flags"].as_array().cloned().unwrap_or_default();
    let flags: Vec<_> = FLAGS.iter().filter(|flag| flags.contains(&json!(flag))).collect();
    kept.insert("flags".into(), json!(flags));
    let info = &link["linkinfo"];
    kept.insert("kind".into(), info["info_kind"].clone());
    for part in ["info_data", "info_slave_data"] {
        // The number that a bridge gives to a port is nobody's choice.
        for key in OF_KIND.iter().filter(|key| part == "info_data" || **key != "id") {
            if let Some(value) = info[part].get(key) {
                kept.insert(format!("{part}.{key}"), value.clone());
            }
        }
    }
    kept.into()
}

/// A route that somebody made, in words.
fn route(route: &Value) -> Option<Value> {
    let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
    let of_kernel = ["local", "broadcast", "multicast", "anycast"].contains(&text("type").as_str());
    if of_kernel || text("dst").starts_with("fe80") || text("dst").starts_with("ff00") {
        return None;
    }
    let mut words = format!("{} dev {}", text("dst"), text("dev"));
    for key in ["gateway", "prefsrc", "scope", "table", "metric"] {
        if let Some(value) = route.get(key) {
            words.push_str(&format!(" {key} {}", value.to_string().trim_matches('"')));
        }
    }
    Some(words.into())
}

/// Every sysctl of this namespace, by its path below `place`.
fn sysctls(place: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let root = Path::new("/proc/sys/net");
    let mut dirs: Vec<PathBuf> = ["ipv4/conf", "ipv6/conf"].iter().map(|dir| root.join(dir)).collect();
    let mut keys = vec![root.join("ipv4/ip_forward")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => keys.push(entry.path()),
            }
        }
    }
    for path in keys {
        let last = path.file_name().unwrap().to_str().unwrap();
        let Ok(value) = std::fs::read_to_string(&path) else { continue };
        let of_one = !path.parent().is_some_and(|of| of.ends_with("all"));
        if !(KERNELS.contains(&last) || last == "forwarding" && of_one) {
            let key = path.strip_prefix(root).unwrap().display();
            found.insert(format!("{place}/{key}"), value.trim().to_owned());
        }
    }
    found
}

/// The files that a plugin keeps, with what is in them. Locks and an index are each side's own affair.
fn files(dir: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.join("leases"), dir.join("tuning")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if name == ".index" {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else if name != "lock" {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                // JSON may be written in many ways.
                let value = serde_json::from_str(&text).ok().filter(Value::is_object);
                found.insert(path.display().to_string(), value.unwrap_or_else(|| json!(text)));
            }
        }
    }
    found
}
