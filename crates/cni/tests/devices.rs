//! Devices of the host that a container gets: they are never lost, whatever happens.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::process::Command;
use std::time::{Duration, Instant};

use cni::caller::Caller;
use cni::contract::{Attachment, Code, NetworkList};
use kernel::netlink::{self, Batch, Kind, NewLink, Peer, Protocol, SetLink, Socket};
use ledger::{Ledger, OwnerId};
use rig::chosen::{add, del, has_lease, link, links_here, list, make_eth0, network, refused};
use rig::{Netns, attachment, on_a_host};
use serde_json::json;

/// A device `card0` of the host, up, which is connected to `switch`.
fn make_card() {
    let peer = Peer { name: "switch", mac: None, mtu: None, netns: None };
    let mac = Some("02:00:00:00:00:0c".parse().unwrap());
    let mut batch = Batch::new();
    batch.add_link(&NewLink { up: true, mac, ..NewLink::new("card0", Kind::Veth { peer }) });
    batch.set_link(&SetLink::named("switch").up(true));
    Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
}

/// Name and alias of the device on this host, wherever it is by its MAC.
fn card() -> Option<(String, Option<String>)> {
    let links = netlink::links(&mut Socket::open(Protocol::Route).unwrap()).unwrap();
    let mac = "02:00:00:00:00:0c".parse().ok();
    links.into_iter().find(|link| link.mac == mac).map(|link| (link.name, link.alias))
}

fn at_home() -> Option<(String, Option<String>)> {
    Some(("card0".into(), None))
}

#[test]
fn a_device_goes_and_comes_back() {
    on_a_host(|host| {
        make_card();
        let netns = Netns::new();
        let at = attachment("a", &netns, &[]);
        for which in [json!({ "device": "card0" }), json!({ "hwaddr": "02:00:00:00:00:0C" })] {
            let mut conf = which;
            conf["type"] = json!("host-device");
            let list = network(host, &conf);
            let result = add(host, &list, &at);
            assert_eq!(card(), None);
            let there = link(&netns, "eth0").unwrap();
            assert_eq!((there.alias.as_deref(), there.is_up()), (Some("card0"), true));
            assert_eq!((result.interfaces[0].mac.as_str(), result.ips.len()), ("02:00:00:00:00:0c", 2));
            host.caller.check(&list, &at).unwrap();
            for _ in 0..2 {
                del(host, &list, &at);
                assert_eq!((card(), netns.run(links_here)), (at_home(), vec!["lo".into()]));
            }
            assert!(!has_lease(host, "10.50.0.2"));
        }
    });
}

#[test]
fn whatever_fails_the_device_is_where_it_was() {
    on_a_host(|host| {
        make_card();
        let netns = Netns::new();
        let at = attachment("a", &netns, &[]);
        let card_conf = json!({ "type": "host-device", "device": "card0" });
        make_eth0(&netns);
        let (code, error) = refused(host, &network(host, &card_conf), &at);
        assert!(code == Code::InvalidConfig && error.contains("eth0"), "{error}");
        assert_eq!(
            (card(), netns.run(links_here)),
            (at_home(), ["lo", "far", "eth0"].map(String::from).to_vec())
        );
        del(host, &network(host, &card_conf), &at);
        assert!(link(&netns, "eth0").is_some(), "what it did not give it does not take");
        netns.run(|| netlink::delete_link("eth0").unwrap());

        // No addresses: the device is up again, too.
        let full = json!({ "type": "host-device", "device": "card0", "ipam": { "type": "host-local",
            "dataDir": host.dir.path().join("leases"), "ranges": [[{ "subnet": "10.9.0.0/24",
            "rangeStart": "10.9.0.1", "rangeEnd": "10.9.0.1" }]] } });
        refused(host, &list(&[full]), &at);
        assert_eq!((card(), netns.run(links_here)), (at_home(), vec!["lo".into()]));
        let mut socket = Socket::open(Protocol::Route).unwrap();
        assert!(netlink::link_by_name(&mut socket, "card0").unwrap().unwrap().is_up());

        for (key, value) in [
            ("device", json!("nowhere")),
            ("hwaddr", json!("x")),
            ("hwaddr", json!("02:ff:ff:ff:ff:ff")),
            ("kernelpath", json!("/etc")),
            ("kernelpath", json!("/sys/devices/../../etc")),
            ("kernelpath", json!("/sys/devices/nowhere")),
            ("pciBusID", json!("../x")),
            ("runtimeConfig", json!({ "deviceID": "nowhere" })),
            ("name", json!("links")),
        ] {
            let mut conf = json!({ "type": "host-device", "capabilities": { "deviceID": true }, "ipam": {} });
            conf[key] = value.clone();
            let mut at = at.clone();
            if let Some(id) = value.get("deviceID") {
                at.capability_args.insert("deviceID".into(), id.clone());
            }
            let (code, error) = refused(host, &network(host, &conf), &at);
            assert_eq!(code, Code::InvalidConfig, "{key}: {value}: {error}");
        }
    });
}

#[test]
fn a_name_that_was_taken_meanwhile_keeps_the_device_in_the_container() {
    on_a_host(|host| {
        make_card();
        let netns = Netns::new();
        let at = attachment("a", &netns, &[]);
        let list = network(host, &json!({ "type": "host-device", "device": "card0" }));
        add(host, &list, &at);
        let peer = Peer { name: "b", mac: None, mtu: None, netns: None };
        let mut batch = Batch::new();
        batch.add_link(&NewLink::new("card0", Kind::Veth { peer }));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        let error = host.caller.del(&list, &at, &mut host.owner("a")).unwrap_err().to_string();
        assert!(error.contains("card0") && error.contains("there is a link of that name"), "{error}");
        let there = link(&netns, "eth0").unwrap();
        assert_eq!((there.alias.as_deref(), there.is_up()), (Some("card0"), true));
        netlink::delete_link("card0").unwrap();
        del(host, &list, &at);
        assert_eq!(card(), at_home());
    });
}

/// As the kernel leaves it when a namespace ends: on the host, called as it was in the container.
#[test]
fn a_device_that_fell_back_gets_its_name() {
    on_a_host(|host| {
        make_card();
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let card_there = netlink::link_by_name(&mut socket, "card0").unwrap().unwrap();
        let list = network(host, &json!({ "type": "host-device", "device": "card0" }));
        let gone = Attachment::new("a", "eth0", None).unwrap();
        for name in ["eth0", "dev7"] {
            let mut batch = Batch::new();
            batch.set_link(&SetLink::index(card_there.index).up(false));
            batch.set_link(&SetLink::index(card_there.index).rename(name).alias("card0"));
            socket.run(&batch).unwrap();
            del(host, &list, &gone);
            assert_eq!(card(), at_home());
        }
    });
}

const DIR: &str = "SEXTANT_TEST_DIR";

fn killed_network(dir: &std::path::Path) -> NetworkList {
    list(&[json!({ "type": "host-device", "device": "card0", "ipam": { "type": "host-local",
        "dataDir": dir.join("leases"), "ranges": [[{ "subnet": "10.50.0.0/24" }]] } })])
}

/// Not a test of its own: the process that is killed. It runs in the namespace of the test that starts it.
#[test]
#[ignore = "started by the other tests of this file"]
fn killed() {
    let dir = std::path::PathBuf::from(std::env::var(DIR).unwrap());
    let netns = std::env::var("SEXTANT_TEST_NETNS").unwrap();
    let at = Attachment::new("a", "eth0", Some(netns.into())).unwrap();
    let ledger = Ledger::open(&dir.join("run"), &dir.join("data")).unwrap();
    let caller = Caller::new(cni::plugin::builtins(), dir.join("cache"));
    let mut owner = ledger.owner(&OwnerId::new("a").unwrap()).unwrap();
    std::fs::write(dir.join("started"), "").unwrap();
    for _ in 0..1000 {
        caller.add(&killed_network(&dir), &at, &mut owner).unwrap();
        caller.del(&killed_network(&dir), &at, &mut owner).unwrap();
    }
}

#[test]
fn killed_at_any_moment_the_device_comes_back() {
    const ROUNDS: u32 = 60;
    on_a_host(|host| {
        make_card();
        let netns = Netns::new();
        let at = Attachment::new("a", "eth0", Some(netns.path())).unwrap();
        let mut away = 0;
        let cycle = {
            let conf = killed_network(host.dir.path());
            let begin = Instant::now();
            add(host, &conf, &at);
            del(host, &conf, &at);
            begin.elapsed()
        };
        // Spread over three times ADD and DEL, as fast as this machine was. Where it is slower now, all of them may come too early: then more
        // are spread over more.
        for span in [3, 12, 48] {
            for round in 0..ROUNDS {
                let dir = tempfile::tempdir().unwrap();
                let mut child = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "killed", "--ignored", "--test-threads=1"])
                    .env(DIR, dir.path())
                    .env("SEXTANT_TEST_NETNS", netns.path())
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap();
                let begin = Instant::now();
                while !dir.path().join("started").exists() {
                    assert!(begin.elapsed() < Duration::from_secs(180), "the process does not start");
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(cycle * span * round / ROUNDS);
                child.kill().unwrap();
                assert!(child.wait().unwrap().code().is_none(), "it ended by itself");
                away += u32::from(card() != at_home());
                let conf = killed_network(dir.path());
                let caller = Caller::new(cni::plugin::builtins(), dir.path().join("cache"));
                let ledger = Ledger::open(&dir.path().join("run"), &dir.path().join("data")).unwrap();
                let mut owner = ledger.owner(&OwnerId::new("a").unwrap()).unwrap();
                caller.del(&conf, &at, &mut owner).unwrap();
                rig::undone(owner);
                assert_eq!(card().map(|(name, _)| name), Some("card0".into()), "round {round}");
                assert_eq!(netns.run(links_here), ["lo"], "round {round}");
            }
            if away > 5 {
                break;
            }
        }
        assert!(away > 5, "only {away} kills hit the device away from home");
    });
}
