//! The plugins that make a link in the container: macvlan, ipvlan, vlan, dummy, tap. What this machine's kernel lacks is
//! said to be skipped, and runs in the guest (`cargo xtask vm`).
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use cni::contract::{
    AddResult, Attachment, Code, Delegate, Error, Interface, Ip, PluginConf, Request, Version,
};
use kernel::netlink::{
    self, Batch, Detail, IpvlanMode, Kind, MacvlanMode, NewLink, Protocol, SetLink, Socket,
};
use ledger::Record;
use rig::chosen::{add, del, has_kind, has_lease, link, links_here, list, make_eth0, network, refused};
use rig::{Netns, ask, attachment, on_a_host, serve};
use serde_json::json;

#[test]
fn macvlans_of_one_parent_reach_each_other_and_leave_nothing() {
    on_a_host(|host| {
        let _outside = host.outside();
        let before = links_here();
        let conf = json!({ "type": "macvlan", "master": "uplink", "mtu": 1400, "bcqueuelen": 500,
            "mac": "02:00:00:00:00:05", "dns": { "nameservers": ["10.50.0.53"] } });
        let one = network(host, &conf);
        let (a, b) = (Netns::new(), Netns::new());
        let (a_at, b_at) = (attachment("a", &a, &[]), attachment("b", &b, &[]));
        let result = add(host, &one, &a_at);
        add(host, &network(host, &json!({ "type": "macvlan", "master": "uplink" })), &b_at);
        let there = link(&a, "eth0").unwrap();
        assert_eq!(there.detail, Some(Detail::Macvlan(MacvlanMode::Bridge)));
        assert_eq!((there.mtu, there.mac.unwrap().to_string().as_str()), (1400, "02:00:00:00:00:05"));
        assert_eq!(result.interfaces.len(), 1);
        assert_eq!(
            (result.interfaces[0].mac.as_str(), result.ips[1].interface),
            ("02:00:00:00:00:05", Some(0))
        );
        assert_eq!(result.dns.nameservers, ["10.50.0.53"]);
        for key in ["net/ipv4/conf/eth0/arp_notify", "net/ipv6/conf/eth0/ndisc_notify"] {
            assert_eq!(netlink::sysctl::read_in(a.fd(), key).unwrap(), "1", "{key}");
        }
        serve(&b, "[::]:80", "b");
        assert_eq!(a.run(|| ask("10.50.0.3:80")), Ok("b ::ffff:10.50.0.2".into()));
        assert_eq!(a.run(|| ask("[fd50::3]:80")), Ok("b fd50::2".into()));
        host.caller.check(&one, &a_at).unwrap();
        assert_eq!(links_here(), before, "nothing is on the host");
        for _ in 0..2 {
            del(host, &one, &a_at);
            del(host, &one, &b_at);
        }
        assert!(link(&a, "eth0").is_none() && !has_lease(host, "10.50.0.2") && !has_lease(host, "fd50::3"));
    });
}

/// https://www.rfc-editor.org/rfc/rfc4862#section-5.4: somebody outside has the address already.
#[test]
fn an_ipv6_address_that_a_neighbour_has_is_refused() {
    on_a_host(|host| {
        let outside = host.outside();
        outside.run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let eth0 = netlink::link_by_name(&mut socket, "eth0").unwrap().unwrap().index;
            let mut batch = Batch::new();
            batch.add_address(&netlink::Address::new(eth0, "fd50::2/64".parse().unwrap()));
            socket.run(&batch).unwrap();
        });
        let netns = Netns::new();
        let list = network(host, &json!({ "type": "macvlan", "master": "uplink" }));
        let (_, error) = refused(host, &list, &attachment("a", &netns, &[]));
        assert!(error.contains("fd50::2/64") && error.contains("somebody"), "{error}");
        assert!(link(&netns, "eth0").is_none() && !has_lease(host, "fd50::2"));
    });
}

#[test]
fn macvlan_keys_and_their_faults() {
    on_a_host(|host| {
        let netns = Netns::new();
        let at = attachment("a", &netns, &[]);
        let no_route = json!({ "type": "macvlan", "ipam": {} });
        let (code, error) = refused(host, &network(host, &no_route), &at);
        assert!(code == Code::InvalidConfig && error.contains("no default route"), "{error}");
        let _outside = host.outside();
        let mut batch = Batch::new();
        batch.add_route(&rig::route("0.0.0.0/0", "192.0.2.2"));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        for (key, value, words) in [
            ("mode", json!("x"), "\"mode\""),
            ("mtu", json!(1501), "1500"),
            ("mtu", json!(-1), "\"mtu\""),
            ("master", json!("nowhere"), "\"nowhere\""),
            ("mac", json!("zz"), "\"mac\""),
            ("bcqueuelen", json!("x"), "\"bcqueuelen\""),
            ("linkInContainer", json!(true), "no default route"),
        ] {
            let mut conf = json!({ "type": "macvlan", "ipam": {} });
            conf[key] = value;
            let (code, error) = refused(host, &network(host, &conf), &at);
            assert!(code == Code::InvalidConfig && error.contains(words), "{key}: {error}");
            assert!(link(&netns, "eth0").is_none());
        }
        // The default route's link; without addresses it is up all the same.
        for mode in ["private", "vepa", "passthru", "bridge"] {
            let list = network(host, &json!({ "type": "macvlan", "mode": mode, "ipam": {} }));
            assert_eq!(add(host, &list, &at).ips, []);
            assert!(link(&netns, "eth0").unwrap().is_up());
            host.caller.check(&list, &at).unwrap();
            del(host, &list, &at);
        }
    });
}

#[test]
fn a_parent_in_the_container() {
    on_a_host(|host| {
        let netns = Netns::new();
        netns.run(|| {
            let peer = netlink::Peer { name: "far", mac: None, mtu: None, netns: None };
            let mut batch = Batch::new();
            batch.add_link(&NewLink { up: true, ..NewLink::new("inner", Kind::Veth { peer }) });
            batch.set_link(&SetLink::named("far").up(true));
            Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        });
        let at = attachment("a", &netns, &[]);
        let list = network(host, &json!({ "type": "macvlan", "master": "inner", "linkInContainer": true }));
        add(host, &list, &at);
        assert_eq!(link(&netns, "eth0").unwrap().peer, Some(link(&netns, "inner").unwrap().index));
        host.caller.check(&list, &at).unwrap();
        del(host, &list, &at);
        assert!(link(&netns, "eth0").is_none() && link(&netns, "inner").is_some());
    });
}

#[test]
fn a_link_of_somebody_else_in_the_container_stays() {
    on_a_host(|host| {
        let _outside = host.outside();
        let netns = Netns::new();
        make_eth0(&netns);
        let list = network(host, &json!({ "type": "macvlan", "master": "uplink" }));
        let at = attachment("a", &netns, &[]);
        let (_, error) = refused(host, &list, &at);
        assert!(error.contains("eth0") && error.contains("File exists"), "{error}");
        del(host, &list, &at);
        assert_eq!(link(&netns, "eth0").unwrap().kind, "veth");
        assert_eq!(netns.run(links_here), ["lo", "far", "eth0"]);
    });
}

#[test]
fn without_its_namespace_del_frees_the_lease() {
    on_a_host(|host| {
        let _outside = host.outside();
        let netns = Netns::new();
        let list = network(host, &json!({ "type": "macvlan", "master": "uplink" }));
        let at = attachment("a", &netns, &[]);
        add(host, &list, &at);
        assert!(has_lease(host, "10.50.0.2"));
        drop(netns);
        // A pinned namespace's file is plain again after a reboot.
        let plain = host.dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        for netns in [Some(plain), Some("/nowhere".into()), None] {
            del(host, &list, &Attachment { netns, ..at.clone() });
        }
        assert!(!has_lease(host, "10.50.0.2"));
    });
}

#[test]
fn taps() {
    on_a_host(|host| {
        let netns = Netns::new();
        netns.run(|| {
            let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            let mut batch = Batch::new();
            batch.add_link(&NewLink { up: true, ..NewLink::new("inner", bridge) });
            Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        });
        let at = attachment("a", &netns, &[]);
        for more in [json!({}), json!({ "owner": 7, "group": 8, "multiQueue": true }), json!({ "group": 8 })]
        {
            let mut conf =
                json!({ "type": "tap", "bridge": "inner", "mtu": 1300, "mac": "02:00:00:00:00:07" });
            conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let list = network(host, &conf);
            let result = add(host, &list, &at);
            let there = link(&netns, "eth0").unwrap();
            assert_eq!((there.kind.as_str(), there.mtu, there.is_up()), ("tun", 1300, true));
            assert_eq!(there.master, Some(link(&netns, "inner").unwrap().index));
            assert_eq!(result.interfaces[0].mac, "02:00:00:00:00:07");
            host.caller.check(&list, &at).unwrap();
            del(host, &list, &at);
            assert!(link(&netns, "eth0").is_none());
        }
        for (key, value) in [("bridge", json!("lo")), ("owner", json!("root")), ("multiQueue", json!(1))] {
            let mut conf = json!({ "type": "tap", "ipam": {} });
            conf[key] = value;
            let (code, error) = refused(host, &network(host, &conf), &at);
            assert!(code == Code::InvalidConfig && error.contains(key), "{key}: {error}");
        }
        assert_eq!(
            (netns.run(links_here), links_here()),
            (vec!["lo".into(), "inner".into()], vec!["lo".into()])
        );
    });
}

#[test]
fn vlans() {
    on_a_host(|host| {
        let outside = host.outside();
        if !has_kind(|parent| Kind::Vlan { parent, id: 7 }, "vlans") {
            return;
        }
        let netns = Netns::new();
        let at = attachment("a", &netns, &[]);
        for (key, value) in
            [("vlanId", json!(4095)), ("vlanId", json!(-1)), ("mtu", json!(1600)), ("master", json!(""))]
        {
            let mut conf = json!({ "type": "vlan", "master": "uplink", "vlanId": 7 });
            conf[key] = value;
            let (code, error) = refused(host, &network(host, &conf), &at);
            assert!(code == Code::InvalidConfig && error.contains(key), "{key}: {error}");
        }
        let list = network(host, &json!({ "type": "vlan", "master": "uplink", "vlanId": 7, "mtu": 1400 }));
        add(host, &list, &at);
        let there = link(&netns, "eth0").unwrap();
        assert_eq!((there.detail, there.mtu), (Some(Detail::Vlan(7)), 1400));
        host.caller.check(&list, &at).unwrap();
        // A machine outside in the same VLAN.
        let b = Netns::new();
        let other = outside.run(|| {
            let list = network(host, &json!({ "type": "vlan", "master": "eth0", "vlanId": 7 }));
            add(host, &list, &attachment("b", &b, &[]));
            list
        });
        serve(&b, "0.0.0.0:80", "b");
        assert_eq!(netns.run(|| ask("10.50.0.3:80")), Ok("b 10.50.0.2".into()));
        del(host, &other, &attachment("b", &b, &[]));
        del(host, &list, &at);
        assert!(link(&netns, "eth0").is_none() && !has_lease(host, "10.50.0.2"));
    });
}

#[test]
fn ipvlans_alone_and_chained() {
    on_a_host(|host| {
        let _outside = host.outside();
        if !has_kind(|parent| Kind::Ipvlan { parent, mode: IpvlanMode::L2 }, "ipvlans") {
            return;
        }
        let netns = Netns::new();
        let at = attachment("a", &netns, &[]);
        for (mode, there) in [("l2", IpvlanMode::L2), ("l3", IpvlanMode::L3), ("l3s", IpvlanMode::L3s)] {
            let list =
                network(host, &json!({ "type": "ipvlan", "master": "uplink", "mode": mode, "mtu": 1400 }));
            add(host, &list, &at);
            let link_there = link(&netns, "eth0").unwrap();
            assert_eq!((link_there.detail, link_there.mtu), (Some(Detail::Ipvlan(there)), 1400));
            host.caller.check(&list, &at).unwrap();
            del(host, &list, &at);
        }
        let (code, error) =
            refused(host, &network(host, &json!({ "type": "ipvlan", "master": "uplink", "ipam": {} })), &at);
        assert!(code == Code::InvalidConfig && error.contains("\"ipam\""), "{error}");
        let (code, error) = refused(host, &network(host, &json!({ "type": "ipvlan", "mode": "x" })), &at);
        assert!(code == Code::InvalidConfig && error.contains("\"mode\""), "{error}");

        // Behind a plugin that has made a link on the host and got addresses for it.
        let ip = Ip { address: "10.77.0.5/24".parse().unwrap(), gateway: None, interface: Some(0) };
        let made = Interface { name: "uplink".into(), ..Interface::default() };
        let mut previous = AddResult { interfaces: vec![made], ips: vec![ip], ..AddResult::default() };
        let conf = PluginConf::from_value(&json!({ "type": "ipvlan", "name": "n" })).unwrap();
        let noted = Noted::default();
        let chained = |previous: &AddResult| {
            let previous = Some(previous);
            let version = Version::LATEST;
            let request =
                Request { attachment: &at, network: "n", version, conf: &conf, previous, delegate: &noted };
            cni::plugin::builtins()["ipvlan"].add(&request, &mut ledger::Transient::new())
        };
        let result = chained(&previous).unwrap();
        let names: Vec<_> = result.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        assert_eq!((names, result.ips[0].interface), (vec!["eth0"], Some(0)));
        let addresses =
            netns.run(|| netlink::addresses(&mut Socket::open(Protocol::Route).unwrap(), None).unwrap());
        assert!(addresses.iter().any(|address| address.net == result.ips[0].address), "{addresses:?}");
        previous.interfaces.push(Interface::default());
        assert!(chained(&previous).unwrap_err().to_string().contains("2 interfaces"));
        assert!(noted.0.take().is_empty());
    });
}

#[test]
fn dummies() {
    on_a_host(|host| {
        if !has_kind(|_| Kind::Dummy, "dummies") {
            return;
        }
        let netns = Netns::new();
        let at = attachment("a", &netns, &[]);
        let (code, error) = refused(host, &network(host, &json!({ "type": "dummy", "ipam": {} })), &at);
        assert!(code == Code::InvalidConfig && error.contains("\"ipam\""), "{error}");
        let list = network(host, &json!({ "type": "dummy" }));
        let result = add(host, &list, &at);
        assert_eq!(result.ips.len(), 2);
        assert_eq!(link(&netns, "eth0").unwrap().kind, "dummy");
        host.caller.check(&list, &at).unwrap();
        del(host, &list, &at);
        assert!(link(&netns, "eth0").is_none() && !has_lease(host, "10.50.0.2"));
    });
}

/// An IPAM plugin that notes what it is asked.
#[derive(Default)]
struct Noted(std::cell::RefCell<Vec<String>>);

impl Noted {
    fn note(&self, verb: &str, kind: &str) {
        self.0.borrow_mut().push(format!("{verb} {kind}"));
    }
}

impl Delegate for Noted {
    fn add(&self, kind: &str, _: &Request<'_>, _: &mut dyn Record) -> Result<AddResult, Error> {
        self.note("ADD", kind);
        Ok(AddResult::default())
    }

    fn del(&self, kind: &str, _: &Request<'_>, _: &mut dyn Record) -> Result<(), Error> {
        self.note("DEL", kind);
        Ok(())
    }

    fn check(&self, kind: &str, _: &Request<'_>) -> Result<(), Error> {
        self.note("CHECK", kind);
        Ok(())
    }

    fn status(&self, kind: &str, _: &Request<'_>) -> Result<(), Error> {
        self.note("STATUS", kind);
        Ok(())
    }

    fn gc(&self, kind: &str, _: &Request<'_>, _: &mut dyn Record) -> Result<(), Error> {
        self.note("GC", kind);
        Ok(())
    }
}

#[test]
fn status_and_gc_are_handed_to_the_ipam_plugin() {
    let plugins = cni::plugin::builtins();
    let none = Attachment::new("none", "none", None).unwrap();
    let asked = |kind: &str, master: &str, ipam: &str| {
        let conf = json!({ "type": kind, "name": "n", "master": master, "device": "card0", "vrfname": "red",
            "ipam": { "type": ipam } });
        let conf = PluginConf::from_value(&conf).unwrap();
        let noted = Noted::default();
        let request = Request {
            attachment: &none,
            network: "n",
            version: Version::LATEST,
            conf: &conf,
            previous: None,
            delegate: &noted,
        };
        let outcome = plugins[kind].status(&request).and_then(|()| {
            plugins[kind].gc(&request, &mut ledger::Transient::new())?;
            plugins[kind].del(&request, &mut ledger::Transient::new())
        });
        (outcome.err().map(|e| e.code), noted.0.take())
    };
    on_a_host(|host| {
        let _outside = host.outside();
        for kind in ["macvlan", "ipvlan", "vlan", "dummy", "tap", "host-device"] {
            let all = ["STATUS x", "GC x", "DEL x"].map(String::from).to_vec();
            assert_eq!(asked(kind, "uplink", "x"), (None, all), "{kind}");
        }
        for kind in ["macvlan", "ipvlan", "vlan"] {
            assert_eq!(asked(kind, "nowhere", "x"), (Some(Code::NotAvailable), Vec::new()), "{kind}");
        }
        for kind in ["vlan", "dummy"] {
            assert_eq!(asked(kind, "uplink", ""), (Some(Code::InvalidConfig), Vec::new()), "{kind}");
        }
        for kind in ["vrf", "sbr", "loopback"] {
            assert_eq!(asked(kind, "uplink", "x"), (None, Vec::new()), "{kind}");
        }
    });
}

#[test]
fn loopback_has_addresses_of_this_machine_alone() {
    on_a_host(|host| {
        let netns = Netns::new();
        let list = list(&[json!({ "type": "loopback" })]);
        let at = attachment("a", &netns, &[]);
        let result = add(host, &list, &at);
        let ips: Vec<_> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["127.0.0.1/8", "::1/128"]);
        host.caller.check(&list, &at).unwrap();
        netns.run(|| {
            let mut batch = Batch::new();
            batch.add_address(&netlink::Address::new(1, "10.9.9.9/32".parse().unwrap()));
            Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        });
        assert!(host.caller.check(&list, &at).unwrap_err().to_string().contains("10.9.9.9"));
        del(host, &list, &at);
        assert!(!link(&netns, "lo").unwrap().is_up());
        let (_, error) = refused(host, &list, &at);
        assert!(error.contains("non-loopback address 10.9.9.9"), "{error}");
    });
}
