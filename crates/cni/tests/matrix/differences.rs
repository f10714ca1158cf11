//! What differs, and which differences are on purpose.

use std::fmt;

use serde_json::Value;

use crate::side::REFUSED;

/// A place in what was seen where the two sides are not the same.
pub(crate) struct Difference {
    pub(crate) path: String,
    ours: Value,
    theirs: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ours {}, the reference's {}", self.path, self.ours, self.theirs)
    }
}

pub(crate) fn differences(ours: &Value, theirs: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    let refused = |side: &Value| side["answer"].as_str().is_some_and(|answer| answer.starts_with(REFUSED));
    if refused(ours) == refused(theirs) {
        compare("", ours, theirs, &mut found);
    } else {
        // All else follows from that.
        compare("answer", &ours["answer"], &theirs["answer"], &mut found);
    }
    found
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let of =
                    |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                compare(format!("{path}.{key}").trim_start_matches('.'), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.for_each(|(i, (a, b))| compare(&format!("{path}.{i}"), a, b, found));
        }
        (Value::String(a), Value::String(b)) if a.starts_with(REFUSED) && b.starts_with(REFUSED) => {}
        // Absent, null and empty say the same.
        _ if ours == theirs || (is_nothing(ours) && is_nothing(theirs)) => {}
        _ => found.push(Difference { path: path.into(), ours: ours.clone(), theirs: theirs.clone() }),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.values().all(is_nothing),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A difference that is meant.
#[derive(Debug)]
pub(crate) struct Expected {
    /// How the names of its cases begin; `*` stands for anything.
    case: &'static str,
    /// How its paths look; `*` stands for anything.
    path: &'static str,
    #[allow(dead_code, reason = "whoever reads the table reads it, and a failure shows it")]
    why: &'static str,
    /// Only seen with a newer reference, so not missed without it.
    pub(crate) newer: bool,
}

impl Expected {
    pub(crate) fn explains(&self, case: &str, path: &str) -> bool {
        self.is_about(case) && matches(self.path, path)
    }

    pub(crate) fn is_about(&self, case: &str) -> bool {
        matches(self.case, case)
    }
}

/// Whether `text` is as `pattern` says, with `*` for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            let Some(rest) = text.strip_prefix(head) else { return false };
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(tail, rest)))
        }
    }
}

const fn expect(case: &'static str, path: &'static str, why: &'static str) -> Expected {
    Expected { case, path, why, newer: false }
}

/// The table.
pub(crate) fn expected() -> Vec<Expected> {
    let accidents = [
        expect("*", "*.ifalias", "a host's link says whose it is, by which GC knows it again"),
        expect("*", "*.container.addresses.lo", LOOPBACK),
        expect("*", "*.container.links.lo.flags", LOOPBACK),
        expect(
            "*",
            "*.txqlen",
            "the kernel's length of a link's queue, where the reference asks for none at all",
        ),
        expect("*", "*.sysctls.host/ipv6/conf/*/accept_ra", IPV6),
        expect("*", "*.sysctls.host/ipv6/conf/*/addr_gen_mode", IPV6),
        expect("*", "*.sysctls.host/ipv6/conf/*/accept_dad", IPV6),
        expect(
            "*",
            "*.sysctls.container/ipv6/conf/eth0/accept_dad",
            "addresses are made without detection of duplicates, each by a flag of its own",
        ),
        expect(
            "*",
            "*.sysctls.container/ipv6/conf/eth0/keep_addr_on_down",
            "a link of a container's that goes down is not brought up by its plugin",
        ),
        expect(
            "*",
            "*.sysctls.container/ipv4/conf/eth0/arp_notify",
            "a MAC is made from its address, so no neighbour's cache is stale",
        ),
        expect(
            "macvlan*",
            "*.sysctls.container/*_notify",
            "neighbours are told also where Debian's version does not",
        ),
        expect(
            "*",
            "gone.host.links.br81.address",
            "a bridge keeps its MAC when its last port is gone, and so does every neighbour's cache",
        ),
    ];
    let of_cases = [
        expect("*", "deleted", "DEL frees what it can whatever is wrong with the configuration"),
        expect(
            "*",
            "*.files.*/last_reserved_ip.*",
            "of a failed ADD: what is looked at first, the address or the bridge",
        ),
        expect("bridge: no ipam", "check", "the reference's CHECK wants an IPAM plugin (upstream's bug)"),
        expect(
            "bridge: disableContainerInterface",
            "check",
            "the reference's CHECK wants an IPAM plugin (upstream's bug)",
        ),
        expect(
            "host-local: an unknown word in CNI_ARGS",
            "answer",
            "words of others in CNI_ARGS are left to others",
        ),
        expect(
            "portmap: *",
            "check",
            "the reference's CHECK wants IPv6 chains of a network that has no IPv6",
        ),
        expect("portmap: conditionsV4 that hold", "answer", "conditions in iptables' language: code 2"),
        expect("portmap: markMasqBit", "answer", "a mark that only iptables' chains have a use for: code 2"),
        expect("portmap: hostPort is too large", "*route_localnet", "refused before anything is touched"),
        expect("bridge: a bridge with another address", "attached.*", FAILED),
        expect("bridge: an ipam plugin that is not there", "*.*", FAILED),
        expect("bridge: ipMasqBackend is unknown", "*.*", FAILED),
        expect("tuning: *", "*c0ffee_eth0.json.holder", "the file says whose it is, by which GC knows it"),
        expect(
            "tuning: sysctl",
            "check",
            "the reference's CHECK does not put the interface's name for IFNAME",
        ),
        expect("bandwidth: no rate", "check", "the reference's CHECK crashes without a rate"),
        expect(
            "sbr: sbr",
            "check",
            "the reference's bridge looks in its CHECK for a route that its sbr has moved",
        ),
        expect("firewall: ingressPolicy is unknown", "gone.*", CHAIN),
        expect("bandwidth: a rate without a burst", "gone.*", CHAIN),
    ];
    accidents.into_iter().chain(of_cases).collect()
}

const LOOPBACK: &str =
    "loopback comes up with the first interface, whether or not the plugin loopback is called";
const IPV6: &str =
    "no link-local address on the host's ports, and no router is listened to, by attributes of the link";
const FAILED: &str = "a failed ADD leaves nothing; the reference leaves to DEL what it has made";
const CHAIN: &str =
    "DEL of a plugin that cannot use its configuration succeeds, so the chain's other plugins are called";

#[test]
fn patterns() {
    assert!(
        matches("*", "") && matches("a*c", "abc") && matches("a*c*", "acd") && matches("*.mtu", "x.y.mtu")
    );
    assert!(!matches("a*c", "ab") && !matches("a", "ab"));
    let (a, b) =
        (serde_json::json!({ "x": [1, { "y": 2 }] }), serde_json::json!({ "x": [1, { "y": 3 }], "z": [] }));
    let found: Vec<_> = differences(&a, &b).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["x.1.y: ours 2, the reference's 3"]);
}
