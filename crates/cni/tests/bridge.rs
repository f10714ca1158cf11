//! The plugin `bridge`, key by key, on a host of the test's own.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::process::Command;

use cni::contract::{Attachment, Code, Error, NetworkList, PluginConf, Request, Version};
use kernel::netlink::{self, Batch, Kind, Link, Mac, NewLink, Protocol, SetLink, Socket};
use ledger::Transient;
use rig::{Host, Netns, ask, attachment, on_a_host, serve};
use serde_json::{Value, json};

fn list(host: &Host, keys: Value) -> NetworkList {
    named(host, "n", keys)
}

fn named(host: &Host, name: &str, keys: Value) -> NetworkList {
    let ipam = json!({ "type": "host-local", "subnet": "10.5.0.0/24", "dataDir": host.dir.path() });
    let mut bridge = json!({ "type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam });
    for (key, value) in keys.as_object().unwrap() {
        bridge[key] = value.clone();
    }
    NetworkList::from_value(json!({ "cniVersion": "1.1.0", "name": name, "plugins": [bridge] })).unwrap()
}

fn add(host: &Host, list: &NetworkList, id: &str) -> Result<(Netns, Attachment, cni::caller::Added), Error> {
    let netns = Netns::new();
    let attachment = attachment(id, &netns, &[]);
    let added = host.caller.add(list, &attachment, &mut host.owner(id))?;
    Ok((netns, attachment, added))
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn link(name: &str) -> Option<Link> {
    netlink::link_by_name(&mut Socket::open(Protocol::Route).unwrap(), name).unwrap()
}

fn set(set: &SetLink<'_>) {
    let mut batch = Batch::new();
    batch.set_link(set);
    Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
}

/// What a runtime sends to a plugin's program, as its main has it.
fn request<T>(host: &Host, list: &NetworkList, extra: Value, work: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut keys = list.plugins[0].keys.clone();
    keys.insert("name".into(), json!(list.name));
    keys.extend(extra.as_object().unwrap().clone());
    let conf = PluginConf { kind: list.plugins[0].kind.clone(), keys };
    let none = Attachment::new("none", "none", None).unwrap();
    work(&Request {
        attachment: &none,
        network: &list.name,
        version: Version::LATEST,
        conf: &conf,
        previous: None,
        delegate: &host.caller,
    })
}

#[test]
fn a_forged_mac_reaches_nobody() {
    on_a_host(|host| {
        let before = host.snapshot();
        for guarded in [false, true] {
            let list = list(host, json!({ "macspoofchk": guarded }));
            let (a, a_attachment, added) = add(host, &list, "a").unwrap();
            let (b, b_attachment, b_added) = add(host, &list, "b").unwrap();
            serve(&b, "0.0.0.0:80", "b");
            let b_ip = format!("{}:80", b_added.addresses()[0].address());
            let a_ip = added.addresses()[0].address();
            assert_eq!(a.run(|| ask(&b_ip)), Ok(format!("b {a_ip}")));
            host.caller.check(&list, &a_attachment).unwrap();
            a.run(|| set(&SetLink::named("eth0").mac(Mac([2, 0, 0, 0, 0, 66]))));
            b.run(|| set(&SetLink::named("eth0").up(false)));
            b.run(|| set(&SetLink::named("eth0").up(true)));
            assert_eq!(a.run(|| ask(&b_ip)).is_ok(), !guarded);
            let mac = added.result.interfaces[2].mac.parse().unwrap();
            a.run(|| set(&SetLink::named("eth0").mac(mac)));
            assert!(a.run(|| ask(&b_ip)).is_ok());
            if guarded {
                run("nft", &["flush", "set", "bridge", "sextant", "allowed"]);
                let broken = host.caller.check(&list, &a_attachment).unwrap_err();
                assert!(broken.to_string().contains("not guarded"), "{broken}");
            }
            for attachment in [&a_attachment, &b_attachment] {
                let mut owner = host.owner(&attachment.container_id);
                host.caller.del(&list, attachment, &mut owner).unwrap();
                rig::undone(owner);
            }
            assert_eq!(host.snapshot(), before);
        }
    });
}

#[test]
fn a_disabled_interface_stays_down_and_one_without_addresses_comes_up() {
    on_a_host(|host| {
        for disabled in [true, false] {
            let list = list(host, json!({ "disableContainerInterface": disabled, "ipam": {} }));
            let id = if disabled { "down" } else { "up" };
            let (netns, attachment, added) = add(host, &list, id).unwrap();
            assert_eq!(netns.run(|| link("eth0").unwrap().is_up()), !disabled);
            assert_eq!((added.result.ips.len(), added.result.interfaces.len()), (0, 3));
            host.caller.check(&list, &attachment).unwrap();
        }
    });
}

#[test]
fn an_address_that_somebody_has_is_found_by_dad() {
    on_a_host(|host| {
        let ipam = |dir: &str| {
            json!({ "enabledad": true, "ipam": { "type": "host-local", "subnet": "fd05::/64",
                "dataDir": host.dir.path().join(dir) } })
        };
        let (netns, attachment, added) = add(host, &list(host, ipam("one")), "a").unwrap();
        assert_eq!(added.addresses()[0].to_string(), "fd05::2/64");
        netns.run(|| {
            let there = netlink::addresses(&mut Socket::open(Protocol::Route).unwrap(), None).unwrap();
            let address = there.iter().find(|address| address.net == added.addresses()[0]).unwrap();
            assert!(!address.no_dad && !address.tentative && !address.duplicate, "{address:?}");
        });
        host.caller.check(&list(host, ipam("one")), &attachment).unwrap();
        // Leases of another directory: the same address once more.
        let error = add(host, &list(host, ipam("two")), "b").err().unwrap();
        assert!(error.to_string().contains("somebody on its network has it"), "{error}");
    });
}

#[test]
fn what_is_broken_is_named_by_check() {
    on_a_host(|host| {
        let keys =
            json!({ "isDefaultGateway": true, "ipMasq": true, "promiscMode": true, "portIsolation": true });
        let list = list(host, keys);
        let (netns, attachment, added) = add(host, &list, "a").unwrap();
        let port = added.result.interfaces[1].name.clone();
        let check = || host.caller.check(&list, &attachment).map_err(|e| e.to_string());
        assert!(link("br0").unwrap().is_promisc());
        let breaks = |what: &[&str], mends: &[&str], words: &str| {
            check().unwrap();
            run("ip", what);
            let error = check().unwrap_err();
            assert!(error.contains(words), "{what:?}: {error}");
            run("ip", mends);
        };
        breaks(
            &["link", "set", "br0", "promisc", "off"],
            &["link", "set", "br0", "promisc", "on"],
            "promiscuous",
        );
        breaks(
            &["addr", "del", "10.5.0.1/24", "dev", "br0"],
            &["addr", "add", "10.5.0.1/24", "dev", "br0"],
            "10.5.0.1",
        );
        let mac = link("br0").unwrap().mac.unwrap().to_string();
        breaks(
            &["link", "set", "br0", "address", "02:00:00:00:00:09"],
            &["link", "set", "br0", "address", &mac],
            "MAC",
        );
        let isolated = |on| ["link", "set", &port, "type", "bridge_slave", "isolated", on].map(str::to_owned);
        breaks(
            &isolated("off").each_ref().map(String::as_str),
            &isolated("on").each_ref().map(String::as_str),
            "isolation",
        );
        breaks(
            &["link", "set", &port, "nomaster"],
            &["link", "set", &port, "master", "br0"],
            "no port of br0",
        );
        run("ip", &["link", "set", &port, "type", "bridge_slave", "isolated", "on"]);
        check().unwrap();
        netns.run(|| run("ip", &["route", "del", "default"]));
        assert!(check().unwrap_err().contains("route to 0.0.0.0/0"));
        netns.run(|| run("ip", &["route", "add", "default", "via", "10.5.0.1"]));
        check().unwrap();
        run("nft", &["flush", "set", "inet", "sextant", "masq4"]);
        assert!(check().unwrap_err().contains("masquerade is gone"));
    });
}

#[test]
fn gc_frees_what_no_valid_attachment_has() {
    on_a_host(|host| {
        let list = list(host, json!({ "macspoofchk": true, "ipMasq": true }));
        // As a program: no ledger knows of it, and the runtime has lost it.
        let attach = |id: &str| {
            let netns = Netns::new();
            let attachment = attachment(id, &netns, &[]);
            host.caller.add(&list, &attachment, &mut Transient::new()).unwrap();
            (netns, attachment)
        };
        let (_a, a_attachment) = attach("a");
        let before = host.snapshot();
        let (_b, _) = attach("b");
        let ipam = json!({ "type": "host-local", "subnet": "10.5.0.0/24", "rangeStart": "10.5.0.100",
            "dataDir": host.dir.path() });
        let other = named(host, "other", json!({ "macspoofchk": true, "ipam": ipam }));
        let c = Netns::new();
        host.caller.add(&other, &attachment("c", &c, &[]), &mut Transient::new()).unwrap();
        let gc = |valid: Value| {
            let bridge = cni::plugin::builtins()["bridge"].clone();
            request(host, &list, json!({ "cni.dev/valid-attachments": valid }), |request| {
                bridge.gc(request, &mut Transient::new()).unwrap();
            });
        };
        for _ in 0..2 {
            gc(json!([{ "containerID": "a", "ifname": "eth0" }]));
            host.caller.check(&list, &a_attachment).unwrap();
            host.caller.check(&other, &attachment("c", &c, &[])).unwrap();
        }
        host.caller.del(&other, &attachment("c", &c, &[]), &mut Transient::new()).unwrap();
        assert_eq!(host.snapshot(), before, "b is gone, a is as it was");
        gc(json!([]));
        assert!(host.caller.check(&list, &a_attachment).is_err());
        let snapshot = host.snapshot();
        assert!(!snapshot.contains("veth") && !snapshot.contains("n/a/eth0"), "{snapshot}");
    });
}

#[test]
fn status_names_who_drops_what_is_forwarded() {
    on_a_host(|host| {
        let status = |keys: Value| host.caller.status(&list(host, keys)).map_err(|e| (e.code, e.to_string()));
        let refused = |chain: &str| {
            let (code, words) = status(json!({})).unwrap_err();
            assert_eq!(code, Code::NotAvailableLimited);
            assert!(words.contains(chain) && words.contains("policy drop"), "{words}");
            status(json!({ "sextant": { "forwardDrop": "ignore" } })).unwrap();
            status(json!({ "isGateway": false })).unwrap();
        };
        status(json!({})).unwrap();
        // As iptables-nft makes it.
        run(
            "nft",
            &[
                "table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority 0; \
            policy drop; jump DOCKER-USER; }; }",
            ],
        );
        refused("nftables chain ip filter FORWARD");
        run("nft", &["add", "rule", "ip", "filter", "FORWARD", "iifname", "br01", "counter", "accept"]);
        refused("nftables chain ip filter FORWARD");
        run("nft", &["add", "rule", "ip", "filter", "DOCKER-USER", "iifname", "br0", "counter", "accept"]);
        status(json!({})).unwrap();
        run("nft", &["flush", "ruleset"]);
        run("nft", &["table inet fw { chain f { type filter hook forward priority 0; policy drop; }; }"]);
        refused("nftables chain inet fw f");
        run("nft", &["add", "rule", "inet", "fw", "f", "iifname", "br*", "accept"]);
        status(json!({})).unwrap();
        run("nft", &["flush", "ruleset"]);
        if rig::has("ip6tables-legacy") {
            run("ip6tables-legacy", &["-P", "FORWARD", "DROP"]);
            refused("chain FORWARD of ip6tables-legacy");
            run("ip6tables-legacy", &["-A", "FORWARD", "-i", "br0", "-j", "ACCEPT"]);
            status(json!({})).unwrap();
        }
        let (code, words) = status(json!({ "sextant": { "forwardDrop": 7 } })).unwrap_err();
        assert!(code == Code::InvalidConfig && words.contains("forwardDrop"), "{words}");
    });
}

#[test]
fn a_bridge_that_is_there_keeps_what_it_has() {
    on_a_host(|host| {
        let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        let mut batch = Batch::new();
        batch.add_link(&NewLink::new("br0", kind));
        // One that nobody chose follows those of the ports.
        batch.set_link(&SetLink::named("br0").mtu(1300));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        let before = link("br0").unwrap();
        let list = list(host, json!({ "mtu": 1400, "promiscMode": true }));
        for id in ["a", "b", "c"] {
            let (_, attachment, _) = add(host, &list, id).unwrap();
            host.caller.del(&list, &attachment, &mut host.owner(id)).unwrap();
        }
        let after = link("br0").unwrap();
        assert_eq!((after.mac, after.mtu, after.index), (before.mac, 1300, before.index));
        assert!(after.is_up() && after.is_promisc());
    });
}

#[test]
fn a_bridge_that_is_there_has_one_mac_from_before_the_first_cable_on() {
    on_a_host(|host| {
        let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        let mut batch = Batch::new();
        batch.add_link(&NewLink::new("br0", kind));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        let before = link("br0").unwrap().mac;
        // This one ends between its cable and the bridge's address.
        let routes = json!([{ "dst": "198.51.100.0/24", "gw": "203.0.113.1" }]);
        let ipam = json!({ "type": "host-local", "subnet": "10.5.0.0/24", "dataDir": host.dir.path(), "routes": routes });
        let error = add(host, &list(host, json!({ "ipam": ipam })), "a").err().unwrap();
        assert!(error.to_string().contains("198.51.100.0/24"), "{error}");
        let addresses = run("ip", &["-4", "addr", "show", "br0"]);
        assert!(!addresses.contains("10.5.0.1"), "{addresses}");
        assert_eq!(link("br0").unwrap().mac, before);
        let (_netns, _, added) = add(host, &list(host, json!({})), "b").unwrap();
        assert_eq!(Some(added.result.interfaces[0].mac.parse().unwrap()), before);
        assert_eq!(link("br0").unwrap().mac, before);
    });
}

#[test]
fn the_configured_name_service_wins_over_ipams() {
    on_a_host(|host| {
        let resolv = host.dir.path().join("resolv.conf");
        std::fs::write(&resolv, "nameserver 192.0.2.53\nsearch example.com\n").unwrap();
        let ipam = json!({ "type": "host-local", "subnet": "10.5.0.0/24", "dataDir": host.dir.path(),
            "resolvConf": resolv });
        for (i, (dns, wanted)) in [
            (json!(null), vec!["192.0.2.53"]),
            (json!({}), vec!["192.0.2.53"]),
            (json!({ "nameservers": [] }), vec![]),
            (json!({ "nameservers": ["192.0.2.1"], "domain": "local" }), vec!["192.0.2.1"]),
        ]
        .into_iter()
        .enumerate()
        {
            let (_, _, added) =
                add(host, &list(host, json!({ "dns": dns, "ipam": ipam })), &format!("c{i}")).unwrap();
            assert_eq!(added.result.dns.nameservers, wanted, "{dns}");
        }
    });
}

/// VLANs need a kernel with VLAN_8021Q.
fn filters_vlans() -> bool {
    let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: Some(true) };
    let mut batch = Batch::new();
    batch.add_link(&NewLink::new("probe", kind));
    let able = Socket::open(Protocol::Route).unwrap().run(&batch).is_ok();
    netlink::delete_link("probe").unwrap();
    if !able {
        eprintln!("SKIPPED: this kernel's bridges do not filter VLANs; `cargo xtask vm` has one that does");
    }
    able
}

#[test]
fn a_kernel_without_vlans_is_told_of_with_the_key() {
    on_a_host(|host| {
        let list = list(host, json!({ "vlan": 100 }));
        match (filters_vlans(), host.caller.status(&list)) {
            (true, status) => status.unwrap(),
            (false, status) => {
                assert_eq!(status.unwrap_err().code, Code::NotAvailable);
                let error = add(host, &list, "a").err().unwrap();
                assert_eq!(error.code, Code::UnsupportedField);
                assert!(error.to_string().starts_with("cannot use \"vlan\" on bridge br0"), "{error}");
            }
        }
    });
}

#[test]
fn vlans_are_apart_and_have_gateways() {
    // br_netfilter sends what is bridged through the rules of what is routed, or not.
    for called in ["0", "1"] {
        vlans_apart(called);
    }
}

fn vlans_apart(called: &str) {
    on_a_host(|host| {
        if !filters_vlans() {
            return;
        }
        let before = host.snapshot();
        for family in ["ip", "ip6"] {
            let key = format!("net/bridge/bridge-nf-call-{family}tables");
            match netlink::sysctl::read(&key) {
                Ok(_) => netlink::sysctl::write(&key, called).unwrap(),
                Err(_) => assert_eq!(called, "0", "this kernel has no br_netfilter"),
            }
        }
        // First of all: a link's carrier takes up to a second to be seen.
        let outside = host.outside();
        serve(&outside, "0.0.0.0:80", "outside");
        let vlan = |vlan: u16, third: u8| {
            let ipam = json!({ "type": "host-local", "subnet": format!("10.5.{third}.0/24"),
                "dataDir": host.dir.path().join(third.to_string()) });
            list(host, json!({ "vlan": vlan, "isDefaultGateway": true, "ipMasq": true, "ipam": ipam }))
        };
        let (hundred, other) = (vlan(100, 1), vlan(200, 2));
        let (a, a_attachment, added) = add(host, &hundred, "a").unwrap();
        let (b, b_attachment, _) = add(host, &hundred, "b").unwrap();
        // In another VLAN, with addresses of the first: on a wire of its own.
        let (c, c_attachment, _) = add(host, &other, "c").unwrap();
        c.run(|| run("ip", &["addr", "add", "10.5.1.9/24", "dev", "eth0"]));
        let names: Vec<_> = added.result.interfaces.iter().map(|link| link.name.as_str()).collect();
        assert_eq!((names[0], names[3], names.len()), ("br0", "br0.100", 4));
        for (netns, words) in [(&b, "b"), (&c, "c")] {
            serve(netns, "0.0.0.0:80", words);
        }
        assert_eq!(a.run(|| ask("10.5.1.3:80")), Ok("b 10.5.1.2".into()));
        assert!(a.run(|| ask("10.5.1.9:80")).is_err(), "another VLAN");
        c.run(|| run("ip", &["addr", "del", "10.5.1.9/24", "dev", "eth0"]));
        assert_eq!(a.run(|| ask("10.5.2.2:80")), Ok("c 10.5.1.2".into()), "through the gateway");
        assert_eq!(a.run(|| ask("192.0.2.2:80")), Ok("outside 192.0.2.1".into()));
        netlink::delete_link("uplink").unwrap();
        for (list, attachment) in
            [(&hundred, &a_attachment), (&hundred, &b_attachment), (&other, &c_attachment)]
        {
            host.caller.check(list, attachment).unwrap();
        }
        let port = &added.result.interfaces[1].name;
        let mut batch = Batch::new();
        batch.delete_bridge_vlans(link(port).unwrap().index, 100..=100);
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        let broken = host.caller.check(&hundred, &a_attachment).unwrap_err();
        assert!(broken.to_string().contains("not in VLAN 100"), "{broken}");
        for (list, attachment) in
            [(&hundred, &a_attachment), (&hundred, &b_attachment), (&other, &c_attachment)]
        {
            let mut owner = host.owner(&attachment.container_id);
            host.caller.del(list, attachment, &mut owner).unwrap();
            rig::undone(owner);
        }
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn a_trunk_has_its_vlans_and_one_without_a_tag() {
    on_a_host(|host| {
        if !filters_vlans() {
            return;
        }
        let vids = |added: &cni::caller::Added| -> Vec<(u16, bool)> {
            let port = link(&added.result.interfaces[1].name).unwrap().index;
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let there = netlink::bridge_vlans(&mut socket).unwrap();
            let mut there: Vec<_> =
                there.iter().filter(|vlan| vlan.link == port).map(|vlan| (vlan.vid, vlan.pvid)).collect();
            there.sort();
            there
        };
        let trunk = json!([{ "id": 42 }, { "minID": 101, "maxID": 103 }]);
        let trunk = |more: Value| {
            let mut keys = json!({ "vlanTrunk": trunk, "isGateway": false, "ipam": {} });
            keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            list(host, keys)
        };
        let tagged = [(42, false), (101, false), (102, false), (103, false)];
        for (i, (more, native)) in [
            (json!({}), vec![(1, true)]),
            (json!({ "vlan": 7 }), vec![(7, true)]),
            (json!({ "vlan": 7, "preserveDefaultVlan": true }), vec![(1, false), (7, true)]),
        ]
        .into_iter()
        .enumerate()
        {
            let list = trunk(more);
            let (_netns, attachment, added) = add(host, &list, &format!("c{i}")).unwrap();
            let mut wanted = [native, tagged.to_vec()].concat();
            wanted.sort();
            assert_eq!(vids(&added), wanted);
            host.caller.check(&list, &attachment).unwrap();
        }
    });
}
