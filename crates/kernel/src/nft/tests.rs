use super::*;
use crate::namespace::in_new_netns;
use crate::netlink::{Received, conntrack};

fn socket() -> Socket {
    Socket::open(Protocol::Netfilter).unwrap()
}

fn publish_map(change: &mut Transaction) {
    change.add_table(Family::Inet, "t", true, Some("a test"));
    let target = Some(Target::Fields(&[Field::IPV4, Field::SERVICE]));
    let key = &[Field::PROTOCOL, Field::SERVICE];
    change.add_set(Family::Inet, "t", &Set { name: "publish", key, target, interval: false });
}

fn published(port: u16) -> Element {
    Element {
        key: Value::new().protocol(17).port(port).into_bytes(),
        value: Some(Value::new().address([10, 0, 0, 2].into()).port(80).into_bytes()),
        comment: Some("pod".into()),
        ..Element::default()
    }
}

fn listed() -> String {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn elements_read_back_and_are_deleted_twice() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        publish_map(&mut change);
        change.add_elements(Family::Inet, "t", "publish", &[published(8080), published(8081)], true);
        change.commit(&mut socket())?;
        let mut there = elements(&mut socket(), Family::Inet, "t", "publish")?;
        there.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(there, [published(8080), published(8081)]);

        let key = published(8080).key;
        delete_element("inet", "t", "publish", &key, "another", None)?;
        assert_eq!(elements(&mut socket(), Family::Inet, "t", "publish")?.len(), 2);
        for _ in 0..2 {
            delete_element("inet", "t", "publish", &key, "pod", None)?;
        }
        assert_eq!(elements(&mut socket(), Family::Inet, "t", "publish")?, [published(8081)]);
        for _ in 0..2 {
            delete_table("inet", "t")?;
        }
        delete_element("inet", "t", "publish", &key, "pod", None)?;
        assert_eq!(listed(), "");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_transaction_is_whole_or_nothing_and_says_what_was_refused() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        publish_map(&mut change);
        change.add_elements(Family::Inet, "t", "publish", &[published(1)], true);
        change.add_elements(Family::Inet, "t", "publish", &[published(1)], true);
        let refused = change.commit(&mut socket()).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EXIST));
        assert!(
            refused.to_string().starts_with("cannot add element of nftables set inet t publish"),
            "{refused}"
        );
        assert!(!table_exists(&mut socket(), Family::Inet, "t")?);
        Ok(())
    })
    .unwrap();
}

#[test]
fn intervals_of_two_fields() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        change.add_table(Family::Inet, "t", true, None);
        let key = &[Field::IFNAME, Field::IPV4];
        change.add_set(Family::Inet, "t", &Set { name: "masq", key, target: None, interval: true });
        let start = Value::new().ifname("sx-0").address([10, 88, 0, 0].into()).into_bytes();
        let end = Value::new().ifname("sx-0").address([10, 88, 255, 255].into()).into_bytes();
        let element = Element {
            key: start.clone(),
            key_end: Some(end.clone()),
            comment: Some("net".into()),
            ..Element::default()
        };
        change.add_elements(Family::Inet, "t", "masq", &[element], true);
        change.commit(&mut socket())?;
        assert!(listed().contains("\"sx-0\" . 10.88.0.0/16"), "{}", listed());
        delete_element("inet", "t", "masq", &[start, end].concat(), "net", None)?;
        assert!(!listed().contains("sx-0"), "{}", listed());
        Ok(())
    })
    .unwrap();
}

#[test]
fn nft_prints_rules_as_its_own() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        publish_map(&mut change);
        let base = Base { kind: "nat", hook: Hook::Prerouting, priority: -100, accept: true };
        change.add_chain(Family::Inet, "t", &Chain { name: "prerouting", base: Some(base) });
        let rule = [
            Expression::AddressType { to: Register(0) },
            Expression::Compare { register: Register(0), equal: true, value: TYPE_LOCAL.to_ne_bytes().to_vec() },
            Expression::Meta { key: Meta::Protocol, to: Register(0) },
            Expression::Payload { header: Header::Transport, offset: 2, len: 2, to: Register(1) },
            Expression::Lookup { set: "publish", register: Register(0), to: Some(Register(0)), invert: false },
            Expression::Nat { kind: Nat::Destination, ipv4: true, address: Register(0), port: Some(Register(1)) },
        ];
        change.add_rule(Family::Inet, "t", "prerouting", &rule, Some("published ports"));
        change.commit(&mut socket())?;
        let listed = listed();
        for line in [
            "comment \"a test\"",
            "type inet_proto . inet_service : ipv4_addr . inet_service",
            "type nat hook prerouting priority dstnat; policy accept;",
            "fib daddr type local dnat ip to meta l4proto . th dport map @publish comment \"published ports\"",
        ] {
            assert!(listed.contains(line), "{line:?} is not in:\n{listed}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn directions_and_links_are_printed_as_nft_has_them() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        change.add_table(Family::Inet, "t", true, None);
        let base = Base { kind: "filter", hook: Hook::Input, priority: 0, accept: true };
        change.add_chain(Family::Inet, "t", &Chain { name: "input", base: Some(base) });
        let set = Set { name: "own", key: &[Field::IFINDEX, Field::IPV4], target: None, interval: false };
        change.add_set(Family::Inet, "t", &set);
        // The loopback is the first link of a namespace.
        let key = Value::new().mark(1).address([127, 0, 0, 1].into()).into_bytes();
        let own = [Element { key, ..Element::default() }];
        change.add_elements(Family::Inet, "t", "own", &own, true);
        let register = Register::FIRST;
        let compare = |value: Vec<u8>| Expression::Compare { register, equal: true, value };
        for (load, value) in [
            (Expression::Conntrack { key: Conntrack::Direction, to: register }, vec![DIRECTION_REPLY]),
            (Expression::Meta { key: Meta::Input, to: register }, 1_u32.to_ne_bytes().to_vec()),
        ] {
            let rule = [load, compare(value), Expression::Verdict(Verdict::Accept)];
            change.add_rule(Family::Inet, "t", "input", &rule, None);
        }
        change.commit(&mut socket())?;
        assert_eq!(elements(&mut socket(), Family::Inet, "t", "own")?, own);
        let listed = listed();
        for line in ["ct direction reply accept", "iif \"lo\" accept", "type iface_index . ipv4_addr"] {
            assert!(listed.contains(line), "{line:?} is not in:\n{listed}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn ten_thousand_elements_in_one_transaction() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        publish_map(&mut change);
        let many: Vec<_> = (1..=10_000).map(published).collect();
        change.add_elements(Family::Inet, "t", "publish", &many, true);
        change.commit(&mut socket())?;
        assert_eq!(elements(&mut socket(), Family::Inet, "t", "publish")?.len(), 10_000);
        Ok(())
    })
    .unwrap();
}

#[test]
fn conntrack_entries_of_other_flows_stay() {
    in_new_netns(|| {
        // Conntrack only watches once a rule needs it.
        let mut change = Transaction::new();
        publish_map(&mut change);
        let base = Base { kind: "filter", hook: Hook::Output, priority: 0, accept: true };
        change.add_chain(Family::Inet, "t", &Chain { name: "output", base: Some(base) });
        let state =
            [Expression::Conntrack { key: Conntrack::State, to: Register::FIRST }, Expression::Counter];
        change.add_rule(Family::Inet, "t", "output", &state, None);
        change.commit(&mut socket())?;
        let mut route = Socket::open(Protocol::Route)?;
        let mut batch = crate::netlink::Batch::new();
        batch.set_link(&crate::netlink::SetLink::named("lo").up(true));
        route.run(&batch)?;
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.send_to(b"x", "127.0.0.1:7001").unwrap();
        udp.send_to(b"x", "127.0.0.1:7002").unwrap();
        assert_eq!(conntrack::count()?, 2);
        let to = |port| Flows::FirstSentTo { ipv4: true, address: None, protocol: 17, port };
        conntrack::delete_flows(&to(7003))?;
        assert_eq!(conntrack::count()?, 2);
        conntrack::delete_flows(&to(7001))?;
        assert_eq!(conntrack::count()?, 1);
        let from = |port| Flows::AnsweredFrom { address: [127, 0, 0, 1].into(), port: Some((17, port)) };
        conntrack::delete_flows(&from(7001))?;
        assert_eq!(conntrack::count()?, 1);
        conntrack::delete_flows(&from(7002))?;
        assert_eq!(conntrack::count()?, 0);
        udp.send_to(b"x", "127.0.0.1:7002").unwrap();
        conntrack::delete_flows(&Flows::AnsweredFrom { address: [127, 0, 0, 9].into(), port: None })?;
        assert_eq!(conntrack::count()?, 1);
        conntrack::delete_flows(&Flows::AnsweredFrom { address: [127, 0, 0, 1].into(), port: None })?;
        assert_eq!(conntrack::count()?, 0);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_counter_goes_on_from_what_it_is_told_and_is_read() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        change.add_table(Family::Ip, "t", true, None);
        let base = Base { kind: "filter", hook: Hook::Output, priority: 0, accept: true };
        change.add_chain(Family::Ip, "t", &Chain { name: "output", base: Some(base) });
        let from = Count { packets: 5, bytes: 1 << 40 };
        change.add_rule(Family::Ip, "t", "output", &[Expression::CounterFrom(from)], None);
        change.add_rule(Family::Ip, "t", "output", &[Expression::Counter], None);
        change.add_rule(Family::Ip, "t", "output", &[Expression::Verdict(Verdict::Accept)], None);
        change.commit(&mut socket())?;
        let counted = || -> Result<Vec<Option<Count>>> {
            Ok(rules(&mut socket(), Family::Ip, "t")?.iter().map(|rule| rule.counted).collect())
        };
        assert_eq!(counted()?, [Some(from), Some(Count::default()), None]);
        let mut batch = crate::netlink::Batch::new();
        batch.set_link(&crate::netlink::SetLink::named("lo").up(true));
        Socket::open(Protocol::Route)?.run(&batch)?;
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.send_to(b"x", udp.local_addr().unwrap()).unwrap();
        // Heads of IPv4 and UDP, and a byte.
        let one = Count { packets: 1, bytes: 20 + 8 + 1 };
        let mut both = from;
        both += one;
        assert_eq!(counted()?, [Some(both), Some(one), None]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn malformed_elements_do_not_panic() {
    for body in
        [&[][..], &[0; 4], &[0, 0, 0, 0, 255, 255, 3, 0, 1], &[0, 0, 0, 0, 8, 0, 3, 128, 4, 0, 1, 128]]
    {
        let message = Received { kind: uapi::NEWSETELEM, flags: 0, sequence: 0, port: 0, body };
        assert_eq!(read::read_elements(message), []);
    }
}

fn nft(command: &str) {
    let output = std::process::Command::new("nft").arg(command).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn chains_and_rules_of_others_are_read() {
    in_new_netns(|| {
        nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; \
             iifname \"br7\" accept; jump more; }; chain more { ip saddr 10.0.0.1 drop; }; }");
        nft("table inet t { chain pre { type nat hook prerouting priority -100; }; }");
        let there = chains(&mut socket())?;
        let forward = there.iter().find(|chain| chain.name == "FORWARD").unwrap();
        assert_eq!((forward.family, forward.table.as_str()), (Family::Ip, "filter"));
        let base = forward.base.as_ref().unwrap();
        assert_eq!((base.kind.as_str(), base.hook, base.priority), ("filter", BaseInfo::FORWARD, 0));
        assert!(base.drops);
        let open = there.iter().find(|chain| chain.name == "pre").unwrap().base.as_ref().unwrap();
        assert_eq!((open.kind.as_str(), open.hook, open.priority, open.drops), ("nat", 0, -100, false));
        assert_eq!(there.iter().find(|chain| chain.name == "more").unwrap().base, None);
        assert!(chain_exists(&mut socket(), Family::Ip, "filter", "more")?);
        assert!(!chain_exists(&mut socket(), Family::Ip, "filter", "less")?);
        assert!(!chain_exists(&mut socket(), Family::Ip6, "filter", "more")?);

        let there = rules(&mut socket(), Family::Ip, "filter")?;
        let told: Vec<_> = there.iter().map(|rule| (rule.chain.as_str(), rule.accepts)).collect();
        assert_eq!(told, [("FORWARD", true), ("FORWARD", false), ("more", false)]);
        assert!(there[0].compared.iter().any(|value| value.starts_with(b"br7\0")), "{there:?}");
        assert_eq!(rules(&mut socket(), Family::Ip, "none")?, []);

        let mut change = Transaction::new();
        change.flush_chain(Family::Ip, "filter", "FORWARD");
        change.delete_chain(Family::Ip, "filter", "more");
        change.commit(&mut socket())?;
        assert_eq!(rules(&mut socket(), Family::Ip, "filter")?, []);
        assert_eq!(chains(&mut socket())?.len(), 2);
        Ok(())
    })
    .unwrap();
}

/// What is known of them tells which they are; they stay where another leads by now.
#[test]
fn flows_go_without_their_element() {
    in_new_netns(|| {
        let mut change = Transaction::new();
        publish_map(&mut change);
        // Conntrack only watches once a rule needs it.
        change.add_table(Family::Inet, "watch", true, None);
        let base = Base { kind: "filter", hook: Hook::Output, priority: 0, accept: true };
        change.add_chain(Family::Inet, "watch", &Chain { name: "output", base: Some(base) });
        let state =
            [Expression::Conntrack { key: Conntrack::State, to: Register::FIRST }, Expression::Counter];
        change.add_rule(Family::Inet, "watch", "output", &state, None);
        change.commit(&mut socket())?;
        let mut batch = crate::netlink::Batch::new();
        batch.set_link(&crate::netlink::SetLink::named("lo").up(true));
        Socket::open(Protocol::Route)?.run(&batch)?;
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = || {
            for port in [7001, 7002] {
                udp.send_to(b"x", ("127.0.0.1", port)).unwrap();
            }
        };
        let key = |port| Value::new().protocol(17).port(port).into_bytes();
        let put = |port, holder: &str| {
            let element = Element {
                key: key(port),
                value: Some(Value::new().address([127, 0, 0, 1].into()).port(7001).into_bytes()),
                comment: Some(holder.into()),
                ..Element::default()
            };
            let mut change = Transaction::new();
            change.add_elements(Family::Inet, "t", "publish", &[element], true);
            change.commit(&mut socket())
        };
        let answered_from = "127.0.0.1:7001".parse().unwrap();
        let sent = Some(Flows::Sent { to: None, port: 7001, protocol: 17, answered_from });
        let left = |sent: Option<Flows>| {
            delete_element("inet", "t", "publish", &key(7001), "pod", sent)?;
            conntrack::count()
        };
        send();
        assert_eq!(left(None)?, 2);
        // Another has the key, or leads there by a key of his own.
        for port in [7001, 9] {
            put(port, "another")?;
            assert_eq!(left(sent)?, 2);
            let mut change = Transaction::new();
            let element = Element { key: key(port), ..Element::default() };
            change.delete_elements(Family::Inet, "t", "publish", &[element]);
            change.commit(&mut socket())?;
        }
        // One of its own is in nobody's way.
        put(9, "pod")?;
        assert_eq!(left(sent)?, 1);
        send();
        assert_eq!(conntrack::count()?, 2);
        delete_table("inet", "t")?;
        for _ in 0..2 {
            assert_eq!(left(sent)?, 1);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn elements_that_others_delete_are_told_to_who_asks() {
    in_new_netns(|| {
        let mut own = socket();
        let mut monitor = Monitor::open()?.of_elements(own.port()?);
        let mut change = Transaction::new();
        publish_map(&mut change);
        change.add_elements(Family::Inet, "t", "publish", &[published(1), published(2), published(3)], true);
        change.commit(&mut own)?;
        let deleted = |element: Element, socket: &mut Socket| {
            let mut change = Transaction::new();
            change.delete_elements(Family::Inet, "t", "publish", &[element]);
            change.commit(socket)
        };
        deleted(published(1), &mut own)?;
        assert_eq!(monitor.losses()?, []);
        let of = [Loss::Of { family: Family::Inet, table: "t".into() }];
        deleted(published(2), &mut socket())?;
        assert_eq!(monitor.losses()?, of);
        nft("flush map inet t publish");
        assert_eq!(monitor.losses()?, of);
        Ok(())
    })
    .unwrap();
}

#[test]
fn deletions_are_told_and_elements_are_not() {
    in_new_netns(|| {
        let mut monitor = Monitor::open()?;
        let mut change = Transaction::new();
        publish_map(&mut change);
        change.add_elements(Family::Inet, "t", "publish", &[published(1)], true);
        change.commit(&mut socket())?;
        nft("add table ip other; add chain ip other c; add rule ip other c accept");
        delete_element("inet", "t", "publish", &published(1).key, "pod", None)?;
        assert_eq!(monitor.losses()?, []);
        let of = |family, table: &str| Loss::Of { family, table: table.into() };
        nft("flush table ip other");
        assert_eq!(monitor.losses()?, [of(Family::Ip, "other")]);
        nft("flush ruleset");
        let mut losses = monitor.losses()?;
        losses.sort_by_key(|loss| format!("{loss:?}"));
        assert_eq!(losses, [of(Family::Inet, "t"), of(Family::Ip, "other")]);
        assert_eq!(monitor.losses()?, []);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_owned_table_is_nobody_elses_and_goes_with_its_socket() {
    in_new_netns(|| {
        let mut owner = socket();
        let mut change = Transaction::new();
        change.add_owned_table(Family::Inet, "own", Some("a test"));
        change.add_chain(Family::Inet, "own", &Chain { name: "first", base: None });
        change.commit(&mut owner)?;
        let mut theirs = Transaction::new();
        theirs.delete_table(Family::Inet, "own");
        assert_eq!(theirs.commit(&mut socket()).unwrap_err().errno(), Some(Errno::PERM));
        let mut again = Transaction::new();
        again.add_owned_table(Family::Inet, "own", None);
        assert!(again.commit(&mut socket()).is_err());
        nft("flush ruleset");
        assert!(chain_exists(&mut socket(), Family::Inet, "own", "first")?);
        // Its owner goes on with it.
        let mut change = Transaction::new();
        change.add_chain(Family::Inet, "own", &Chain { name: "second", base: None });
        change.commit(&mut owner)?;
        assert!(listed().contains("chain second"), "{}", listed());
        drop(owner);
        // A child that another test has forked has the socket until it executes its program.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(180);
        while table_exists(&mut socket(), Family::Inet, "own")? {
            assert!(std::time::Instant::now() < end, "{}", listed());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    })
    .unwrap();
}
