//! DEL and GC with what another version wrote into the cache, or something has damaged since: all is freed that can be, and
//! what is wrong is said, once.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cni::contract::{Attachment, Code, Errors, NetworkList};
use ledger::Transient;
use rig::chosen::make_eth0;
use rig::{Host, Netns, attachment, on_a_host};
use serde_json::{Value, json};

/// A bridge with everything that leaves something on the host.
fn chain(host: &Host) -> Value {
    let ipam =
        json!({ "type": "host-local", "dataDir": host.dir.path().join("leases"), "subnet": "10.88.0.0/24" });
    json!({ "cniVersion": "1.1.0", "name": "n", "plugins": [
        { "type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "macspoofchk": true, "ipam": ipam },
        { "type": "portmap", "capabilities": { "portMappings": true } },
        { "type": "firewall", "ingressPolicy": "isolated" },
        { "type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000 },
    ]})
}

fn read(list: &Value) -> NetworkList {
    NetworkList::from_value(list.clone()).unwrap()
}

fn entry(host: &Host) -> PathBuf {
    host.caller.cache_dir.join("results/n-c-eth0")
}

/// Changes what the cache has of the attachment.
fn damage(host: &Host, change: impl FnOnce(&mut Value)) {
    let mut kept: Value = serde_json::from_slice(&std::fs::read(entry(host)).unwrap()).unwrap();
    change(&mut kept);
    std::fs::write(entry(host), kept.to_string()).unwrap();
}

/// Writes another configuration into the cache.
fn reconfigure(kept: &mut Value, change: impl FnOnce(&mut Value)) {
    let mut list =
        serde_json::from_slice(&STANDARD.decode(kept["config"].as_str().unwrap()).unwrap()).unwrap();
    change(&mut list);
    kept["config"] = json!(STANDARD.encode(list.to_string()));
}

/// Links, addresses, rules and leases.
fn look(host: &Host) -> (String, Vec<String>) {
    let leases = std::fs::read_dir(host.dir.path().join("leases/n")).into_iter().flatten().flatten();
    let names = leases.map(|lease| lease.file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("10.")).collect();
    names.sort();
    (host.snapshot(), names)
}

fn add(host: &Host, list: &NetworkList) -> (Netns, Attachment) {
    let netns = Netns::new();
    let attachment = attachment("c", &netns, &["8080:80"]);
    host.caller.add(list, &attachment, &mut Transient::new()).unwrap();
    (netns, attachment)
}

fn del(host: &Host, list: &NetworkList, attachment: &Attachment) -> Result<(), Errors> {
    host.caller.del(list, attachment, &mut Transient::new())
}

/// The network as it looks with nobody in it: what its first container made and nobody counts is there.
fn empty(host: &Host, list: &NetworkList) -> (String, Vec<String>) {
    let (_netns, attachment) = add(host, list);
    del(host, list, &attachment).unwrap();
    look(host)
}

#[test]
fn what_can_be_read_is_gone_by_and_the_rest_is_said_once() {
    let whole = |kept: &mut Value| kept["config"] = json!(STANDARD.encode("{ rubbish"));
    let no_base64 = |kept: &mut Value| kept["config"] = json!("%");
    let version = |kept: &mut Value| reconfigure(kept, |list| list["cniVersion"] = json!("9.0.0"));
    let of_no_type = |kept: &mut Value| reconfigure(kept, |list| list["plugins"][0]["type"] = json!(7));
    let args = |kept: &mut Value| reconfigure(kept, |list| list["plugins"][0]["args"] = json!("x"));
    let result = |kept: &mut Value| kept["result"]["ips"] = json!(7);
    type Damage<'a> = &'a (dyn Fn(&mut Value) + Sync);
    let damages: [(&str, Damage<'_>, bool); 6] = [
        ("key must be a string", &whole, false),
        ("cannot read a network configuration", &no_base64, false),
        ("9.0.0", &version, true),
        ("\"type\"", &of_no_type, false),
        ("\"args\"", &args, true),
        ("result", &result, true),
    ];
    on_a_host(|host| {
        let list = read(&chain(host));
        let before = empty(host, &list);
        let other = read(&json!({ "cniVersion": "1.1.0", "name": "n", "plugins": [{ "type": "loopback" }] }));
        for (words, change, is_enough) in damages {
            for list_at_hand in [Some(&list), is_enough.then_some(&other)].into_iter().flatten() {
                let (_netns, attachment) = add(host, &list);
                damage(host, change);
                let said = del(host, list_at_hand, &attachment).unwrap_err().to_string();
                assert!(said.contains(words) && said.contains("results/n-c-eth0"), "{words}: {said}");
                assert_eq!(look(host), before, "{words}");
                del(host, list_at_hand, &attachment).unwrap();
            }
        }
    });
}

#[test]
fn garbage_is_collected_by_what_can_be_read() {
    on_a_host(|host| {
        let list = read(&chain(host));
        let before = empty(host, &list);
        let (_netns, _) = add(host, &list);
        damage(host, |kept| kept["config"] = json!(""));
        let said = host.caller.gc(&list, &[], &mut Transient::new()).unwrap_err().to_string();
        assert!(said.contains("results/n-c-eth0"), "{said}");
        assert_eq!(look(host), before);
        host.caller.gc(&list, &[], &mut Transient::new()).unwrap();
    });
}

#[test]
fn check_tells_of_the_damage() {
    on_a_host(|host| {
        let list = read(&chain(host));
        let (_netns, attachment) = add(host, &list);
        host.caller.check(&list, &attachment).unwrap();
        damage(host, |kept| reconfigure(kept, |list| list["cniVersion"] = json!("9.0.0")));
        let said = host.caller.check(&list, &attachment).unwrap_err().to_string();
        assert!(said.contains("results/n-c-eth0") && said.contains("9.0.0"), "{said}");
    });
}

/// Keys that a plugin's ADD refuses: DEL wants few of them, and goes on without.
#[test]
fn a_plugin_frees_what_it_can_whatever_its_keys_say() {
    on_a_host(|host| {
        let list = read(&chain(host));
        let before = empty(host, &list);
        for (keys, words) in [
            (json!({ "hairpinMode": true, "promiscMode": true }), None),
            (json!({ "ipMasqBackend": "iptables", "mtu": "big", "vlan": 9999, "macspoofchk": 7 }), None),
            (json!({ "bridge": "a/b", "dns": 5 }), None),
            (json!({ "sextant": { "table": "a b" } }), Some("\"table\"")),
        ] {
            let (_netns, attachment) = add(host, &list);
            damage(host, |kept| {
                reconfigure(kept, |list| {
                    for plugin in list["plugins"].as_array_mut().unwrap() {
                        plugin.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
                    }
                });
            });
            let outcome = del(host, &list, &attachment);
            assert_eq!(look(host), before, "{keys}");
            match words {
                None => outcome.unwrap(),
                Some(words) => {
                    let said = outcome.unwrap_err();
                    assert!(said.0.iter().all(|e| e.code == Code::InvalidConfig), "{said}");
                    assert!(said.to_string().contains(words), "{said}");
                    std::fs::remove_file(entry(host)).unwrap();
                }
            }
        }
    });
}

/// The same of links that only the container has.
#[test]
fn links_go_though_their_addresses_cannot() {
    on_a_host(|host| {
        let _outside = host.outside();
        for plugin in
            [json!({ "type": "macvlan", "master": "uplink" }), json!({ "type": "ptp", "ipMasq": true })]
        {
            let ipam = json!({ "type": "host-local", "dataDir": host.dir.path().join("leases"), "subnet": "10.88.0.0/24" });
            let with = |ipam: Value| {
                let mut plugin = plugin.clone();
                plugin["ipam"] = ipam;
                json!({ "cniVersion": "1.1.0", "name": "n", "plugins": [plugin] })
            };
            let list = read(&with(ipam));
            let before = empty(host, &list);
            let (netns, attachment) = add(host, &list);
            damage(host, |kept| reconfigure(kept, |list| list["plugins"][0]["ipam"] = json!("x")));
            let said = del(host, &list, &attachment).unwrap_err().to_string();
            assert!(said.contains("\"ipam\""), "{said}");
            assert_eq!(look(host).0, before.0, "{plugin}");
            // The link's name is free inside.
            make_eth0(&netns);
            // The address is what could not be freed; the configuration at hand can.
            std::fs::remove_file(entry(host)).unwrap();
            let gone = Attachment { netns: None, ..attachment };
            del(host, &list, &gone).unwrap();
            assert_eq!(look(host), before, "{plugin}");
        }
    });
}
