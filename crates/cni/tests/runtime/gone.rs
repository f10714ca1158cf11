//! DEL when what it could go by is gone: it frees everything all the same, and again.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use cni::caller::Caller;
use cni::contract::{Attachment, NetworkList, Registry};
use kernel::namespace::in_new_netns;
use ledger::Transient;
use serde_json::{Value, json};

use crate::chain::{Chain, Container, assert_same, confs, leases, link_plugins};
use crate::rig::{self, Host, Netns, attachment, lo_up, on_a_host};

/// A caller that has the programs alone, and keeps results.
fn caller(dir: &Path) -> Caller {
    let mut caller = Caller::new(Registry::new(), dir.join("cache"));
    caller.plugin_dirs = vec![link_plugins(dir)];
    caller
}

fn list(host: &Host, bridge: &Value) -> NetworkList {
    let mut plugins = confs(host.dir.path());
    for (key, value) in bridge.as_object().unwrap() {
        plugins[0][key] = value.clone();
    }
    plugins[1]["capabilities"] = json!({ "portMappings": true });
    let list = json!({ "cniVersion": "1.1.0", "name": "chain", "plugins": plugins });
    NetworkList::from_value(list).unwrap()
}

fn add(caller: &Caller, list: &NetworkList, attachment: &Attachment) {
    caller.add(list, attachment, &mut Transient::new()).unwrap();
}

fn del(caller: &Caller, list: &NetworkList, attachment: &Attachment) {
    caller.del(list, attachment, &mut Transient::new()).unwrap();
}

/// Attaches, has `loss` happen, detaches twice with what `loss` left, and finds nothing.
fn after(loss: impl Fn(&Host, Netns, &NetworkList) -> (NetworkList, Option<Netns>) + Sync) {
    on_a_host(|host| {
        let caller = caller(host.dir.path());
        let list = list(host, &json!({}));
        let look = || (rig::snapshot(), leases(host.dir.path()));
        let round = |loss: &dyn Fn(Netns) -> (NetworkList, Option<Netns>)| {
            let netns = Netns::new();
            let attachment = attachment("c", &netns, &["8080:80", "8080:80/udp"]);
            add(&caller, &list, &attachment);
            let attached = look();
            let (list, _kept) = loss(netns);
            del(&caller, &list, &attachment);
            let detached = look();
            assert_ne!(attached, detached);
            del(&caller, &list, &attachment);
            assert_same(&detached, &look(), "the second DEL");
            assert!(detached.1.is_empty(), "{:?}", detached.1);
            assert!(cni::caller::cached_attachments(&caller.cache_dir).is_empty());
            detached
        };
        let before = round(&|netns| (list.clone(), Some(netns)));
        assert_same(&before, &round(&|netns| loss(host, netns, &list)), "after the loss");
    });
}

/// Another network under the same name: nothing of what was made is in it.
fn changed(host: &Host) -> NetworkList {
    let ipam = json!({
        "type": "host-local", "dataDir": host.dir.path().join("leases"), "subnet": "10.99.0.0/24",
    });
    list(host, &json!({ "bridge": "br99", "ipMasq": false, "hairpinMode": false, "ipam": ipam }))
}

fn forget(host: &Host) {
    std::fs::remove_dir_all(host.dir.path().join("cache")).unwrap();
}

#[test]
fn with_the_namespace_gone() {
    after(|_, _, list| (list.clone(), None));
}

#[test]
fn with_the_configuration_changed() {
    after(|host, netns, _| (changed(host), Some(netns)));
}

#[test]
fn with_the_cache_gone() {
    after(|host, netns, list| {
        forget(host);
        (list.clone(), Some(netns))
    });
}

#[test]
fn with_cache_and_namespace_gone_and_the_configuration_changed() {
    after(|host, _, _| {
        forget(host);
        (changed(host), None)
    });
}

/// Links, rules and namespaces end with a boot. What is on disk does not: `/var/lib/cni` of the reference plugins.
#[test]
fn after_a_reboot() {
    on_a_host(|host| {
        let caller = caller(host.dir.path());
        let list = list(host, &json!({}));
        let files = || leases(host.dir.path());
        let attachments: Vec<_> = (0..4)
            .map(|i| {
                let netns = Netns::new();
                let attachment = attachment(&format!("c{i}"), &netns, &[&format!("808{i}:80")]);
                add(&caller, &list, &attachment);
                Attachment { netns: Some("/run/netns/of-another-boot".into()), ..attachment }
            })
            .collect();
        assert!(files().len() >= 8, "{:?}", files());
        in_new_netns(|| {
            lo_up();
            let before = rig::snapshot();
            for (i, attachment) in attachments.iter().enumerate() {
                if i % 2 == 1 {
                    let _ = std::fs::remove_file(
                        caller.cache_dir.join(format!("results/chain-{}-eth0", attachment.container_id)),
                    );
                }
                del(&caller, &list, attachment);
                del(&caller, &list, attachment);
            }
            assert_eq!(rig::snapshot(), before);
            Ok(())
        })
        .unwrap();
        assert!(files().is_empty(), "{:?}", files());
    });
}

/// As a program that is called directly, without any runtime that keeps results.
#[test]
fn twice_and_for_a_container_that_never_was() {
    on_a_host(|host| {
        let chain = Chain::new(host.dir.path());
        let netns = Netns::new();
        let container = Container::new("c", &netns, 8080);
        chain.del(&container, None).unwrap();
        let result = chain.add(&container).unwrap();
        chain.del(&container, Some(&result)).unwrap();
        let before = chain.look();
        chain.del(&container, Some(&result)).unwrap();
        chain.del(&container, None).unwrap();
        assert_same(&before, &chain.look(), "DEL again");
        assert!(before.1.is_empty());
    });
}

/// What is left where the program was killed between a port's element and its flows: the result tells of them.
#[test]
fn the_element_alone() {
    on_a_host(|host| {
        let caller = caller(host.dir.path());
        let list = list(host, &json!({}));
        let outside = host.outside();
        let client = outside.run(|| UdpSocket::bind("192.0.2.2:5000").unwrap());
        let ends: [fn(&Caller, &NetworkList, &Attachment); 2] =
            [del, |caller, list, _| caller.gc(list, &[], &mut Transient::new()).unwrap()];
        let losses: [fn(); 2] = [|| rig::lose_element("sextant", 5353), rig::flush_ruleset];
        for end in ends {
            for lose in losses {
                let netns = Netns::new();
                let attachment = attachment("c", &netns, &["5353:53/udp"]);
                let added = caller.add(&list, &attachment, &mut Transient::new()).unwrap();
                rig::remember_datagrams();
                rig::echo(&netns, "0.0.0.0:53", "c");
                assert_eq!(rig::ping(&client, "192.0.2.1:5353").as_deref(), Some("c?"));
                let at = SocketAddr::new(added.addresses()[0].address(), 53);
                lose();
                assert_eq!(rig::flows_from(at), 1);
                end(&caller, &list, &attachment);
                assert_eq!(rig::flows_from(at), 0);
            }
        }
    });
}
