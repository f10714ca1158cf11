//! The cases: a plugin, a key, a value.

use std::path::Path;

use serde_json::{Value, json};

use crate::rig::{Host, Netns};
use crate::side::{in_dir, nothing, run};

/// One configuration and what is there before it.
pub(crate) struct Case {
    /// `plugin: what about it`.
    pub(crate) name: String,
    /// The chain; the last is the plugin that the case is about. `DIR` stands for a directory of the side's own.
    chain: Vec<Value>,
    /// `CNI_ARGS`.
    pub(crate) args: &'static str,
    /// What is made on the host and in the container first.
    pub(crate) before: fn(&Host, &Netns),
    /// Debian's plugins do not have the key.
    pub(crate) newer: bool,
    /// The container asks somebody outside.
    pub(crate) egress: bool,
    /// A port of the host's is published.
    pub(crate) published: Option<u16>,
}

impl Case {
    fn new(name: &str, chain: Vec<Value>) -> Self {
        let kind = chain.last().unwrap()["type"].as_str().unwrap();
        let name = format!("{kind}: {name}");
        Self { name, chain, args: "", before: nothing, newer: false, egress: false, published: None }
    }

    fn newer(self) -> Self {
        Self { newer: true, ..self }
    }

    fn egress(self) -> Self {
        Self { egress: true, ..self }
    }

    fn published(self, port: u16) -> Self {
        Self { published: Some(port), ..self }
    }

    fn args(self, args: &'static str) -> Self {
        Self { args, ..self }
    }

    fn after(self, before: fn(&Host, &Netns)) -> Self {
        Self { before, ..self }
    }

    /// It is about a kind of link that not every kernel has.
    pub(crate) fn wants_kernel(&self) -> bool {
        let last = self.chain.last().unwrap();
        let of_vlans = ["vlan", "vlanTrunk"].iter().any(|key| last.get(*key).is_some());
        matches!(last["type"].as_str(), Some("vlan" | "ipvlan" | "macvlan" | "vrf" | "dummy" | "tap"))
            || of_vlans
    }

    pub(crate) fn confs(&self, dir: &Path) -> Vec<Value> {
        self.chain.iter().map(|conf| in_dir(conf, dir)).collect()
    }

    /// All that was chosen.
    pub(crate) fn text(&self) -> String {
        format!("{:?} {}", self.chain, self.args)
    }
}

fn with(mut base: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return base };
    for (key, value) in patch {
        base[key] = value;
    }
    base
}

fn leases() -> Value {
    json!({
        "type": "host-local", "dataDir": "DIR/leases", "ranges": [[{ "subnet": "10.81.0.0/24" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    })
}

fn both_families() -> Value {
    let ranges = json!([[{ "subnet": "10.81.0.0/24" }], [{ "subnet": "fd81::/64" }]]);
    with(leases(), json!({ "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] }))
}

/// A bridge that containers can use, with `patch`.
fn bridge(patch: Value) -> Value {
    with(json!({ "type": "bridge", "bridge": "br81", "isGateway": true, "ipam": leases() }), patch)
}

/// A link of its own kind with leased addresses.
fn link(kind: &str, patch: Value) -> Value {
    with(json!({ "type": kind, "ipam": leases() }), patch)
}

pub(crate) fn cases() -> Vec<Case> {
    [bridges(), newer_bridges(), pairs(), addresses(), chained(), of_routing(), of_masters(), others()]
        .into_iter()
        .flatten()
        .collect()
}

fn bridges() -> Vec<Case> {
    let case = |name: &str, patch: Value| Case::new(name, vec![bridge(patch)]);
    vec![
        case("bridge", json!({})),
        case("without a name", json!({ "bridge": null })),
        case("isGateway is false", json!({ "isGateway": false })),
        case(
            "isDefaultGateway",
            json!({ "isDefaultGateway": true, "ipam": with(leases(), json!({ "routes": [] })) }),
        ),
        case("both families", json!({ "ipam": both_families() })),
        case("a bridge with another address", json!({})).after(other_address),
        case("forceAddress", json!({ "forceAddress": true })).after(other_address),
        case("a link of the name is no bridge", json!({ "bridge": "uplink" })),
        case("ipMasq", json!({ "ipMasq": true })).egress(),
        case("ipMasq is false", json!({})).egress(),
        case("mtu", json!({ "mtu": 1400 })),
        case("an mtu too small for IPv6", json!({ "mtu": 512 })),
        case("hairpinMode", json!({ "hairpinMode": true })),
        case("promiscMode", json!({ "promiscMode": true })),
        case("hairpinMode and promiscMode", json!({ "hairpinMode": true, "promiscMode": true })),
        case("no ipam", json!({ "ipam": {} })),
        case(
            "dns",
            json!({ "dns": { "nameservers": ["10.81.0.53"], "domain": "d", "search": ["s"], "options": ["o"] } }),
        ),
        case("mac in runtimeConfig", json!({ "runtimeConfig": { "mac": "02:11:22:33:44:55" } })),
        case("mac in args", json!({ "args": { "cni": { "mac": "02:11:22:33:44:66" } } })),
        case("mac in CNI_ARGS", json!({})).args("IgnoreUnknown=1;MAC=02:11:22:33:44:77"),
        case("vlan", json!({ "vlan": 100 })),
        case("macspoofchk", json!({ "macspoofchk": true })),
        case("an ipam plugin that is not there", json!({ "ipam": { "type": "nobody" } })),
    ]
}

fn newer_bridges() -> Vec<Case> {
    let case = |name: &str, patch: Value| Case::new(name, vec![bridge(patch)]).newer();
    vec![
        case("portIsolation", json!({ "portIsolation": true })),
        case("ipMasqBackend is nftables", json!({ "ipMasq": true, "ipMasqBackend": "nftables" })).egress(),
        case("ipMasqBackend is unknown", json!({ "ipMasq": true, "ipMasqBackend": "x" })),
        case("vlanTrunk", json!({ "vlanTrunk": [{ "minID": 5, "maxID": 7 }, { "id": 9 }] })),
        case("preserveDefaultVlan", json!({ "vlan": 100, "preserveDefaultVlan": true })),
        case("enabledad", json!({ "enabledad": true, "ipam": both_families() })),
        case("disableContainerInterface", json!({ "disableContainerInterface": true, "ipam": {} })),
        case("disableContainerInterface and ipam", json!({ "disableContainerInterface": true })),
    ]
}

fn pairs() -> Vec<Case> {
    let case = |name: &str, patch: Value| Case::new(name, vec![link("ptp", patch)]);
    vec![
        case("ptp", json!({})),
        case("ipMasq", json!({ "ipMasq": true })).egress(),
        case("mtu", json!({ "mtu": 1400 })),
        case("an mtu too small for IPv6", json!({ "mtu": 512 })),
        case("both families", json!({ "ipam": both_families() })),
        case("dns", json!({ "dns": { "nameservers": ["10.81.0.53"] } })),
        Case::new("loopback", vec![json!({ "type": "loopback" })]),
    ]
}

fn addresses() -> Vec<Case> {
    let local = |name: &str, patch: Value| {
        Case::new(
            name,
            vec![
                json!({ "type": "host-local", "ipam": with(json!({ "type": "host-local", "dataDir": "DIR/leases" }), patch) }),
            ],
        )
    };
    let fixed = |name: &str, patch: Value| {
        Case::new(name, vec![with(json!({ "type": "static", "ipam": { "type": "static" } }), patch)])
    };
    let subnet = json!({ "subnet": "10.81.0.0/24" });
    let sets = |ranges: Value| json!({ "ranges": ranges });
    let address = |patch: Value| json!({ "ipam": with(json!({ "type": "static", "addresses": [{ "address": "10.81.0.9/24", "gateway": "10.81.0.1" }] }), patch) });
    vec![
        local("subnet", subnet.clone()),
        local("subnet of IPv6", json!({ "subnet": "fd81::/64" })),
        local("rangeStart", json!({ "subnet": "10.81.0.0/24", "rangeStart": "10.81.0.50" })),
        local(
            "rangeEnd",
            json!({ "subnet": "10.81.0.0/24", "rangeStart": "10.81.0.50", "rangeEnd": "10.81.0.51" }),
        ),
        local("rangeStart outside", json!({ "subnet": "10.81.0.0/24", "rangeStart": "10.82.0.50" })),
        local("gateway", json!({ "subnet": "10.81.0.0/24", "gateway": "10.81.0.254" })),
        local("gateway is the first address", json!({ "subnet": "10.81.0.0/24", "gateway": "10.81.0.2" })),
        local(
            "routes",
            json!({ "subnet": "10.81.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.9.0.0/16", "gw": "10.81.0.7" }] }),
        ),
        local(
            "ranges",
            sets(
                json!([[{ "subnet": "10.81.0.0/24" }, { "subnet": "10.82.0.0/24" }], [{ "subnet": "fd81::/64" }]]),
            ),
        ),
        local(
            "ranges that overlap",
            sets(json!([[{ "subnet": "10.81.0.0/24" }], [{ "subnet": "10.81.0.0/25" }]])),
        ),
        local(
            "ranges of two families in one set",
            sets(json!([[{ "subnet": "10.81.0.0/24" }, { "subnet": "fd81::/64" }]])),
        ),
        local("no range", json!({})),
        local("a subnet too small", json!({ "subnet": "10.81.0.0/31" })),
        local("a host bit in the subnet", json!({ "subnet": "10.81.0.7/24" })),
        local("resolvConf", json!({ "subnet": "10.81.0.0/24", "resolvConf": "DIR/resolv.conf" }))
            .after(resolver),
        local("IP in CNI_ARGS", subnet.clone()).args("IgnoreUnknown=1;IP=10.81.0.77"),
        local("an IP in CNI_ARGS that no range has", subnet.clone()).args("IgnoreUnknown=1;IP=10.99.0.77"),
        local("an unknown word in CNI_ARGS", subnet.clone()).args("X=1"),
        Case::new(
            "ips in args",
            vec![
                json!({ "type": "host-local", "args": { "cni": { "ips": ["10.81.0.77"] } }, "ipam": with(leases(), json!({ "routes": [] })) }),
            ],
        ),
        Case::new(
            "ips in runtimeConfig",
            vec![
                json!({ "type": "host-local", "runtimeConfig": { "ips": ["10.81.0.77"] }, "ipam": leases() }),
            ],
        ),
        Case::new(
            "ipRanges in runtimeConfig",
            vec![json!({
                "type": "host-local", "runtimeConfig": { "ipRanges": [[{ "subnet": "10.83.0.0/24" }]] },
                "ipam": { "type": "host-local", "dataDir": "DIR/leases" },
            })],
        ),
        fixed("addresses", address(json!({}))),
        fixed(
            "addresses of both families",
            json!({ "ipam": { "type": "static", "addresses": [{ "address": "10.81.0.9/24" }, { "address": "fd81::9/64", "gateway": "fd81::1" }] } }),
        ),
        fixed(
            "routes",
            address(
                json!({ "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.9.0.0/16", "gw": "10.81.0.7" }] }),
            ),
        ),
        fixed(
            "dns",
            address(
                json!({ "dns": { "nameservers": ["10.81.0.53"], "domain": "d", "search": ["s"], "options": ["o"] } }),
            ),
        ),
        fixed("IP and GATEWAY in CNI_ARGS", json!({}))
            .args("IgnoreUnknown=1;IP=10.81.0.9/24;GATEWAY=10.81.0.1"),
        fixed("an IP without a prefix in CNI_ARGS", json!({})).args("IgnoreUnknown=1;IP=10.81.0.9"),
        fixed("ips in args", json!({ "args": { "cni": { "ips": ["10.81.0.9/24"] } } })),
        fixed("ips in runtimeConfig", json!({ "runtimeConfig": { "ips": ["10.81.0.9/24", "fd81::9/64"] } })),
        fixed(
            "an address that is none",
            json!({ "ipam": { "type": "static", "addresses": [{ "address": "x" }] } }),
        ),
    ]
}

fn chained() -> Vec<Case> {
    let after = |name: &str, kind: &str, patch: Value| {
        Case::new(
            name,
            vec![
                bridge(json!({ "ipMasq": true, "hairpinMode": true })),
                with(json!({ "type": kind }), patch),
            ],
        )
    };
    let ports = |mapping: Value| json!({ "runtimeConfig": { "portMappings": [mapping] } });
    let mapping = json!({ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" });
    let portmap = |name: &str, patch: Value| {
        after(name, "portmap", with(ports(mapping.clone()), patch)).published(8080)
    };
    let rates = json!({ "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000 });
    vec![
        portmap("portMappings", json!({})),
        portmap(
            "another port of the host",
            ports(json!({ "hostPort": 8081, "containerPort": 80, "protocol": "tcp" })),
        ),
        portmap("hostIP", ports(with(mapping.clone(), json!({ "hostIP": "192.0.2.1" })))),
        portmap("a hostIP of somebody else", ports(with(mapping.clone(), json!({ "hostIP": "192.0.2.77" })))),
        portmap("protocol is udp", ports(with(mapping.clone(), json!({ "protocol": "udp" })))),
        portmap("no portMappings", json!({ "runtimeConfig": {} })),
        portmap("snat is false", json!({ "snat": false })),
        portmap("conditionsV4 that hold", json!({ "conditionsV4": ["-s", "192.0.2.0/24"] })),
        portmap("markMasqBit", json!({ "markMasqBit": 5 })),
        portmap("hostPort is too large", ports(with(mapping.clone(), json!({ "hostPort": 70000 })))),
        after("firewall", "firewall", json!({})).egress(),
        after("ingressPolicy is same-bridge", "firewall", json!({ "ingressPolicy": "same-bridge" })).egress(),
        after("ingressPolicy is unknown", "firewall", json!({ "ingressPolicy": "x" })),
        after(
            "sysctl",
            "tuning",
            json!({ "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1", "net.core.somaxconn": "500" } }),
        ),
        after("a sysctl outside net", "tuning", json!({ "sysctl": { "kernel.hostname": "x" } })),
        after("mac", "tuning", json!({ "mac": "02:11:22:33:44:55", "dataDir": "DIR/tuning" })),
        after("promisc", "tuning", json!({ "promisc": true, "dataDir": "DIR/tuning" })),
        after("mtu", "tuning", json!({ "mtu": 1454, "dataDir": "DIR/tuning" })),
        after("allmulti", "tuning", json!({ "allmulti": true, "dataDir": "DIR/tuning" })),
        after("txQLen", "tuning", json!({ "txQLen": 20_000, "dataDir": "DIR/tuning" })).newer(),
        after(
            "mac in runtimeConfig",
            "tuning",
            json!({ "runtimeConfig": { "mac": "02:11:22:33:44:66" }, "dataDir": "DIR/tuning" }),
        ),
        after(
            "args",
            "tuning",
            json!({ "args": { "cni": { "mtu": 1444, "promisc": true } }, "dataDir": "DIR/tuning" }),
        ),
        after("no rate", "bandwidth", json!({})),
        after("ingress", "bandwidth", json!({ "ingressRate": 8_000_000, "ingressBurst": 800_000 })),
        after("egress", "bandwidth", json!({ "egressRate": 8_000_000, "egressBurst": 800_000 })),
        after("both directions", "bandwidth", rates.clone()),
        after("runtimeConfig", "bandwidth", json!({ "runtimeConfig": { "bandwidth": rates } })),
        after("a rate without a burst", "bandwidth", json!({ "ingressRate": 8_000_000 })),
    ]
}

/// Behind a bridge that asks nothing of iptables.
fn of_routing() -> Vec<Case> {
    let after = |name: &str, kind: &str, patch: Value| {
        Case::new(name, vec![bridge(json!({})), with(json!({ "type": kind }), patch)])
    };
    vec![
        after("sbr", "sbr", json!({})),
        after("table", "sbr", json!({ "table": 177 })).newer(),
        after("vrf", "vrf", json!({ "vrfname": "blue" })),
        after("table", "vrf", json!({ "vrfname": "blue", "table": 177 })),
        after("no vrfname", "vrf", json!({})),
    ]
}

fn of_masters() -> Vec<Case> {
    let case = |kind: &str, name: &str, patch: Value| {
        Case::new(name, vec![link(kind, with(json!({ "master": "uplink" }), patch))])
    };
    let mut cases = vec![
        case("vlan", "vlanId", json!({ "vlanId": 5 })),
        case("vlan", "mtu", json!({ "vlanId": 5, "mtu": 1400 })),
        case("vlan", "vlanId is too large", json!({ "vlanId": 5000 })),
        case("macvlan", "mac in runtimeConfig", json!({ "runtimeConfig": { "mac": "02:11:22:33:44:55" } })),
        case("macvlan", "no ipam", json!({ "ipam": {} })),
        case("ipvlan", "mode is unknown", json!({ "mode": "x" })),
    ];
    for mode in ["bridge", "private", "vepa", "passthru", "x"] {
        cases.push(case("macvlan", &format!("mode is {mode}"), json!({ "mode": mode })));
    }
    for mode in ["l2", "l3", "l3s"] {
        cases.push(case("ipvlan", &format!("mode is {mode}"), json!({ "mode": mode })));
    }
    for kind in ["macvlan", "ipvlan"] {
        cases.push(case(kind, "master", json!({})));
        cases.push(case(kind, "mtu", json!({ "mtu": 1400 })));
        cases.push(case(kind, "a master that is not there", json!({ "master": "nobody" })));
    }
    cases.push(case("macvlan", "an mtu larger than the master's", json!({ "mtu": 1600 })));
    cases.push(case("macvlan", "bcqueuelen", json!({ "bcqueuelen": 2000 })).newer());
    cases.push(case("macvlan", "mac", json!({ "mac": "02:11:22:33:44:88" })));
    cases.push(case("ipvlan", "dns", json!({ "dns": { "nameservers": ["10.81.0.53"] } })));
    for (kind, patch) in [("macvlan", json!({})), ("ipvlan", json!({})), ("vlan", json!({ "vlanId": 5 }))] {
        let inside = with(json!({ "master": "inner", "linkInContainer": true }), patch);
        cases.push(case(kind, "linkInContainer", inside).after(inner).newer());
    }
    cases
}

fn others() -> Vec<Case> {
    vec![
        Case::new("dummy", vec![link("dummy", json!({}))]).newer(),
        Case::new("no ipam", vec![json!({ "type": "dummy" })]).newer(),
        Case::new("tap", vec![link("tap", json!({}))]).newer(),
        Case::new("mtu", vec![link("tap", json!({ "mtu": 1400 }))]).newer(),
        Case::new("mac", vec![link("tap", json!({ "mac": "02:11:22:33:44:55" }))]).newer(),
        Case::new("multiQueue", vec![link("tap", json!({ "multiQueue": true }))]).newer(),
        Case::new("device", vec![link("host-device", json!({ "device": "spare" }))]).after(spare),
        Case::new("hwaddr", vec![link("host-device", json!({ "hwaddr": "02:11:22:33:44:55" }))]).after(spare),
        Case::new("a device that is not there", vec![link("host-device", json!({ "device": "nobody" }))]),
        Case::new("no device", vec![link("host-device", json!({}))]),
    ]
}

fn other_address(_: &Host, _: &Netns) {
    run("ip link add br81 type bridge");
    run("ip addr add 10.81.0.200/24 dev br81");
    run("ip link set br81 up");
}

fn resolver(host: &Host, _: &Netns) {
    let text = "nameserver 10.81.0.53\nsearch a.example b.example\noptions ndots:2\n";
    std::fs::write(host.dir.path().join("resolv.conf"), text).unwrap();
}

/// A link in the container that others can be made on.
fn inner(_: &Host, netns: &Netns) {
    netns.run(|| {
        run("ip link add inner type veth peer name far");
        run("ip link set inner up");
    });
}

fn spare(_: &Host, _: &Netns) {
    run("ip link add spare address 02:11:22:33:44:55 type veth peer name far");
}
