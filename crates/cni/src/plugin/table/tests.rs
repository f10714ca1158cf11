use kernel::namespace::in_new_netns;
use kernel::netlink::{Protocol, Socket};
use ledger::Transient;

use super::*;

fn table() -> Table {
    Table { name: "sextant-layout".into() }
}

fn socket() -> Socket {
    Socket::open(Protocol::Netfilter).unwrap()
}

fn listed() -> String {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nft(command: &str) {
    let output = std::process::Command::new("nft").arg(command).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whoever changes what is in the tables comes past here: after a release `LAYOUT` goes up with it.
#[test]
fn the_layout_has_the_number_that_it_had() {
    let parts: Vec<String> = parts().iter().map(|part| format!("{part:?}")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    assert_eq!((LAYOUT, hash(&parts).get(..8)), (3, Some("v8svpgp7")));
}

/// A table as the version before the layouts had a number left it, with a container in it.
const OLD: &str = "table inet sextant-layout {
    map hostports4 { type inet_proto . inet_service : ipv4_addr . inet_service;
        elements = { tcp . 8080 comment \"net/a/eth0\" : 10.88.0.2 . 80 }; };
    set masq4 { type ifname . ipv4_addr; flags interval;
        elements = { \"br0\" . 10.88.0.0/16 comment \"cni-sextant-masq4-x\" }; };
    map chosen { type mark : verdict; };
    chain hostports { meta nfproto ipv4 fib daddr type local; };
    chain prerouting { type nat hook prerouting priority dstnat; jump hostports; };
    chain postrouting { type nat hook postrouting priority srcnat; iifname . ip saddr @masq4 masquerade; };
    }";

#[test]
fn an_older_table_is_brought_up_to_date_and_keeps_its_elements() {
    for steps in 0..2 {
        in_new_netns(|| {
            nft(OLD);
            // Some versions sent packets by maps, from where a chain cannot be taken away.
            nft("add element inet sextant-layout chosen { 1 : jump hostports }");
            match steps {
                0 => table().join(Family::Inet, &mut socket(), &mut Transient::new()).unwrap(),
                _ => table().make(Family::Inet, &mut socket())?,
            }
            let there = listed();
            for words in
                [". 8080 comment \"net/a/eth0\" : 10.88.0.2 . 80", "\"br0\" . 10.88.0.0/16", "layout_3"]
            {
                assert!(there.contains(words), "{words}: {there}");
            }
            assert!(!there.contains("chain postrouting") && there.contains("set masq_near4"), "{there}");
            let rules: usize = parts_of(Family::Inet).map(|part| part.rules.len()).sum();
            assert_eq!(nft::rules(&mut socket(), Family::Inet, &table().name)?.len(), rules);
            // Another time there is nothing to do.
            table().make(Family::Inet, &mut socket())?;
            assert_eq!(listed(), there);
            Ok(())
        })
        .unwrap();
    }
}

/// Rules of chains that were made with elements are the elements' own: without them what they send there would pass.
#[test]
fn conditions_outlive_the_layout_that_they_were_made_in() {
    in_new_netns(|| {
        nft("table inet sextant-layout { chain layout_1 { }; chain old { tcp dport 7 accept; };
            chain hostports_if_x { ip saddr 192.0.2.0/24 return; accept; };
            map hostports4_if { type inet_proto . inet_service : verdict;
                elements = { tcp . 8080 comment \"net/a/eth0\" : jump hostports_if_x }; }; }");
        table().make(Family::Inet, &mut socket())?;
        let there = listed();
        for words in ["ip saddr 192.0.2.0/24 return", "jump hostports_if_x", "layout_3"] {
            assert!(there.contains(words), "{words}: {there}");
        }
        assert!(!there.contains("dport 7"), "{there}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_later_table_is_left_as_it_is() {
    in_new_netns(|| {
        nft("table inet sextant-layout { chain layout_99 { }; set hairpin4 { type ipv4_addr; }; }");
        let before = listed();
        table().join(Family::Inet, &mut socket(), &mut Transient::new()).unwrap();
        assert_eq!(listed(), before);
        Ok(())
    })
    .unwrap();
}

#[test]
fn both_families_are_made_at_once_by_many() {
    in_new_netns(|| {
        let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    kernel::namespace::in_netns(&netns, || {
                        for family in [Family::Inet, Family::Bridge] {
                            table().join(family, &mut socket(), &mut Transient::new()).unwrap();
                        }
                        Ok(())
                    })
                    .unwrap();
                });
            }
        });
        for family in [Family::Inet, Family::Bridge] {
            let rules: usize = parts_of(family).map(|part| part.rules.len()).sum();
            assert_eq!(nft::rules(&mut socket(), family, &table().name)?.len(), rules, "{}", listed());
        }
        Ok(())
    })
    .unwrap();
}
