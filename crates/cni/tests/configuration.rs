//! Configurations of our plugins: what is wrong with one is said with the code and the key, and nothing is left.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::net::IpAddr;

use cni::contract::{Attachment, Code, NetworkList};
use rig::{Netns, attachment, on_a_host};
use serde_json::{Value, json};

fn merged(mut base: Value, patch: &Value) -> Value {
    for (key, value) in patch.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

fn list(bridge: &Value, ipam: &Value, portmap: &Value, dir: &std::path::Path) -> NetworkList {
    let ipam = merged(json!({ "type": "host-local", "subnet": "10.5.0.0/24", "dataDir": dir }), ipam);
    let bridge =
        merged(json!({ "type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam }), bridge);
    let portmap = merged(json!({ "type": "portmap", "capabilities": { "portMappings": true } }), portmap);
    NetworkList::from_value(json!({ "cniVersion": "1.1.0", "name": "n", "plugins": [bridge, portmap] }))
        .unwrap()
}

#[test]
fn each_refusal_has_the_code_and_names_the_key() {
    on_a_host(|host| {
        let before = host.snapshot();
        let none = json!({});
        let cases = [
            (json!({ "vlan": 4095 }), none.clone(), none.clone(), Code::InvalidConfig, "\"vlan\""),
            (
                json!({ "vlanTrunk": [{ "minID": 3 }] }),
                none.clone(),
                none.clone(),
                Code::InvalidConfig,
                "\"maxID\" of \"vlanTrunk\"",
            ),
            (
                json!({ "disableContainerInterface": true }),
                none.clone(),
                none.clone(),
                Code::InvalidConfig,
                "\"disableContainerInterface\"",
            ),
            (
                json!({ "dns": { "search": "x" } }),
                none.clone(),
                none.clone(),
                Code::InvalidConfig,
                "\"search\"",
            ),
            (
                json!({ "ipMasqBackend": "iptables" }),
                none.clone(),
                none.clone(),
                Code::UnsupportedField,
                "\"ipMasqBackend\"",
            ),
            (json!({ "bridge": "a/b" }), none.clone(), none.clone(), Code::InvalidConfig, "\"bridge\""),
            (json!({ "bridge": 5 }), none.clone(), none.clone(), Code::InvalidConfig, "\"bridge\""),
            (json!({ "bridge": "lo" }), none.clone(), none.clone(), Code::InvalidConfig, "lo"),
            (json!({ "mtu": "big" }), none.clone(), none.clone(), Code::InvalidConfig, "\"mtu\""),
            (json!({ "mtu": -1 }), none.clone(), none.clone(), Code::InvalidConfig, "\"mtu\""),
            (json!({ "isGateway": "yes" }), none.clone(), none.clone(), Code::InvalidConfig, "\"isGateway\""),
            (
                json!({ "hairpinMode": true, "promiscMode": true }),
                none.clone(),
                none.clone(),
                Code::InvalidConfig,
                "\"promiscMode\"",
            ),
            (
                json!({ "sextant": { "table": "a b" } }),
                none.clone(),
                none.clone(),
                Code::InvalidConfig,
                "\"table\"",
            ),
            (
                json!({ "args": { "cni": { "mac": "zz" } } }),
                none.clone(),
                none.clone(),
                Code::InvalidConfig,
                "\"mac\"",
            ),
            (
                none.clone(),
                json!({ "subnet": "10.5.0.1/24" }),
                none.clone(),
                Code::InvalidConfig,
                "\"subnet\"",
            ),
            (
                none.clone(),
                json!({ "ranges": [[{ "subnet": "10.5.0.0/25" }]] }),
                none.clone(),
                Code::InvalidConfig,
                "\"ranges\"",
            ),
            (none.clone(), json!({ "ranges": [{}] }), none.clone(), Code::InvalidConfig, "\"ranges\""),
            (
                none.clone(),
                json!({ "routes": [{ "dst": "x" }] }),
                none.clone(),
                Code::InvalidConfig,
                "\"routes\"",
            ),
            (none.clone(), json!({ "type": "a/b" }), none.clone(), Code::InvalidConfig, "\"type\""),
            (none.clone(), json!({ "resolvConf": "/nowhere" }), none.clone(), Code::Io, "\"resolvConf\""),
            (
                none.clone(),
                none.clone(),
                json!({ "backend": "iptables" }),
                Code::UnsupportedField,
                "\"backend\"",
            ),
            (none.clone(), none.clone(), json!({ "snat": "no" }), Code::InvalidConfig, "\"snat\""),
            (none.clone(), none.clone(), json!({ "masqAll": 1 }), Code::InvalidConfig, "\"masqAll\""),
            (
                none.clone(),
                none.clone(),
                json!({ "conditionsV4": ["-s", "10.0.0.0/8"] }),
                Code::UnsupportedField,
                "\"conditionsV4\"",
            ),
            (
                none.clone(),
                none.clone(),
                json!({ "externalSetMarkChain": "MARK" }),
                Code::UnsupportedField,
                "\"externalSetMarkChain\"",
            ),
            (
                none.clone(),
                none.clone(),
                json!({ "markMasqBit": 13 }),
                Code::UnsupportedField,
                "\"markMasqBit\"",
            ),
        ];
        for (i, (bridge, ipam, portmap, code, words)) in cases.iter().enumerate() {
            let netns = Netns::new();
            let list = list(bridge, ipam, portmap, host.dir.path());
            let mut owner = host.owner("c");
            let error =
                host.caller.add(&list, &attachment("c", &netns, &["8080:80"]), &mut owner).unwrap_err();
            assert_eq!(error.code, *code, "{i}: {error}");
            assert!(error.to_string().contains(words), "{i}: {error}");
            rig::undone(owner);
            assert_eq!(host.snapshot(), before, "{i}");
        }
    });
}

#[test]
fn bad_port_mappings() {
    on_a_host(|host| {
        let list = list(&json!({}), &json!({}), &json!({}), host.dir.path());
        for mappings in [
            json!([{ "hostPort": 0, "containerPort": 80 }]),
            json!([{ "hostPort": 80, "containerPort": 0 }]),
            json!([{ "hostPort": 70000, "containerPort": 80 }]),
            json!([{ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }]),
            json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "x" }]),
            json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "::1" }]),
            json!({ "hostPort": 80 }),
            json!("80:80"),
        ] {
            let netns = Netns::new();
            let mut attachment = attachment("c", &netns, &[]);
            attachment.capability_args.insert("portMappings".into(), mappings.clone());
            let error = host.caller.add(&list, &attachment, &mut host.owner("c")).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{mappings}: {error}");
        }
    });
}

#[test]
fn addresses_asked_for_and_addresses_run_out() {
    on_a_host(|host| {
        let list = list(
            &json!({}),
            &json!({ "subnet": "10.5.0.0/29", "rangeEnd": "10.5.0.4" }),
            &json!({}),
            host.dir.path(),
        );
        let attach = |id: &str, ip: Option<&str>| {
            let netns = Netns::new();
            let mut attachment = Attachment::new(id, "eth0", Some(netns.path())).unwrap();
            attachment.args.extend(ip.map(|ip| ("IP".to_owned(), ip.to_owned())));
            let added = host.caller.add(&list, &attachment, &mut host.owner(id));
            added.map(|added| added.addresses()[0].address()).map_err(|e| e.to_string())
        };
        let ip = |text: &str| Ok(text.parse::<IpAddr>().unwrap());
        assert_eq!(attach("a", Some("10.5.0.3")), ip("10.5.0.3"));
        assert!(attach("b", Some("10.5.0.3")).unwrap_err().contains("somebody has it"));
        assert!(attach("b", Some("10.5.0.1")).unwrap_err().contains("gateway"));
        assert!(attach("b", Some("10.6.0.1")).unwrap_err().contains("10.6.0.1"));
        assert!(attach("b", Some("x")).unwrap_err().contains("\"x\""));
        assert_eq!(attach("b", None), ip("10.5.0.4"));
        assert_eq!(attach("c", None), ip("10.5.0.2"));
        let full = attach("d", None).unwrap_err();
        assert!(full.contains("all of 10.5.0.1-10.5.0.4 are taken"), "{full}");
        assert_eq!(host.caller.status(&list).unwrap_err().code, Code::NotAvailable);
        // The reference plugin's files.
        let lease = std::fs::read_to_string(host.dir.path().join("n/10.5.0.3")).unwrap();
        assert_eq!(lease, "a\r\neth0");
        assert_eq!(
            std::fs::read_to_string(host.dir.path().join("n/last_reserved_ip.0")).unwrap(),
            "10.5.0.2"
        );
        let netns = Netns::new();
        host.caller.del(&list, &attachment("c", &netns, &[]), &mut host.owner("c")).unwrap();
        assert_eq!(attach("d", None), ip("10.5.0.2"));
    });
}

#[test]
fn options_reach_the_links() {
    on_a_host(|host| {
        let bridge = json!({ "mtu": 1400, "portIsolation": true, "hairpinMode": true, "isDefaultGateway": true,
            "args": { "cni": { "mac": "02:00:00:00:00:07" } } });
        let list = list(&bridge, &json!({}), &json!({}), host.dir.path());
        let netns = Netns::new();
        let added = host.caller.add(&list, &attachment("c", &netns, &[]), &mut host.owner("c")).unwrap();
        let [bridge, port, inside] = added.result.interfaces.as_slice() else { panic!("{:?}", added.result) };
        assert_eq!((bridge.name.as_str(), bridge.mtu, bridge.sandbox.as_str()), ("br0", Some(1400), ""));
        assert_eq!((inside.mac.as_str(), inside.mtu), ("02:00:00:00:00:07", Some(1400)));
        assert_eq!(added.result.routes[0].dst.to_string(), "0.0.0.0/0");
        let mut socket = kernel::netlink::Socket::open(kernel::netlink::Protocol::Route).unwrap();
        let link = kernel::netlink::link_by_name(&mut socket, &port.name).unwrap().unwrap();
        assert!(link.hairpin && link.isolated && link.mtu == 1400, "{link:?}");
        netns.run(|| {
            let mut socket = kernel::netlink::Socket::open(kernel::netlink::Protocol::Route).unwrap();
            let route = kernel::netlink::route_to(&mut socket, [192, 0, 2, 9].into()).unwrap().unwrap();
            assert_eq!(route.gateway, Some([10, 5, 0, 1].into()));
        });
    });
}

#[test]
fn two_networks_on_one_bridge_must_agree() {
    on_a_host(|host| {
        let (a, b) = (Netns::new(), Netns::new());
        let first = list(&json!({}), &json!({}), &json!({}), host.dir.path());
        host.caller.add(&first, &attachment("a", &a, &[]), &mut host.owner("a")).unwrap();
        let before = host.snapshot();
        let second = list(&json!({}), &json!({ "subnet": "10.6.0.0/24" }), &json!({}), host.dir.path());
        let mut owner = host.owner("b");
        let error = host.caller.add(&second, &attachment("b", &b, &[]), &mut owner).unwrap_err();
        assert!(error.to_string().contains("it has 10.5.0.1/24 already"), "{error}");
        rig::undone(owner);
        assert_eq!(host.snapshot(), before);
        let forced = list(
            &json!({ "forceAddress": true }),
            &json!({ "subnet": "10.6.0.0/24" }),
            &json!({}),
            host.dir.path(),
        );
        host.caller.add(&forced, &attachment("b", &b, &[]), &mut host.owner("b")).unwrap();
        assert!(!host.snapshot().contains("10.5.0.1"));
        // The kernel takes away with an address those that came after it in its subnet.
        let gateway = json!({ "subnet": "10.6.0.0/24", "gateway": "10.6.0.99" });
        let moved = list(&json!({ "forceAddress": true }), &gateway, &json!({}), host.dir.path());
        let c = Netns::new();
        host.caller.add(&moved, &attachment("c", &c, &[]), &mut host.owner("c")).unwrap();
        let after = host.snapshot();
        assert!(after.contains("\"10.6.0.99\"") && !after.contains("\"10.6.0.1\""), "{after}");
    });
}
