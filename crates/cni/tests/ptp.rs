//! The plugin `ptp` on a host of the test's own.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use cni::contract::{Attachment, Code, NetworkList, PluginConf, Request, Version};
use kernel::netlink::{self, Protocol, Socket};
use ledger::Transient;
use rig::{Host, Netns, ask, attachment, on_a_host, serve};
use serde_json::{Value, json};

fn list(host: &Host, name: &str, keys: Value) -> NetworkList {
    let ipam = json!({ "type": "host-local", "dataDir": host.dir.path(),
        "ranges": [[{ "subnet": "10.7.0.0/24" }], [{ "subnet": "fd07::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] });
    let mut ptp = json!({ "type": "ptp", "ipMasq": true, "ipam": ipam });
    for (key, value) in keys.as_object().unwrap() {
        ptp[key] = value.clone();
    }
    NetworkList::from_value(json!({ "cniVersion": "1.1.0", "name": name, "plugins": [ptp] })).unwrap()
}

fn add(host: &Host, list: &NetworkList, id: &str) -> (Netns, Attachment, cni::caller::Added) {
    let netns = Netns::new();
    let attachment = attachment(id, &netns, &[]);
    let added = host.caller.add(list, &attachment, &mut host.owner(id)).unwrap();
    (netns, attachment, added)
}

fn del(host: &Host, list: &NetworkList, attachment: &Attachment) {
    let mut owner = host.owner(&attachment.container_id);
    host.caller.del(list, attachment, &mut owner).unwrap();
    rig::undone(owner);
}

#[test]
fn both_families_reach_host_neighbours_and_outside() {
    on_a_host(|host| {
        let before = host.snapshot();
        let list = list(host, "p", json!({ "mtu": 1400 }));
        let (a, a_attachment, added) = add(host, &list, "a");
        let (b, b_attachment, _) = add(host, &list, "b");
        let outside = host.outside();
        serve(&b, "[::]:80", "b");
        serve(&outside, "[::]:80", "outside");
        let [near, inside] = added.result.interfaces.as_slice() else { panic!("{:?}", added.result) };
        assert!(near.name.starts_with("veth") && near.sandbox.is_empty(), "{near:?}");
        assert_eq!((inside.name.as_str(), inside.mtu), ("eth0", Some(1400)));
        assert!(added.result.ips.iter().all(|ip| ip.interface == Some(1)));
        // Routed by the host, and not masqueraded: the neighbour sees who asks.
        assert_eq!(a.run(|| ask("10.7.0.3:80")), Ok("b ::ffff:10.7.0.2".into()));
        assert_eq!(a.run(|| ask("[fd07::3]:80")), Ok("b fd07::2".into()));
        assert_eq!(ask("10.7.0.3:80"), Ok("b ::ffff:10.7.0.1".into()));
        assert_eq!(a.run(|| ask("192.0.2.2:80")), Ok("outside ::ffff:192.0.2.1".into()));
        assert_eq!(a.run(|| ask("[2001:db8::2]:80")), Ok("outside 2001:db8::1".into()));
        a.run(|| {
            let routes = netlink::routes(&mut Socket::open(Protocol::Route).unwrap()).unwrap();
            let network = routes.iter().find(|r| r.destination.to_string() == "10.7.0.0/24").unwrap();
            assert_eq!(network.gateway, Some([10, 7, 0, 1].into()), "neighbours are behind the host");
        });
        netlink::delete_link("uplink").unwrap();
        for attachment in [&a_attachment, &b_attachment] {
            host.caller.check(&list, attachment).unwrap();
        }
        del(host, &list, &a_attachment);
        assert!(
            host.caller.check(&list, &b_attachment).is_ok(),
            "what is shared stays while somebody uses it"
        );
        del(host, &list, &b_attachment);
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn without_masquerade_the_address_is_seen() {
    on_a_host(|host| {
        let list = list(host, "p", json!({ "ipMasq": false }));
        let (a, _, _) = add(host, &list, "a");
        let outside = host.outside();
        serve(&outside, "0.0.0.0:80", "outside");
        outside.run(|| {
            let mut batch = netlink::Batch::new();
            batch.add_route(&rig::route("10.7.0.0/24", "192.0.2.1"));
            Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        });
        assert_eq!(a.run(|| ask("192.0.2.2:80")), Ok("outside 10.7.0.2".into()));
    });
}

#[test]
fn del_without_namespace_and_without_result_frees_all() {
    on_a_host(|host| {
        let before = host.snapshot();
        let list = list(host, "p", json!({}));
        let (netns, mut attachment, _) = add(host, &list, "a");
        drop(netns);
        std::fs::remove_dir_all(host.dir.path().join("cache")).unwrap();
        attachment.netns = Some("/nowhere".into());
        let mut owner = host.owner("a");
        for _ in 0..2 {
            host.caller.del(&list, &attachment, &mut owner).unwrap();
        }
        assert!(!host.snapshot().contains("p/a/eth0"), "DEL alone lets go of the masquerade");
        assert!(!host.dir.path().join("p/10.7.0.2").exists() && !host.dir.path().join("p/fd07::2").exists());
        rig::undone(owner);
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn what_is_broken_is_named_by_check() {
    on_a_host(|host| {
        let list = list(host, "p", json!({}));
        let (netns, attachment, added) = add(host, &list, "a");
        let near = added.result.interfaces[0].name.clone();
        let ip = |args: &[&str]| {
            let output = std::process::Command::new("ip").args(args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let broken = || host.caller.check(&list, &attachment).unwrap_err().to_string();
        ip(&["addr", "del", "10.7.0.1/32", "dev", &near]);
        assert!(broken().contains("lost its address 10.7.0.1"), "{}", broken());
        ip(&["addr", "add", "10.7.0.1/32", "dev", &near]);
        // With its last address a link loses its routes.
        ip(&["route", "add", "10.7.0.2", "dev", &near]);
        host.caller.check(&list, &attachment).unwrap();
        ip(&["route", "del", "10.7.0.2", "dev", &near]);
        assert!(broken().contains("way to 10.7.0.2"), "{}", broken());
        ip(&["route", "add", "10.7.0.2", "dev", &near]);
        netns.run(|| ip(&["addr", "del", "10.7.0.2/24", "dev", "eth0"]));
        assert!(broken().contains("10.7.0.2/24"), "{}", broken());
    });
}

/// A network may lie within another: the kernel takes one interval, and each container is attached all the same.
/// Each network's hosts see who asks, whichever network was there first and whichever is still there.
#[test]
fn a_network_within_another_is_one_of_its_own() {
    on_a_host(|host| {
        let list = |name: &str, subnet: &str| {
            let routes = json!([{ "dst": "0.0.0.0/0" }]);
            let ipam = json!({ "type": "host-local", "subnet": subnet, "dataDir": host.dir.path(), "routes": routes });
            list(host, name, json!({ "ipam": ipam }))
        };
        let (outer, inner) = (list("outer", "10.7.0.0/24"), list("inner", "10.7.0.128/25"));
        for inner_first in [true, false] {
            let networks = [("a", &outer), ("b", &outer), ("c", &inner), ("d", &inner)];
            let mut made = Vec::new();
            let order: Vec<_> =
                if inner_first { networks.into_iter().rev().collect() } else { networks.to_vec() };
            for (id, list) in order {
                let (netns, attachment, added) = add(host, list, id);
                serve(&netns, "0.0.0.0:80", "it");
                made.push((id, netns, attachment, added.addresses()[0].address()));
            }
            made.sort_by_key(|(id, ..)| *id);
            let sees = |from: usize, to: usize| {
                let (at, by) = (format!("{}:80", made[to].3), made[from].3);
                assert_eq!(
                    made[from].1.run(|| ask(&at)),
                    Ok(format!("it {by}")),
                    "{from} to {to}, {inner_first}"
                );
            };
            for (from, to) in [(0, 1), (2, 3), (0, 2), (3, 1)] {
                sees(from, to);
            }
            host.caller.restore().unwrap();
            sees(0, 1);
            sees(2, 3);
            // The inner network stays what it is without the outer one.
            del(host, &outer, &made[0].2);
            del(host, &outer, &made[1].2);
            sees(2, 3);
            del(host, &inner, &made[2].2);
            del(host, &inner, &made[3].2);
        }
    });
}

#[test]
fn networks_that_overlap() {
    on_a_host(|host| {
        let within = json!({ "ipam": { "type": "host-local", "subnet": "10.7.0.128/25", "dataDir": host.dir.path() } });
        let (all, part) = (list(host, "all", json!({})), list(host, "part", within));
        for [first, second] in [[&all, &part], [&part, &all]] {
            let (_a, a_attachment, _) = add(host, first, "a");
            let (_b, b_attachment, _) = add(host, second, "b");
            host.caller.check(first, &a_attachment).unwrap();
            host.caller.check(second, &b_attachment).unwrap();
            host.caller.restore().unwrap();
            del(host, first, &a_attachment);
            del(host, second, &b_attachment);
        }
    });
}

#[test]
fn gc_frees_what_no_valid_attachment_has() {
    on_a_host(|host| {
        let list = list(host, "p", json!({}));
        let (a, b) = (Netns::new(), Netns::new());
        host.caller.add(&list, &attachment("a", &a, &[]), &mut Transient::new()).unwrap();
        let before = host.snapshot();
        host.caller.add(&list, &attachment("b", &b, &[]), &mut Transient::new()).unwrap();
        let mut keys = list.plugins[0].keys.clone();
        keys.insert("cni.dev/valid-attachments".into(), json!([{ "containerID": "a", "ifname": "eth0" }]));
        let conf = PluginConf { kind: "ptp".into(), keys };
        let none = Attachment::new("none", "none", None).unwrap();
        let request = Request {
            attachment: &none,
            network: "p",
            version: Version::LATEST,
            conf: &conf,
            previous: None,
            delegate: &host.caller,
        };
        for _ in 0..2 {
            cni::plugin::builtins()["ptp"].gc(&request, &mut Transient::new()).unwrap();
            assert_eq!(host.snapshot(), before);
        }
        host.caller.check(&list, &attachment("a", &a, &[])).unwrap();
    });
}

#[test]
fn each_refusal_has_the_code_and_names_the_key() {
    on_a_host(|host| {
        let before = host.snapshot();
        for (keys, code, words) in [
            (json!({ "ipMasqBackend": "iptables" }), Code::UnsupportedField, "\"ipMasqBackend\""),
            (json!({ "ipam": {} }), Code::InvalidConfig, "\"ipam\""),
            (json!({ "mtu": "x" }), Code::InvalidConfig, "\"mtu\""),
            (json!({ "ipMasq": 1 }), Code::InvalidConfig, "\"ipMasq\""),
            (json!({ "dns": { "nameservers": 7 } }), Code::InvalidConfig, "\"nameservers\""),
        ] {
            let netns = Netns::new();
            let list = list(host, "p", keys.clone());
            let error =
                host.caller.add(&list, &attachment("a", &netns, &[]), &mut host.owner("a")).unwrap_err();
            assert_eq!(error.code, code, "{keys}: {error}");
            assert!(error.to_string().contains(words), "{keys}: {error}");
            assert_eq!(host.snapshot(), before);
        }
    });
}
