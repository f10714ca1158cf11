//! The plugins that are chained behind one with a link, and change how its packets are routed: sbr, vrf.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::net::IpAddr;

use cni::contract::{Attachment, Code, NetworkList};
use kernel::netlink::{self, Detail, IpNet, Kind, Protocol, Route, Rule, Socket};
use rig::chosen::{add, del, has_kind, link, list, refused};
use rig::{Host, Netns, ask, attachment, on_a_host, serve};
use serde_json::{Value, json};

/// A macvlan on `uplink` with addresses of both families in network `number`, and `meta` behind it.
fn chain(host: &Host, number: u8, meta: Value) -> NetworkList {
    let macvlan = json!({ "type": "macvlan", "master": "uplink", "ipam": {
        "type": "host-local", "dataDir": host.dir.path().join(format!("leases{number}")),
        "ranges": [[{ "subnet": format!("10.{number}.0.0/24") }], [{ "subnet": format!("fd{number}::/64") }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }, { "dst": format!("198.51.{number}.0/24"), "gw": format!("10.{number}.0.9") }],
    } });
    list(&[macvlan, meta])
}

fn rules(netns: &Netns) -> Vec<Rule> {
    let rules = netns.run(|| netlink::rules(&mut Socket::open(Protocol::Route).unwrap()).unwrap());
    rules.into_iter().filter(|rule| rule.source.is_some()).collect()
}

fn routes(netns: &Netns, table: u32) -> Vec<Route> {
    let routes = netns.run(|| netlink::routes(&mut Socket::open(Protocol::Route).unwrap()).unwrap());
    routes.into_iter().filter(|route| route.table == Some(table)).collect()
}

fn has(routes: &[Route], destination: &str, gateway: Option<&str>) -> bool {
    let destination: IpNet = destination.parse().unwrap();
    let gateway: Option<IpAddr> = gateway.map(|gateway| gateway.parse().unwrap());
    routes.iter().any(|route| route.destination == destination && route.gateway == gateway)
}

#[test]
fn packets_leave_by_the_link_of_their_source() {
    on_a_host(|host| {
        let _outside = host.outside();
        let netns = Netns::new();
        let one = chain(host, 51, json!({ "type": "sbr" }));
        let at = attachment("a", &netns, &[]);
        add(host, &one, &at);
        let mut there = rules(&netns);
        there.sort_by_key(|rule| rule.table);
        let expected = [("10.51.0.2/32", 100), ("fd51::2/128", 101)];
        let found: Vec<_> = there.iter().map(|rule| (rule.source.unwrap().to_string(), rule.table)).collect();
        assert_eq!(found, expected.map(|(source, table)| (source.to_owned(), table)));
        let (v4, v6) = (routes(&netns, 100), routes(&netns, 101));
        assert!(has(&v4, "0.0.0.0/0", Some("10.51.0.1")) && has(&v4, "10.51.0.0/24", None), "{v4:?}");
        assert!(has(&v4, "198.51.51.0/24", Some("10.51.0.9")), "{v4:?}");
        assert!(has(&v6, "::/0", Some("fd51::1")) && has(&v6, "fd51::/64", None), "{v6:?}");
        let eth0 = link(&netns, "eth0").unwrap().index;
        assert!(routes(&netns, 254).iter().all(|route| route.link != Some(eth0)));
        host.caller.check(&one, &at).unwrap();

        // A second network of the same container has tables of its own.
        let second = Attachment { ifname: "net1".into(), ..attachment("a", &netns, &[]) };
        let two =
            chain(host, 52, json!({ "type": "sbr", "gateways": ["10.52.0.77"], "addSourceHints": true }));
        add(host, &two, &second);
        assert!(has(&routes(&netns, 102), "0.0.0.0/0", Some("10.52.0.77")));
        assert!(has(&routes(&netns, 103), "::/0", Some("fd52::1")));
        let main = routes(&netns, 254);
        assert!(has(&main, "10.52.0.0/24", None) && has(&main, "fd52::/64", None), "{main:?}");
        let hint = main.iter().find(|route| route.destination == "10.52.0.0/24".parse().unwrap()).unwrap();
        assert_eq!(hint.source, Some([10, 52, 0, 2].into()));
        assert!(main.iter().all(|route| route.gateway.is_none()), "{main:?}");
        host.caller.check(&two, &second).unwrap();
        del(host, &one, &at);
        assert_eq!(rules(&netns).len(), 2);
        for _ in 0..2 {
            del(host, &two, &second);
            assert!(rules(&netns).is_empty());
        }
    });
}

#[test]
fn twenty_at_once_have_twenty_tables() {
    on_a_host(|host| {
        let _outside = host.outside();
        let netns = Netns::new();
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            for number in 60..80_u8 {
                let (here, netns) = (&here, &netns);
                scope.spawn(move || {
                    let add_one = || {
                        let ifname = format!("net{number}");
                        let at = Attachment { ifname, ..attachment(&format!("c{number}"), netns, &[]) };
                        let conf = json!({ "type": "macvlan", "master": "uplink", "ipam": { "type": "host-local",
                            "dataDir": host.dir.path().join(format!("leases{number}")),
                            "ranges": [[{ "subnet": format!("10.{number}.0.0/24") }]],
                            "routes": [{ "dst": format!("10.{number}.1.0/24") }] } });
                        add(host, &list(&[conf, json!({ "type": "sbr" })]), &at);
                        Ok(())
                    };
                    kernel::namespace::in_netns(here, add_one).unwrap();
                });
            }
        });
        let tables: std::collections::BTreeSet<_> = rules(&netns).iter().map(|rule| rule.table).collect();
        assert_eq!(tables, (100..120).collect());
    });
}

#[test]
fn rules_alone_for_a_table_of_somebody_else() {
    on_a_host(|host| {
        let _outside = host.outside();
        let netns = Netns::new();
        let own_table = chain(host, 51, json!({ "type": "sbr", "table": 5000 }));
        let at = attachment("a", &netns, &[]);
        add(host, &own_table, &at);
        assert!(rules(&netns).iter().all(|rule| rule.table == 5000) && rules(&netns).len() == 2);
        assert!(routes(&netns, 5000).is_empty() && has(&routes(&netns, 254), "0.0.0.0/0", Some("10.51.0.1")));
        host.caller.check(&own_table, &at).unwrap();
        del(host, &own_table, &at);
        assert!(rules(&netns).is_empty());
        for (key, value) in [
            ("gateways", json!(["x"])),
            ("gateways", json!([7])),
            ("gateways", json!(["10.0.0.1", "10.0.0.2"])),
            ("gateways", json!(["10.0.0.1", "fd00::1", "fd00::2"])),
            ("table", json!("x")),
            ("addSourceHints", json!(1)),
        ] {
            let mut conf = json!({ "type": "sbr" });
            conf[key] = value;
            let error = host.caller.status(&list(&[conf])).unwrap_err();
            assert!(error.code == Code::InvalidConfig && error.to_string().contains(key), "{key}: {error}");
        }
        let alone = list(&[json!({ "type": "sbr" })]);
        assert!(refused(host, &alone, &at).1.contains("prevResult"));
    });
}

#[test]
fn a_routing_domain_lives_as_long_as_its_members() {
    on_a_host(|host| {
        let _outside = host.outside();
        if !has_kind(|_| Kind::Vrf { table: 4000 }, "vrfs") {
            return;
        }
        let netns = Netns::new();
        let one = chain(host, 51, json!({ "type": "vrf", "vrfname": "red" }));
        let two = chain(host, 52, json!({ "type": "vrf", "vrfname": "red", "table": 1 }));
        let (at, second) = (
            attachment("a", &netns, &[]),
            Attachment { ifname: "net1".into(), ..attachment("a", &netns, &[]) },
        );
        add(host, &one, &at);
        let red = link(&netns, "red").unwrap();
        assert_eq!((red.detail, red.is_up()), (Some(Detail::Vrf(1)), true));
        assert_eq!(link(&netns, "eth0").unwrap().master, Some(red.index));
        let table = routes(&netns, 1);
        assert!(
            has(&table, "0.0.0.0/0", Some("10.51.0.1")) && has(&table, "::/0", Some("fd51::1")),
            "{table:?}"
        );
        assert!(
            has(&table, "198.51.51.0/24", Some("10.51.0.9")) && has(&table, "fd51::2/128", None),
            "{table:?}"
        );
        add(host, &two, &second);
        for (list, at) in [(&one, &at), (&two, &second)] {
            host.caller.check(list, at).unwrap();
        }
        let third = Attachment { ifname: "net2".into(), ..attachment("a", &netns, &[]) };
        for (conf, words) in [
            (json!({ "vrfname": "red", "table": 7 }), "already exist with different routing table 1"),
            (json!({ "vrfname": "eth0" }), "\"vrfname\""),
            (json!({}), "\"vrfname\""),
        ] {
            let mut conf = conf;
            conf["type"] = json!("vrf");
            let (code, error) = refused(host, &chain(host, 53, conf), &third);
            assert!(code == Code::InvalidConfig && error.contains(words), "{error}");
        }
        del(host, &one, &at);
        assert!(link(&netns, "red").is_some());
        host.caller.check(&two, &second).unwrap();
        for _ in 0..2 {
            del(host, &two, &second);
            assert!(link(&netns, "red").is_none());
        }
    });
}

/// What a domain is for: the same addresses in two networks.
#[test]
fn the_same_addresses_in_two_domains() {
    on_a_host(|host| {
        let _outside = host.outside();
        if !has_kind(|_| Kind::Vrf { table: 4000 }, "two vrfs") {
            return;
        }
        let netns = Netns::new();
        for (ifname, name) in [("eth0", "red"), ("net1", "blue")] {
            let at = Attachment { ifname: ifname.into(), ..attachment(name, &netns, &[]) };
            let conf = json!({ "type": "macvlan", "master": "uplink", "ipam": { "type": "host-local",
                "dataDir": host.dir.path().join(name), "ranges": [[{ "subnet": "10.51.0.0/24" }]] } });
            add(host, &list(&[conf, json!({ "type": "vrf", "vrfname": name })]), &at);
        }
        let (red, blue) = (link(&netns, "red").unwrap(), link(&netns, "blue").unwrap());
        assert_eq!((red.detail, blue.detail), (Some(Detail::Vrf(1)), Some(Detail::Vrf(2))));
        assert!(
            has(&routes(&netns, 1), "10.51.0.0/24", None) && has(&routes(&netns, 2), "10.51.0.0/24", None)
        );
        serve(&netns, "127.0.0.1:80", "lo");
        assert_eq!(netns.run(|| ask("127.0.0.1:80")), Ok("lo 127.0.0.1".into()));
    });
}
