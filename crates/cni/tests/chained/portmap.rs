use std::net::{SocketAddr, UdpSocket};

use cni::contract::{Attachment, NetworkList, ValidAttachment};
use kernel::netlink::sysctl;
use ledger::Transient;
use serde_json::{Value, json};

use crate::rig::{
    self, Host, Netns, ask, echo, flows_from, flush_ruleset, lose_element, on_a_host, ping, put_element,
    serve,
};
use crate::{Called, network};

/// A network whose ports are published as `conf` says.
fn published(host: &Host, mut conf: Value) -> NetworkList {
    conf["type"] = "portmap".into();
    conf["capabilities"] = json!({ "portMappings": true });
    network(host, "n", &[conf])
}

/// A container that serves its id and who asks on port 80.
fn attach(host: &Host, list: &NetworkList, id: &'static str, ports: &[&str]) -> (Netns, Attachment) {
    let netns = Netns::new();
    let attachment = rig::attachment(id, &netns, ports);
    host.caller.add(list, &attachment, &mut host.owner(id)).unwrap();
    host.caller.check(list, &attachment).unwrap();
    serve(&netns, "[::]:80", id);
    (netns, attachment)
}

fn detach(host: &Host, list: &NetworkList, attachment: &Attachment) {
    let mut owner = host.owner(&attachment.container_id);
    host.caller.del(list, attachment, &mut owner).unwrap();
    rig::undone(owner);
}

fn ruleset() -> String {
    let output = std::process::Command::new("nft").args(["-n", "list", "ruleset"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn is(words: &str) -> Result<String, std::io::ErrorKind> {
    Ok(words.to_owned())
}

#[test]
fn without_snat_nobody_is_hidden_and_loopback_stays_shut() {
    on_a_host(|host| {
        let outside = host.outside();
        let before = ruleset();
        let list = published(host, json!({ "snat": false, "masqAll": true }));
        let (_netns, attachment) = attach(host, &list, "a", &["8080:80"]);
        assert_eq!(outside.run(|| ask("192.0.2.1:8080")), is("a ::ffff:192.0.2.2"));
        assert_eq!(outside.run(|| ask("[2001:db8::1]:8080")), is("a 2001:db8::2"));
        assert_eq!(ask("192.0.2.1:8080"), is("a ::ffff:192.0.2.1"));
        assert!(ask("127.0.0.1:8080").is_err());
        assert_eq!(sysctl::read("net/ipv4/conf/br0/route_localnet").unwrap(), "0");
        detach(host, &list, &attachment);
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn masq_all_hides_everybody() {
    on_a_host(|host| {
        let outside = host.outside();
        let before = ruleset();
        let list = published(host, json!({ "masqAll": true }));
        let (_netns, attachment) = attach(host, &list, "a", &["8080:80"]);
        assert_eq!(outside.run(|| ask("192.0.2.1:8080")), is("a ::ffff:10.5.0.1"));
        assert_eq!(outside.run(|| ask("[2001:db8::1]:8080")), is("a fd05::1"));
        assert_eq!(ask("127.0.0.1:8080"), is("a ::ffff:10.5.0.1"));
        detach(host, &list, &attachment);
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn only_what_meets_the_conditions_is_sent_on() {
    on_a_host(|host| {
        let outside = host.outside();
        let ask_both = || outside.run(|| [ask("192.0.2.1:8080").is_ok(), ask("[2001:db8::1]:8080").is_ok()]);
        for (v4, v6, expected) in [
            (json!(["ip saddr 192.0.2.0/24"]), json!(["ip6 saddr 2001:db8::2"]), [true, true]),
            (
                json!(["ip saddr != 192.0.2.0/24"]),
                json!(["ip6 saddr", "!=", "2001:db8::/32"]),
                [false, false],
            ),
            (json!(["iifname uplink", "ip daddr 192.0.2.1"]), json!(["iifname == \"other\""]), [true, false]),
            (json!(["ip daddr", "192.0.2.9"]), Value::Null, [false, true]),
        ] {
            let before = ruleset();
            let list = published(host, json!({ "conditionsV4": v4, "conditionsV6": v6 }));
            // Both ways of publishing have their conditions.
            let (_a, a) = attach(host, &list, "a", &["8080:80"]);
            let (_b, b) = attach(host, &list, "b", &["192.0.2.1:9090:80"]);
            assert_eq!(ask_both(), expected, "{v4} {v6}");
            assert_eq!(outside.run(|| ask("192.0.2.1:9090")).is_ok(), expected[0], "{v4}");
            // The same conditions are one chain.
            let chains = 2 * usize::from(!v4.is_null()) + 2 * usize::from(!v6.is_null());
            assert_eq!(ruleset().matches("chain hostports_if_").count() * 2, chains, "{}", ruleset());
            detach(host, &list, &a);
            detach(host, &list, &b);
            assert_eq!(ruleset(), before);
        }
    });
}

/// The chain goes with the last port that has the conditions, and with GC if nothing else has taken it away.
#[test]
fn a_chain_of_conditions_lives_as_long_as_a_port_that_has_them() {
    on_a_host(|host| {
        let list = |number: u8| {
            published(host, json!({ "conditionsV4": [format!("ip saddr 192.0.{number}.0/24")] }))
        };
        let chains = || ruleset().matches("chain hostports_if_").count();
        let is_there = |name: &str| ruleset().contains(&format!("chain {name} {{"));
        // Keeps the table there.
        let (_z, z) = attach(host, &published(host, json!({})), "z", &["7070:80"]);
        let (one, two) = (list(2), list(3));
        let (_a, a) = attach(host, &one, "a", &["8080:80"]);
        let there = ruleset();
        let name = there.split("chain ").find(|chain| chain.starts_with("hostports_if_")).unwrap();
        let name = name.split(' ').next().unwrap();
        let (_b, b) = attach(host, &one, "b", &["8081:80"]);
        let (_c, c) = attach(host, &two, "c", &["8082:80"]);
        assert_eq!(chains(), 2);
        detach(host, &one, &a);
        assert_eq!(chains(), 2);
        detach(host, &two, &c);
        assert_eq!(chains(), 1);
        // What remains is the one that is in use.
        assert!(is_there(name), "{}", ruleset());
        detach(host, &one, &b);
        assert_eq!(chains(), 0);
        let words = ["add", "chain", "inet", "sextant", "hostports_if_of_a_killed_del"];
        assert!(std::process::Command::new("nft").args(words).status().unwrap().success());
        let valid = ValidAttachment { container_id: "z".into(), ifname: "eth0".into() };
        host.caller.gc(&published(host, json!({})), &[valid], &mut Transient::new()).unwrap();
        assert_eq!(chains(), 0);
        detach(host, &published(host, json!({})), &z);
    });
}

/// Two networks with different conditions do not disturb each other: the reference plugin lets the last one count.
#[test]
fn conditions_are_each_networks_own() {
    on_a_host(|host| {
        let outside = host.outside();
        let shut = published(host, json!({ "conditionsV4": ["iifname other"] }));
        let open = published(host, json!({}));
        let (_a, _) = attach(host, &shut, "a", &["8080:80"]);
        let (_b, _) = attach(host, &open, "b", &["8081:80", "192.0.2.1:8080:80"]);
        let ask = |port: u16| outside.run(|| ask(&format!("192.0.2.1:{port}")));
        assert_eq!(ask(8081), is("b ::ffff:192.0.2.2"));
        assert_eq!(ask(8080), is("b ::ffff:192.0.2.2"), "published on one address, without conditions");
    });
}

#[test]
fn host_addresses_of_all_kinds() {
    on_a_host(|host| {
        let outside = host.outside();
        let list = published(host, json!({}));
        let (_a, _) = attach(host, &list, "a", &["0.0.0.0:8080:80", "7000:7000/sctp"]);
        // The other family's port of that number is free.
        let (_b, _) = attach(host, &list, "b", &["[::]:8080:80", "[2001:db8::1]:9090:80"]);
        assert_eq!(outside.run(|| ask("192.0.2.1:8080")), is("a ::ffff:192.0.2.2"));
        assert_eq!(outside.run(|| ask("[2001:db8::1]:8080")), is("b 2001:db8::2"));
        assert_eq!(outside.run(|| ask("[2001:db8::1]:9090")), is("b 2001:db8::2"));
        assert!(outside.run(|| ask("192.0.2.1:9090")).is_err());
        assert!(ruleset().contains("132 . 7000 comment \"n/a/eth0\" : 10.5.0.2 . 7000"), "{}", ruleset());

        let netns = Netns::new();
        let attachment = rig::attachment("c", &netns, &["[::1]:7001:80"]);
        let error = host.caller.add(&list, &attachment, &mut host.owner("c")).unwrap_err().to_string();
        assert!(error.contains("\"hostIP\" is \"::1\""), "{error}");
    });
}

#[test]
fn whatever_is_known_del_and_gc_leave_no_element() {
    on_a_host(|host| {
        let conf = |port: u16| {
            json!({ "type": "portmap", "masqAll": true, "conditionsV4": ["iifname != other"], "runtimeConfig":
                { "portMappings": [{ "hostPort": port, "containerPort": 80, "protocol": "udp" }] } })
        };
        let mut a = Called::new(host, "a", conf(8080));
        let (b, mut c) = (Called::new(host, "b", conf(8081)), Called::new(host, "c", conf(8082)));
        let held = |id: &str| ruleset().matches(&format!("\"n/{id}/eth0\"")).count();
        for called in [&a, &b, &c] {
            called.add().unwrap();
            called.check().unwrap();
        }
        // A port and a masquerade for each family, and a condition.
        assert_eq!(["a", "b", "c"].map(held), [5, 5, 5], "{}", ruleset());
        a.gc(&["a", "c"]);
        assert_eq!(["a", "b", "c"].map(held), [5, 0, 5]);
        assert!(b.check().unwrap_err().to_string().contains("8081/udp is gone"));
        c.previous = None;
        c.del();
        assert_eq!(held("c"), 0);
        // Neither the ports nor anything else is known any more.
        for (key, value) in [("conditionsV4", json!(7)), ("runtimeConfig", json!({ "portMappings": "what" }))]
        {
            a.conf.keys.insert(key.into(), value);
        }
        a.del_with_nothing_known();
        assert_eq!(held("a"), 0);
    });
}

/// A container whose port 53 is published for datagrams, where it is, and `client` outside has a flow to it.
fn asked(
    host: &Host,
    list: &NetworkList,
    client: &UdpSocket,
    id: &'static str,
    port: u16,
) -> (Netns, Attachment, SocketAddr) {
    let netns = Netns::new();
    let attachment = rig::attachment(id, &netns, &[&format!("{port}:53/udp")]);
    let added = host.caller.add(list, &attachment, &mut host.owner(id)).unwrap();
    rig::remember_datagrams();
    echo(&netns, "0.0.0.0:53", id);
    assert_eq!(ping(client, &format!("192.0.2.1:{port}")), Some(format!("{id}?")));
    let at = SocketAddr::new(added.addresses()[0].address(), 53);
    assert_eq!(flows_from(at), 1);
    (netns, attachment, at)
}

/// By what a container ends: DEL in this process, DEL that has no ledger, and the ledger alone, as after a kill.
const ENDS: [fn(&Host, &NetworkList, &Attachment); 3] = [
    |host, list, attachment| {
        host.caller.del(list, attachment, &mut host.owner(&attachment.container_id)).unwrap();
    },
    |host, list, attachment| host.caller.del(list, attachment, &mut Transient::new()).unwrap(),
    |host, _, attachment| rig::undone(host.owner(&attachment.container_id)),
];

/// What a DEL leaves that is killed between the two, and a ruleset that somebody has flushed: flows without elements.
#[test]
fn flows_go_without_their_elements() {
    on_a_host(|host| {
        let outside = host.outside();
        let client = outside.run(|| UdpSocket::bind("192.0.2.2:5000").unwrap());
        let near = UdpSocket::bind("0.0.0.0:0").unwrap();
        let list = published(host, json!({}));
        let (_other, _, other_at) = asked(host, &list, &client, "other", 5354);
        let losses: [fn(); 2] = [|| lose_element("sextant", 5353), flush_ruleset];
        for lose in losses {
            for end in ENDS {
                let (_a, a, at) = asked(host, &list, &client, "a", 5353);
                // This one has not come by the port.
                assert_eq!(ping(&near, &at.to_string()).as_deref(), Some("a?"));
                lose();
                assert_eq!([at, other_at].map(flows_from), [2, 1]);
                end(host, &list, &a);
                assert_eq!([at, other_at].map(flows_from), [1, 1]);
                detach(host, &list, &a);
                assert_eq!([at, other_at].map(flows_from), [1, 1]);
            }
        }
    });
}

/// A DEL was killed after the address was given back: another container has it, and publishes the same port of it.
#[test]
fn flows_to_where_another_is_published_stay() {
    on_a_host(|host| {
        let outside = host.outside();
        let client = outside.run(|| UdpSocket::bind("192.0.2.2:5000").unwrap());
        let list = published(host, json!({}));
        // Keeps the table there.
        let _z = attach(host, &list, "z", &["7070:80"]);
        for end in ENDS {
            let (_a, a, at) = asked(host, &list, &client, "a", 5353);
            lose_element("sextant", 5353);
            put_element("sextant", 5353, at, "n/b/eth0");
            end(host, &list, &a);
            detach(host, &list, &a);
            assert_eq!(flows_from(at), 1);
            assert!(ruleset().contains("n/b/eth0"), "{}", ruleset());
            lose_element("sextant", 5353);
        }
    });
}
