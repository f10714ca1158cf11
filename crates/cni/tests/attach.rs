//! Containers on the default network, from ADD to DEL, on a host of the test's own.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::net::UdpSocket;

use rig::{Netns, ask, attachment, echo, on_a_host, on_a_host_with, ping, serve};

#[test]
fn add_and_del_leave_nothing() {
    on_a_host(|host| {
        let before = host.snapshot();
        let (netns, attachment, address) = host.attach("a", &["8080:80", "127.0.0.1:8081:80/udp"]);
        assert_eq!(address.to_string(), "10.88.0.2");
        assert_ne!(host.snapshot(), before);
        host.caller.check(&host.list, &attachment).unwrap();
        host.detach(&attachment);
        assert_eq!(host.snapshot(), before);
        assert!(host.caller.check(&host.list, &attachment).is_err());
        assert!(netns.run(|| rig::snapshot().contains("\"lo\"")));
    });
}

/// What DEL undoes is not undone again; only what is shared is left to the ledger.
#[test]
fn del_leaves_the_ledger_what_is_shared() {
    on_a_host(|host| {
        let (_netns, attachment, _) = host.attach("a", &["8080:80", "127.0.0.1:8081:80/udp"]);
        let mut owner = host.owner("a");
        let shared = |owner: &ledger::Owner| -> Vec<_> {
            let of = |effect| if let ledger::Effect::Uses { shared } = effect { Some(shared) } else { None };
            owner.records().into_iter().map(|(_, effect)| of(effect)).collect()
        };
        // The lease, the cable, two ports, the cached result; and everything behind the bridge, the table included.
        assert_eq!(shared(&owner).iter().filter(|one| one.is_none()).count(), 5, "{:?}", owner.records());
        assert_eq!(shared(&owner).iter().flatten().count(), 1, "{:?}", owner.records());
        host.caller.del(&host.list, &attachment, &mut owner).unwrap();
        assert_eq!(shared(&owner).len(), 1, "{:?}", owner.records());
        drop(owner);
        // And it is written down.
        let owner = host.owner("a");
        assert_eq!(shared(&owner).len(), 1, "{:?}", owner.records());
        rig::undone(owner);
    });
}

#[test]
fn containers_reach_each_other_their_gateway_and_the_outside() {
    on_a_host(|host| {
        let outside = host.outside();
        let (a, _, a_ip) = host.attach("a", &[]);
        let (b, _, b_ip) = host.attach("b", &[]);
        serve(&b, "0.0.0.0:80", "b");
        serve(&outside, "0.0.0.0:80", "outside");
        assert_eq!(a.run(|| ask(&format!("{b_ip}:80"))), Ok(format!("b {a_ip}")));
        assert_eq!(ask(&format!("{b_ip}:80")), Ok("b 10.88.0.1".into()));
        // Outside there is no route back: it is the masquerade that makes this work.
        assert_eq!(a.run(|| ask("192.0.2.2:80")), Ok("outside 192.0.2.1".into()));
        assert_eq!(b.run(|| ask("127.0.0.1:80")), Ok("b 127.0.0.1".into()));
    });
}

#[test]
fn published_from_outside_from_loopback_and_hairpin() {
    on_a_host(|host| {
        let outside = host.outside();
        let (a, a_attachment, _) = host.attach("a", &["8080:80", "192.0.2.1:9090:80"]);
        let (b, _, _) = host.attach("b", &[]);
        serve(&a, "0.0.0.0:80", "a");
        assert_eq!(outside.run(|| ask("192.0.2.1:8080")), Ok("a 192.0.2.2".into()));
        assert_eq!(outside.run(|| ask("192.0.2.1:9090")), Ok("a 192.0.2.2".into()));
        assert_eq!(ask("127.0.0.1:8080"), Ok("a 10.88.0.1".into()));
        assert_eq!(ask("192.0.2.1:8080"), Ok("a 192.0.2.1".into()));
        assert!(ask("127.0.0.1:9090").is_err(), "published on another address");
        // Itself, and a neighbour on the same bridge, through the host's address and the gateway's.
        for netns in [&a, &b] {
            assert_eq!(netns.run(|| ask("192.0.2.1:8080")), Ok("a 10.88.0.1".into()));
            assert_eq!(netns.run(|| ask("10.88.0.1:8080")), Ok("a 10.88.0.1".into()));
        }
        host.detach(&a_attachment);
        assert!(outside.run(|| ask("192.0.2.1:8080")).is_err());
        assert!(ask("127.0.0.1:8080").is_err());
    });
}

#[test]
fn both_families() {
    on_a_host_with(&["10.88.0.0/16", "fd88::/64"], |host| {
        let before = host.snapshot();
        let outside = host.outside();
        let (a, attachment, _) = host.attach("a", &["8080:80"]);
        let (b, _, _) = host.attach("b", &[]);
        serve(&a, "[::]:80", "a");
        serve(&outside, "[::]:80", "outside");
        assert_eq!(outside.run(|| ask("[2001:db8::1]:8080")), Ok("a 2001:db8::2".into()));
        assert_eq!(outside.run(|| ask("192.0.2.1:8080")), Ok("a ::ffff:192.0.2.2".into()));
        assert_eq!(b.run(|| ask("[fd88::2]:80")), Ok("a fd88::3".into()));
        assert_eq!(b.run(|| ask("[2001:db8::1]:8080")), Ok("a fd88::1".into()));
        assert_eq!(a.run(|| ask("[2001:db8::2]:80")), Ok("outside 2001:db8::1".into()));
        host.caller.check(&host.list, &attachment).unwrap();
        host.detach(&attachment);
        assert_ne!(host.snapshot(), before);
    });
}

/// CVE-2020-8558: what listens on 127.0.0.1 is not for neighbours, though route_localnet is on.
#[test]
fn loopback_of_the_host_stays_closed_to_containers() {
    on_a_host(|host| {
        let (a, _, _) = host.attach("a", &["8080:80"]);
        let listener = std::net::TcpListener::bind("127.0.0.1:7777").unwrap();
        std::thread::spawn(move || listener.accept());
        let reached = a.run(|| {
            let mut socket = kernel::netlink::Socket::open(kernel::netlink::Protocol::Route).unwrap();
            let eth0 = kernel::netlink::link_by_name(&mut socket, "eth0").unwrap().unwrap().index;
            let mut batch = kernel::netlink::Batch::new();
            batch.set_link(&kernel::netlink::SetLink::index(eth0).route_localnet(true));
            batch.set_link(&kernel::netlink::SetLink::named("lo").up(false));
            socket.run(&batch).unwrap();
            let mut batch = kernel::netlink::Batch::new();
            let route = kernel::netlink::Route { link: Some(eth0), ..rig::route("127.0.0.0/8", "10.88.0.1") };
            batch.replace_route(&kernel::netlink::Route { table: Some(255), ..route.clone() });
            batch.add_route(&route);
            let _ = socket.run(&batch);
            ask("127.0.0.1:7777")
        });
        assert!(reached.is_err());
    });
}

/// https://github.com/containernetworking/plugins/issues/123: entries made before, or by the container before.
#[test]
fn stale_udp_conntrack_black_holes_nobody() {
    on_a_host(|host| {
        let outside = host.outside();
        let client = outside.run(|| UdpSocket::bind("192.0.2.2:5000").unwrap());
        let (a, a_attachment, _) = host.attach("a", &["5353:53/udp"]);
        echo(&a, "0.0.0.0:53", "a");
        assert_eq!(ping(&client, "192.0.2.1:5353").as_deref(), Some("a?"));
        host.detach(&a_attachment);
        // The client goes on sending: this makes an entry that leads nowhere.
        assert_eq!(ping(&client, "192.0.2.1:5353"), None);
        let (b, b_attachment, _) = host.attach("b", &["5353:53/udp"]);
        echo(&b, "0.0.0.0:53", "b");
        assert_eq!(ping(&client, "192.0.2.1:5353").as_deref(), Some("b?"));
        // Without DEL, by the ledger alone.
        rig::undone(host.owner("b"));
        drop(b_attachment);
        let (c, _, _) = host.attach("c", &["5353:53/udp"]);
        echo(&c, "0.0.0.0:53", "c");
        assert_eq!(ping(&client, "192.0.2.1:5353").as_deref(), Some("c?"));
    });
}

#[test]
fn fifty_at_once() {
    on_a_host(|host| {
        let before = host.snapshot();
        let netns: Vec<_> = (0..50).map(|_| Netns::new()).collect();
        let host_netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let each = |work: &(dyn Fn(usize) + Sync)| {
            std::thread::scope(|scope| {
                for chunk in 0..10 {
                    let host_netns = &host_netns;
                    scope.spawn(move || {
                        kernel::namespace::in_netns(host_netns, || {
                            (chunk * 5..chunk * 5 + 5).for_each(work);
                            Ok(())
                        })
                        .unwrap();
                    });
                }
            });
        };
        let addresses = std::sync::Mutex::new(std::collections::BTreeSet::new());
        each(&|i| {
            let id = format!("c{i}");
            let port = format!("{}:80", 9000 + i);
            let mut owner = host.owner(&id);
            let added =
                host.caller.add(&host.list, &attachment(&id, &netns[i], &[&port]), &mut owner).unwrap();
            addresses.lock().unwrap().insert(added.addresses()[0].address());
        });
        assert_eq!(addresses.lock().unwrap().len(), 50);
        each(&|i| host.detach(&attachment(&format!("c{i}"), &netns[i], &[])));
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn del_twice_without_namespace_and_without_cache() {
    on_a_host(|host| {
        let before = host.snapshot();
        let (netns, mut attachment, _) = host.attach("a", &["8080:80"]);
        attachment.netns = None;
        drop(netns);
        for _ in 0..2 {
            host.detach(&attachment);
        }
        assert_eq!(host.snapshot(), before);

        let (_netns, mut attachment, _) = host.attach("a", &["8080:80"]);
        std::fs::remove_dir_all(host.dir.path().join("cache")).unwrap();
        attachment.netns = Some("/nowhere".into());
        attachment.capability_args.clear();
        let mut owner = host.owner("a");
        for _ in 0..2 {
            host.caller.del(&host.list, &attachment, &mut owner).unwrap();
        }
        assert!(!host.snapshot().contains("8080"), "DEL alone unpublishes");
        assert!(
            !host.dir.path().join("cni/networks/sextant-test/10.88.0.2").exists(),
            "DEL alone frees the address"
        );
        rig::undone(owner);
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn a_taken_port_names_the_holder_and_leaves_all_as_it_was() {
    on_a_host(|host| {
        let (_a, a_attachment, _) = host.attach("a", &["8080:80"]);
        let before = host.snapshot();
        let netns = Netns::new();
        let refused = |ports: &[&str]| {
            let mut owner = host.owner("b");
            let error = host.caller.add(&host.list, &attachment("b", &netns, ports), &mut owner).unwrap_err();
            rig::undone(owner);
            assert_eq!(host.snapshot(), before);
            error.to_string()
        };
        let error = refused(&["8081:80", "8080:80"]);
        assert!(error.contains("8080/tcp") && error.contains("container a/eth0"), "{error}");
        let listener = std::net::TcpListener::bind("127.0.0.1:7070").unwrap();
        let error = refused(&["7070:80"]);
        assert!(
            error.contains("7070/tcp") && error.contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        drop(listener);
        let socket = UdpSocket::bind("0.0.0.0:7071").unwrap();
        assert!(refused(&["7071:80/udp"]).contains("7071/udp"));
        drop(socket);
        // Whoever listens on both families by one socket of IPv6 is in the way, and who listens on IPv6 alone is not.
        let listener = std::net::TcpListener::bind("[::]:7072").unwrap();
        assert!(refused(&["7072:80"]).contains("7072/tcp"));
        drop(listener);
        // (Of a port of its own: a child that another test has forked has the one before until it executes its program.)
        let _listener = std::net::TcpListener::bind("[::1]:7073").unwrap();
        let mut owner = host.owner("c");
        let beside = attachment("c", &netns, &["7073:80"]);
        host.caller.add(&host.list, &beside, &mut owner).unwrap();
        host.caller.del(&host.list, &beside, &mut owner).unwrap();
        rig::undone(owner);
        host.caller.check(&host.list, &a_attachment).unwrap();
        let again = host.caller.add(&host.list, &a_attachment, &mut host.owner("a")).unwrap_err();
        assert!(again.to_string().contains("attached already"), "{again}");
        host.caller.check(&host.list, &a_attachment).unwrap();
    });
}

#[test]
fn a_failed_add_is_taken_back_by_itself() {
    on_a_host(|host| {
        let before = host.snapshot();
        let netns = Netns::new();
        // There is an eth0 already.
        netns.run(|| {
            let peer = kernel::netlink::Peer { name: "other", mac: None, mtu: None, netns: None };
            let mut batch = kernel::netlink::Batch::new();
            batch.add_link(&kernel::netlink::NewLink::new("eth0", kernel::netlink::Kind::Veth { peer }));
            kernel::netlink::Socket::open(kernel::netlink::Protocol::Route).unwrap().run(&batch).unwrap();
        });
        let mut owner = host.owner("a");
        let error =
            host.caller.add(&host.list, &attachment("a", &netns, &["8080:80"]), &mut owner).unwrap_err();
        assert!(error.to_string().contains("cannot create veth link"), "{error}");
        assert!(!host.dir.path().join("cni/networks/sextant-test/10.88.0.2").exists());
        rig::undone(owner);
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn a_flushed_ruleset_and_a_deleted_bridge_come_back_with_the_next_container() {
    on_a_host(|host| {
        let before = host.snapshot();
        let (_a, a_attachment, _) = host.attach("a", &["8080:80"]);
        kernel::nft::delete_table("inet", "sextant-test").unwrap();
        let bridge = host.snapshot().split('"').find(|word| word.starts_with("sx-")).unwrap().to_owned();
        kernel::netlink::delete_link(&bridge).unwrap();
        let (b, b_attachment, _) = host.attach("b", &["8081:80"]);
        serve(&b, "0.0.0.0:80", "b");
        assert_eq!(ask("127.0.0.1:8081"), Ok("b 10.88.0.1".into()));
        host.detach(&a_attachment);
        host.detach(&b_attachment);
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn a_bridge_of_somebody_else_is_used_and_left() {
    on_a_host(|host| {
        let bridge = cni::caller::Instance::new("test").bridge();
        let kind = kernel::netlink::Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        let mut batch = kernel::netlink::Batch::new();
        batch
            .add_link(&kernel::netlink::NewLink { up: true, ..kernel::netlink::NewLink::new(&bridge, kind) });
        kernel::netlink::Socket::open(kernel::netlink::Protocol::Route).unwrap().run(&batch).unwrap();
        let (_a, attachment, _) = host.attach("a", &[]);
        host.detach(&attachment);
        assert!(host.snapshot().contains(&bridge));
    });
}
