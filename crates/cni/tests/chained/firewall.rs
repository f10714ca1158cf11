use std::process::Command;

use cni::contract::{Attachment, Code, NetworkList};
use serde_json::json;

use crate::rig::{self, Host, Netns, ask, on_a_host, serve};
use crate::{Called, network_behind};

/// A container that serves its name on port 80 of both families.
struct Served {
    netns: Netns,
    attachment: Attachment,
    v4: String,
    v6: String,
}

fn served(host: &Host, list: &NetworkList, id: &'static str) -> Served {
    let netns = Netns::new();
    let attachment = rig::attachment(id, &netns, &[]);
    let added = host.caller.add(list, &attachment, &mut host.owner(id)).unwrap();
    let [v4, v6] = added.addresses()[..] else { panic!("{added:?}") };
    let (v4, v6) = (format!("{}:80", v4.address()), format!("[{}]:80", v6.address()));
    serve(&netns, "[::]:80", id);
    Served { netns, attachment, v4, v6 }
}

impl Served {
    /// Whether it reaches another, by both families or by none.
    fn reaches(&self, other: &Self) -> bool {
        let [v4, v6] = [&other.v4, &other.v6].map(|at| self.netns.run(|| ask(at)).is_ok());
        assert_eq!(v4, v6, "{} to {}", self.v4, other.v4);
        v4
    }
}

fn policy(host: &Host, name: &str, bridge: &str, number: u8, policy: &str) -> NetworkList {
    network_behind(host, name, bridge, number, &[json!({ "type": "firewall", "ingressPolicy": policy })])
}

fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn leave_nothing(host: &Host, lists: &[(&NetworkList, &Served)], before: &str) {
    for (list, served) in lists {
        let id = &served.attachment.container_id;
        host.caller.check(list, &served.attachment).unwrap();
        let mut owner = host.owner(id);
        host.caller.del(list, &served.attachment, &mut owner).unwrap();
        rig::undone(owner);
    }
    assert_eq!(host.snapshot(), before);
}

#[test]
fn open_admits_by_an_element_an_address() {
    on_a_host(|host| {
        let before = host.snapshot();
        let (one, two) = (policy(host, "one", "br0", 5, "open"), policy(host, "two", "br1", 6, ""));
        let (a, b) = (served(host, &one, "a"), served(host, &two, "b"));
        assert!(a.reaches(&b) && b.reaches(&a));
        let rules = ruleset();
        for words in ["10.5.0.2 comment \"one/a/eth0\"", "fd06::2 comment \"two/b/eth0\""] {
            assert!(rules.contains(words), "{rules}");
        }
        assert!(!rules.contains("table bridge"), "{rules}");
        leave_nothing(host, &[(&one, &a), (&two, &b)], &before);
    });
}

#[test]
fn same_bridge_keeps_the_bridges_that_have_it_apart() {
    on_a_host(|host| {
        let before = host.snapshot();
        let one = policy(host, "one", "br0", 5, "same-bridge");
        let two = policy(host, "two", "br1", 6, "same-bridge");
        let free = network_behind(host, "free", "br2", 7, &[]);
        let (a, neighbour) = (served(host, &one, "a"), served(host, &one, "neighbour"));
        let (b, c) = (served(host, &two, "b"), served(host, &free, "c"));
        assert!(a.reaches(&neighbour) && neighbour.reaches(&a));
        assert!(!a.reaches(&b) && !b.reaches(&a));
        // As with the reference plugin: only bridges that have the policy are kept apart.
        assert!(a.reaches(&c) && c.reaches(&a));
        assert!(ask(&a.v4).is_ok() && ask(&b.v6).is_ok(), "from the host");
        leave_nothing(host, &[(&one, &a), (&one, &neighbour), (&two, &b), (&free, &c)], &before);
    });
}

#[test]
fn isolated_keeps_neighbours_apart_too() {
    on_a_host(|host| {
        let before = host.snapshot();
        let one = policy(host, "one", "br0", 5, "isolated");
        let two = policy(host, "two", "br1", 6, "same-bridge");
        let free = network_behind(host, "free", "br2", 7, &[]);
        let (a, neighbour) = (served(host, &one, "a"), served(host, &one, "neighbour"));
        let (b, c) = (served(host, &two, "b"), served(host, &free, "c"));
        assert!(!a.reaches(&neighbour) && !neighbour.reaches(&a));
        assert!(!a.reaches(&b) && !b.reaches(&a));
        assert!(a.reaches(&c) && c.reaches(&a), "through the gateway");
        assert!(ask(&a.v4).is_ok() && ask(&neighbour.v6).is_ok(), "from the host");
        leave_nothing(host, &[(&one, &a), (&one, &neighbour), (&two, &b), (&free, &c)], &before);
    });
}

#[test]
fn whatever_is_known_del_and_gc_leave_no_element() {
    on_a_host(|host| {
        let conf = json!({ "type": "firewall", "ingressPolicy": "isolated" });
        let [mut a, b, c] = ["a", "b", "c"].map(|id| Called::new(host, id, conf.clone()));
        for called in [&a, &b, &c] {
            called.add().unwrap();
            called.add().unwrap();
            called.check().unwrap();
        }
        let held = |id: &str| ruleset().matches(&format!("\"n/{id}/eth0\"")).count();
        assert_eq!(["a", "b", "c"].map(held), [3, 3, 3], "{}", ruleset());
        a.gc(&["a", "c"]);
        assert_eq!(["a", "b", "c"].map(held), [3, 0, 3]);
        assert!(b.check().unwrap_err().to_string().contains("firewall4"));
        c.del();
        c.del();
        assert_eq!(held("c"), 0);
        // What DEL is told need not be what ADD was told.
        a.conf.keys.insert("backend".into(), json!("iptables"));
        a.conf.keys.insert("ingressPolicy".into(), json!(7));
        a.del_with_nothing_known();
        assert_eq!(held("a"), 0);
    });
}

/// An address goes to another container before its element went: the element is the new one's.
#[test]
fn an_address_that_is_given_again_is_the_new_containers() {
    on_a_host(|host| {
        let a = Called::new(host, "a", json!({ "type": "firewall" }));
        let mut b = Called::new(host, "b", json!({ "type": "firewall" }));
        b.previous = a.previous.clone();
        a.add().unwrap();
        b.add().unwrap();
        a.del();
        b.check().unwrap();
        assert!(a.check().is_err());
    });
}

#[test]
fn each_refusal_has_the_code_and_names_the_key() {
    on_a_host(|host| {
        let before = ruleset();
        let mut called = Called::new(host, "c", json!({ "type": "firewall" }));
        for (key, value, code) in [
            ("backend", json!("iptables"), Code::UnsupportedField),
            ("backend", json!("firewalld"), Code::UnsupportedField),
            ("backend", json!(7), Code::InvalidConfig),
            ("iptablesAdminChainName", json!("ADMIN"), Code::UnsupportedField),
            ("firewalldZone", json!("trusted"), Code::UnsupportedField),
            ("ingressPolicy", json!("closed"), Code::InvalidConfig),
        ] {
            called.conf.keys.insert(key.into(), value);
            let error = called.add().unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.to_string().contains(&format!("{key:?}")), "{error}");
            assert!(called.plugin.status(&called.request()).is_err());
            called.conf.keys.remove(key);
        }
        called.conf.keys.insert("ingressPolicy".into(), json!("isolated"));
        called.previous.as_mut().unwrap().interfaces.clear();
        assert!(called.add().unwrap_err().to_string().contains("\"interfaces\""));
        called.previous = None;
        assert_eq!(called.add().unwrap_err().code, Code::InvalidConfig);
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn status_names_who_drops_what_is_forwarded() {
    fn run(program: &str, args: &[&str]) {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    on_a_host(|host| {
        // Alone in its list: no plugin beside it looks.
        let status = |keys: serde_json::Value| {
            let mut conf = json!({ "type": "firewall" });
            conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            let list =
                NetworkList::from_value(json!({ "cniVersion": "1.1.0", "name": "one", "plugins": [conf] }))
                    .unwrap();
            host.caller.status(&list).map_err(|e| (e.code, e.to_string()))
        };
        let refused = |chain: &str, link: &str| {
            let (code, words) = status(json!({})).unwrap_err();
            assert_eq!(code, Code::NotAvailableLimited);
            assert!(
                words.contains(chain) && words.contains("policy drop") && words.contains(link),
                "{words}"
            );
            status(json!({ "sextant": { "forwardDrop": "ignore" } })).unwrap();
        };
        status(json!({})).unwrap();
        // Docker's, with what it lets through of its own.
        run(
            "nft",
            &[
                "table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority 0; policy drop; \
            jump DOCKER-USER; iifname \"docker0\" accept; oifname \"br-0123456789ab\" accept; tcp dport 80 accept; }; }",
            ],
        );
        refused("nftables chain ip filter FORWARD", "the containers' bridge");
        // Nobody is attached: whom the operator has let through is taken to be ours.
        let rule = |link: &str| {
            run("nft", &["add", "rule", "ip", "filter", "DOCKER-USER", "iifname", link, "accept"])
        };
        rule("br7");
        status(json!({})).unwrap();
        // Somebody is, and it is not.
        let list = policy(host, "one", "br0", 5, "open");
        let one = served(host, &list, "a");
        refused("nftables chain ip filter FORWARD", "comes in by br0");
        rule("br0");
        status(json!({})).unwrap();
        host.caller.del(&list, &one.attachment, &mut host.owner("a")).unwrap();
        run("nft", &["delete", "table", "ip", "filter"]);
        if rig::has("iptables-legacy") {
            run("iptables-legacy", &["-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"]);
            run("iptables-legacy", &["-P", "FORWARD", "DROP"]);
            refused("chain FORWARD of iptables-legacy", "the containers' bridge");
            run("iptables-legacy", &["-A", "FORWARD", "-o", "br7", "-j", "ACCEPT"]);
            status(json!({})).unwrap();
        }
    });
}
