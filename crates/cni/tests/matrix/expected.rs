//! Which differences are on purpose: each a place in what was seen, what is there on our side and on the reference's, and why.

use serde_json::Value;

use crate::differences::Difference;
use crate::side::REFUSED;

/// A difference that is meant. In all four patterns `*` stands for any run of characters.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The names of its cases.
    case: &'static str,
    /// Its places.
    path: &'static str,
    /// What is there on our side, as JSON; `nothing` if that is null, empty, or not there.
    ours: &'static str,
    /// The same of the reference.
    theirs: &'static str,
    #[allow(dead_code, reason = "whoever reads the table reads it, and a failure shows it")]
    why: &'static str,
    /// The only reference of which it is true.
    of: Option<Reference>,
}

/// Whose plugins are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    /// Debian's.
    Debian,
    /// Those that `SEXTANT_CNI_REFERENCE` names.
    Newer,
}

impl Expected {
    pub(crate) fn explains(&self, case: &str, difference: &Difference) -> bool {
        self.is_about(case)
            && matches(self.path, &difference.path)
            && matches(self.ours, &text(&difference.ours))
            && matches(self.theirs, &text(&difference.theirs))
    }

    /// It is about cases of all plugins.
    pub(crate) fn is_general(&self) -> bool {
        self.case.starts_with('*')
    }

    pub(crate) fn is_about(&self, case: &str) -> bool {
        matches(self.case, case)
    }

    pub(crate) fn is_of(&self, reference: Reference) -> bool {
        self.of.is_none_or(|of| of == reference)
    }

    const fn of(self, reference: Reference) -> Self {
        Self { of: Some(reference), ..self }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Array(list) if list.is_empty() => "nothing".into(),
        Value::String(text) if text.starts_with(REFUSED) => text.clone(),
        other => other.to_string(),
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

const fn expect(
    case: &'static str,
    path: &'static str,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
) -> Expected {
    Expected { case, path, ours, theirs, why, of: None }
}

/// The table.
pub(crate) fn expected() -> Vec<Expected> {
    [links(), sysctls(), answers(), of_failed_adds(), of_dels()].into_iter().flatten().collect()
}

/// Nothing.
const NO: &str = "nothing";
/// Something, whatever it is.
const SOME: &str = "*";
/// An alias of ours.
const ALIAS: &str = "\"cni matrix/c0ffee/eth0\"";

fn links() -> Vec<Expected> {
    let up = r#"["UP"]"#;
    let own = r#"["127.0.0.1/8 \"host\"","::1/128 \"host\""]"#;
    vec![
        expect(
            "*",
            "*.links.*.ifalias",
            ALIAS,
            NO,
            "a link says whose it is, by which DEL and GC know it again",
        ),
        expect(
            "host-device: *",
            "gone.host.links.spare.ifalias",
            NO,
            "\"spare\"",
            "what told the device's name goes",
        )
        .of(Reference::Debian),
        expect("*", "*.container.links.lo.flags", up, NO, LOOPBACK),
        expect("*", "*.container.addresses.lo", own, NO, LOOPBACK),
        expect("*", "*.container.links.eth0.txqlen", "1000", NO, QUEUE).of(Reference::Debian),
        expect("*", "*.host.links.VETH0.txqlen", "1000", NO, QUEUE),
        expect("bridge: vlan", "*.host.links.br81.100.txqlen", "1000", NO, QUEUE).of(Reference::Debian),
        expect("bridge: vlan", "*.host.links.LOOP0.txqlen", "1000", NO, QUEUE),
        expect("bridge: preserveDefaultVlan", "*.host.links.LOOP0.txqlen", "1000", NO, QUEUE),
        expect("bridge: vlan", "*.host.vlans.*", "*PVID*:100}]}\"", "*:1},*PVID*:100}]}\"", OF_ONE_VLAN)
            .of(Reference::Debian),
        expect("vrf: vrf", "attached.container.links.blue.txqlen", "1000", NO, QUEUE).of(Reference::Debian),
        expect("vrf: table", "attached.container.links.blue.txqlen", "1000", NO, QUEUE).of(Reference::Debian),
        expect(
            "vrf: vrf",
            "attached.container.routes",
            "*default dev eth0*table 1\"]",
            "*link table 1\"]",
            MOVED,
        )
        .of(Reference::Debian),
        expect(
            "vrf: table",
            "attached.container.routes",
            "*default dev eth0*table 177\"]",
            "*link table 177\"]",
            MOVED,
        )
        .of(Reference::Debian),
        expect("*", "gone.host.links.br81.address", "\"MAC\"", "\"00:00:00:00:00:00\"", BRIDGE_MAC),
    ]
}

fn sysctls() -> Vec<Expected> {
    vec![
        // A frame that comes in by a bridge's port is the bridge's.
        expect("*", "*.sysctls.host/ipv6/conf/VETH0/accept_ra", NO, "\"0\"", PORT),
        expect("*", "*.sysctls.host/ipv6/conf/VETH0/addr_gen_mode", "\"1\"", NO, PORT),
        expect("bridge: vlan", "*.sysctls.host/ipv6/conf/LOOP0/accept_ra", NO, "\"0\"", PORT),
        expect("bridge: vlan", "*.sysctls.host/ipv6/conf/LOOP0/addr_gen_mode", "\"1\"", NO, PORT),
        expect("bridge: vlan", "*.sysctls.host/ipv6/conf/br81.100/accept_ra", "\"0\"", NO, DEAF),
        expect("bridge: preserveDefaultVlan", "*.sysctls.host/ipv6/conf/LOOP0/accept_ra", NO, "\"0\"", PORT),
        expect(
            "bridge: preserveDefaultVlan",
            "*.sysctls.host/ipv6/conf/LOOP0/addr_gen_mode",
            "\"1\"",
            NO,
            PORT,
        ),
        expect(
            "bridge: preserveDefaultVlan",
            "*.sysctls.host/ipv6/conf/br81.100/accept_ra",
            "\"0\"",
            NO,
            DEAF,
        ),
        expect("ptp: both families", "*.sysctls.host/ipv6/conf/VETH0/accept_dad", "\"0\"", NO, PROBED),
        expect("*", "*.sysctls.host/ipv6/conf/br81/accept_dad", "\"0\"", NO, PROBED),
        expect("bridge: without a name", "*.sysctls.host/ipv6/conf/cni0/accept_dad", "\"0\"", NO, PROBED),
        expect(
            "*",
            "*.sysctls.container/ipv6/conf/eth0/accept_dad",
            NO,
            "\"0\"",
            "addresses are made without detection of duplicates, each by a flag of its own",
        ),
        expect(
            "*: both families",
            "*.sysctls.container/ipv6/conf/eth0/keep_addr_on_down",
            "\"1\"",
            NO,
            "an IPv6 address survives its link's going down, as IPv4's do",
        )
        .of(Reference::Debian),
        expect(
            "*",
            "*.sysctls.container/ipv4/conf/eth0/arp_notify",
            NO,
            "\"1\"",
            "a MAC is made from its address, so no neighbour's cache is stale",
        ),
        expect("macvlan: *", "*.sysctls.container/ipv6/conf/eth0/ndisc_notify", "\"1\"", NO, TOLD)
            .of(Reference::Debian),
        expect("ipvlan: mode is l*", "*.sysctls.container/ipv6/conf/eth0/ndisc_notify", "\"1\"", NO, TOLD)
            .of(Reference::Debian),
        expect("ipvlan: master", "*.sysctls.container/ipv6/conf/eth0/ndisc_notify", "\"1\"", NO, TOLD)
            .of(Reference::Debian),
        expect("ipvlan: mtu", "*.sysctls.container/ipv6/conf/eth0/ndisc_notify", "\"1\"", NO, TOLD)
            .of(Reference::Debian),
        expect("ipvlan: dns", "*.sysctls.container/ipv6/conf/eth0/ndisc_notify", "\"1\"", NO, TOLD)
            .of(Reference::Debian),
        expect("macvlan: no ipam", "*.sysctls.container/ipv4/conf/eth0/arp_notify", "\"1\"", NO, TOLD),
        expect("macvlan: no ipam", "*.sysctls.container/ipv6/conf/eth0/ndisc_notify", "\"1\"", NO, TOLD)
            .of(Reference::Newer),
        expect(
            "bridge: a bridge with another address",
            "*.sysctls.host/ipv6/conf/br81/accept_ra",
            NO,
            "\"0\"",
            AS_IT_IS,
        ),
        expect("bridge: forceAddress", "*.sysctls.host/ipv6/conf/br81/accept_ra", NO, "\"0\"", AS_IT_IS),
        expect(
            "portmap: hostPort is too large",
            "*.sysctls.host/ipv4/conf/br81/route_localnet",
            NO,
            "\"1\"",
            UNTOUCHED,
        )
        .of(Reference::Debian),
    ]
}

/// What ADD and CHECK say.
fn answers() -> Vec<Expected> {
    let ok = "\"ok\"";
    let added = r#"{"cniVersion":"1.0.0",*"#;
    vec![
        expect("bridge: no ipam", "check", ok, "refused: no plugin name provided", CHECK_IPAM),
        expect(
            "bridge: disableContainerInterface",
            "check",
            ok,
            "refused: no plugin name provided",
            CHECK_IPAM,
        ),
        expect(
            "host-local: an unknown word in CNI_ARGS",
            "answer",
            added,
            "refused: ARGS: unknown args [\"X=1\"]",
            "words of others in CNI_ARGS are left to others",
        ),
        expect(
            "portmap: *",
            "check",
            ok,
            "refused: could not check ipv6 dnat: *",
            "the reference's CHECK wants IPv6 chains of a network that has no IPv6",
        )
        .of(Reference::Debian),
        expect(
            "portmap: conditionsV4 that hold",
            "answer",
            "refused: *\"conditionsV4\"*",
            added,
            "conditions in iptables' language: code 2",
        ),
        expect(
            "portmap: markMasqBit",
            "answer",
            "refused: *\"markMasqBit\"*",
            added,
            "a mark that only iptables' chains have a use for: code 2",
        ),
        expect(
            "tuning: sysctl",
            "check",
            ok,
            "refused: open /proc/sys/net/ipv4/conf/IFNAME/*",
            "the reference's CHECK does not put the interface's name for IFNAME",
        )
        .of(Reference::Debian),
        expect(
            "tuning: *",
            "*c0ffee_eth0.json.holder",
            "\"matrix/c0ffee/eth0\"",
            NO,
            "by which GC knows the file",
        ),
        expect(
            "bandwidth: no rate",
            "check",
            ok,
            "refused: ",
            "the reference's CHECK crashes without a rate",
        )
        .of(Reference::Debian),
        expect(
            "sbr: sbr",
            "check",
            ok,
            "refused: Failed to find Gateway 10.81.0.1 for interface eth0",
            LOOKED_FOR,
        ),
        expect(
            "vrf: vrf",
            "check",
            ok,
            "refused: Failed to find Gateway 10.81.0.1 for interface eth0",
            LOOKED_FOR,
        ),
        expect(
            "vrf: table",
            "check",
            ok,
            "refused: Failed to find Gateway 10.81.0.1 for interface eth0",
            LOOKED_FOR,
        ),
    ]
}

/// What an ADD leaves that was refused.
fn of_failed_adds() -> Vec<Expected> {
    let first = "\"10.81.0.2\"";
    let mut table = vec![
        expect(
            "bridge: a link of the name is no bridge",
            "*/matrix/last_reserved_ip.0",
            first,
            NO,
            ADDRESS_FIRST,
        ),
        expect("bridge: ipMasqBackend is unknown", "*/matrix/last_reserved_ip.0", NO, first, JUDGED_FIRST),
        expect(
            "host-local: an IP in CNI_ARGS that no range has",
            "*/matrix/last_reserved_ip.0",
            NO,
            first,
            JUDGED_FIRST,
        ),
        expect("bridge: a bridge with another address", "attached.host.links.VETH0", NO, SOME, FAILED),
        expect("bridge: a bridge with another address", "attached.container.*", NO, SOME, FAILED),
        expect("bridge: an ipam plugin that is not there", "attached.host.links.VETH0", NO, SOME, FAILED),
        expect("bridge: an ipam plugin that is not there", "attached.container.links.eth0", NO, SOME, FAILED),
        expect("bridge: ipMasqBackend is unknown", "attached.host.links.VETH0", NO, SOME, JUDGED_FIRST),
        expect("bridge: ipMasqBackend is unknown", "attached.container.*", NO, SOME, JUDGED_FIRST),
    ];
    for case in ["bridge: an ipam plugin that is not there", "bridge: ipMasqBackend is unknown"] {
        table.push(expect(case, "*.host.links.br81", NO, r#"{*"kind":"bridge"*}"#, JUDGED_FIRST));
        table.push(expect(case, "*.sysctls.host/ipv6/conf/br81/accept_ra", NO, "\"0\"", JUDGED_FIRST));
    }
    let case = "bridge: ipMasqBackend is unknown";
    table.push(expect(case, "*.host.addresses.br81", NO, r#"["10.81.0.1/24 \"global\""]"#, JUDGED_FIRST));
    table.push(expect(
        case,
        "*.host.routes",
        r#"["192.0.2.0/24*"]"#,
        r#"["10.81.0.0/24 dev br81*"]"#,
        JUDGED_FIRST,
    ));
    table
}

/// DEL with a configuration that ADD has refused: ours frees what there is and says that it is done.
fn of_dels() -> Vec<Expected> {
    let mut table = Vec::new();
    for (case, theirs) in [
        ("host-local: rangeStart outside", "refused: invalid range set 0: RangeStart*"),
        ("host-local: ranges that overlap", "refused: range set 0 overlaps with 1"),
        (
            "host-local: ranges of two families in one set",
            "refused: invalid range set 0: mixed address families",
        ),
        ("host-local: no range", "refused: no IP ranges specified"),
        ("host-local: a subnet too small", "refused: invalid range set 0: Network 10.81.0.0/31 too small*"),
        ("host-local: a host bit in the subnet", "refused: invalid range set 0: Network has host bits set*"),
        ("firewall: ingressPolicy is unknown", "refused: unknown ingress policy: \"x\""),
        ("bandwidth: a rate without a burst", "refused: if rate is set, burst must also be set"),
        ("vlan: vlanId is too large", "refused: invalid VLAN ID 5000*"),
        ("vrf: no vrfname", "refused: configuration is expected to have a valid vrf name"),
        ("dummy: no ipam", "refused: no plugin name provided"),
        ("host-device: a device that is not there", "refused: failed to find \"eth0\"*: Link not found"),
        ("host-device: no device", "refused: specify either*"),
    ] {
        table.push(expect(case, "deleted", "\"ok\"", theirs, BY_NAME));
    }
    for (case, theirs) in [
        ("macvlan: a master that is not there", "refused: Link not found"),
        ("macvlan: an mtu larger than the master's", "refused: invalid MTU 1600*"),
    ] {
        table.push(expect(case, "deleted", "\"ok\"", theirs, BY_NAME).of(Reference::Debian));
    }
    for case in ["firewall: ingressPolicy is unknown", "bandwidth: a rate without a burst", "vrf: no vrfname"]
    {
        let lease = r#""c0ffee\r\neth0""#;
        table.push(expect(case, "gone.host.links.VETH0", NO, r#"{*"kind":"veth"*}"#, CHAIN));
        table.push(expect(case, "gone.container.*", NO, SOME, CHAIN));
        table.push(expect(case, "gone.files.DIR/leases/matrix/10.81.0.2", NO, lease, CHAIN));
    }
    table
}

const LOOPBACK: &str =
    "loopback comes up with the first interface, whether or not the plugin loopback is called";
const QUEUE: &str = "the kernel's length of a link's queue, where the reference asks for none at all";
const BRIDGE_MAC: &str =
    "a bridge keeps its MAC when its last port is gone, and so does every neighbour's cache";
const PORT: &str =
    "a bridge's port and a cable without IPv6 have no link-local address; routers are heard by the bridge";
const PROBED: &str =
    "a link that probes its link-local address loses the first second's neighbour solicitations";
const TOLD: &str =
    "neighbours are told of every address: the reference does so for some, and its newer versions for more";
const OF_ONE_VLAN: &str =
    "a port is in its VLAN alone unless preserveDefaultVlan says otherwise, as with newer versions";
const MOVED: &str = "a default route moves into the VRF's table too, as with newer versions";
const DEAF: &str = "no container becomes the host's router; the reference closes the bridge alone";
const LOOKED_FOR: &str =
    "the reference's bridge looks in its CHECK for a route that the plugin after it has moved";
const AS_IT_IS: &str = "a bridge that was there keeps what it has: it may be the host's way to its router";
const UNTOUCHED: &str = "refused before anything is touched";
const CHECK_IPAM: &str = "the reference's CHECK wants an IPAM plugin (upstream's bug)";
const ADDRESS_FIRST: &str =
    "the address is asked for before the bridge is looked at, so that a range that is full costs nothing";
const JUDGED_FIRST: &str = "the configuration is judged before anything is made";
const FAILED: &str = "a failed ADD leaves nothing; the reference leaves to DEL what it has made";
const BY_NAME: &str = "DEL goes by names and frees what there is";
const CHAIN: &str =
    "DEL of a plugin that cannot use its configuration succeeds, so the chain's other plugins are called";

#[test]
fn patterns() {
    assert!(
        matches("*", "") && matches("a*c", "abc") && matches("a*c*", "acd") && matches("*.mtu", "x.y.mtu")
    );
    assert!(!matches("a*c", "ab") && !matches("a", "ab"));
    let one = expect("a: *", "x.*", "\"1\"", NO, "");
    let difference = |ours: Value, theirs: Value| Difference { path: "x.y".into(), ours, theirs };
    assert!(one.explains("a: b", &difference("1".into(), Value::Null)));
    assert!(!one.explains("a: b", &difference("2".into(), Value::Null)));
    assert!(!one.explains("a: b", &difference("1".into(), "1".into())));
    assert!(!one.explains("c: b", &difference("1".into(), Value::Null)));
}
