use cni::contract::Code;
use kernel::netlink::sysctl;
use serde_json::{Value, json};

use crate::Called;
use crate::rig::{self, Netns, on_a_host};

#[test]
fn every_attribute_is_set_checked_and_restored() {
    on_a_host(|host| {
        let dir = host.dir.path().join("kept");
        let conf = json!({ "type": "tuning", "mac": "02:00:00:00:00:07", "promisc": true, "mtu": 1400,
            "txQLen": 77, "allmulti": true, "dataDir": dir });
        let called = Called::new(host, "c", conf);
        let before = called.eth0();
        let result = called.add().unwrap();
        let inside = result.interfaces.iter().find(|link| link.name == "eth0").unwrap();
        assert_eq!((inside.mac.as_str(), inside.mtu), ("02:00:00:00:00:07", Some(1400)));
        let now = called.eth0();
        assert_eq!((now.mac.unwrap().to_string(), now.mtu), (inside.mac.clone(), 1400));
        assert!(now.is_promisc() && now.is_allmulti() && now.tx_queue_len == 77, "{now:?}");
        called.check().unwrap();

        // The reference plugin's file.
        let file = dir.join("c_eth0.json");
        let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let expected = json!({ "mac": before.mac.unwrap().to_string(), "promisc": false, "mtu": 1500,
            "allmulti": false, "txQLen": before.tx_queue_len, "holder": "n/c/eth0" });
        assert_eq!(kept, expected);
        // A second such plugin in the chain, or a second ADD, must not take what was tuned for what was there.
        called.add().unwrap();
        called.del();
        assert_eq!(called.eth0(), before);
        assert!(!file.exists());
        assert!(called.check().unwrap_err().to_string().contains("mac of link eth0"));
        called.del();
    });
}

#[test]
fn only_what_is_named_is_touched_and_args_win() {
    on_a_host(|host| {
        let conf = json!({ "type": "tuning", "dataDir": host.dir.path().join("kept"), "mtu": 1300,
            "mac": "02:00:00:00:00:01", "runtimeConfig": { "mac": "02:00:00:00:00:03" },
            "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "0", "net.ipv4.tcp_keepalive_time": "111" },
            "args": { "cni": { "mtu": 1200, "allmulti": false, "txQLen": 0, "promisc": false,
                "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } } } });
        let mut called = Called::new(host, "c", conf);
        called.attachment.args.push(("MAC".into(), "02:00:00:00:00:02".into()));
        called.add().unwrap();
        let now = called.eth0();
        assert_eq!((now.mtu, now.tx_queue_len, now.is_promisc(), now.is_allmulti()), (1200, 0, false, false));
        assert_eq!(now.mac.unwrap().to_string(), "02:00:00:00:00:03");
        let read = |key: &str| called.netns.run(|| sysctl::read(key).unwrap());
        assert_eq!(read("net/ipv4/conf/eth0/arp_filter"), "1");
        assert_eq!(read("net/ipv4/tcp_keepalive_time"), "111");
        called.check().unwrap();
        called.netns.run(|| sysctl::write("net/ipv4/tcp_keepalive_time", "112").unwrap());
        let error = called.check().unwrap_err().to_string();
        assert!(error.contains("net.ipv4.tcp_keepalive_time is \"112\", not \"111\""), "{error}");
        // Only the container's own.
        assert_ne!(sysctl::read("net/ipv4/tcp_keepalive_time").unwrap(), "111");

        called.conf.keys["args"]["cni"]["mac"] = json!("02:00:00:00:00:04");
        called.add().unwrap();
        assert_eq!(called.eth0().mac.unwrap().to_string(), "02:00:00:00:00:04");
    });
}

/// The kernel writes lists with tabs, people with spaces.
#[test]
fn lists_of_numbers_are_compared_as_such() {
    on_a_host(|host| {
        let conf = json!({ "type": "tuning", "sysctl": { "net.ipv4.tcp_rmem": "4096 87380 6291456" } });
        let called = Called::new(host, "c", conf);
        called.add().unwrap();
        called.check().unwrap();
    });
}

#[test]
fn del_and_gc_forget_what_is_gone() {
    on_a_host(|host| {
        let dir = host.dir.path().join("kept");
        let conf = json!({ "type": "tuning", "mtu": 1400, "dataDir": dir });
        let mut first = Called::new(host, "a", conf.clone());
        let second = Called::new(host, "b", conf.clone());
        let third = Called::new(host, "c", conf);
        for called in [&first, &second, &third] {
            called.add().unwrap();
        }
        std::fs::write(dir.join("d_eth0.json"), r#"{"mtu":1500}"#).unwrap();
        let files = || {
            let entries = std::fs::read_dir(&dir).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        // Another's file stays, as long as nobody says whose it is.
        second.gc(&["a", "c"]);
        assert_eq!(files(), ["a_eth0.json", "c_eth0.json", "d_eth0.json"]);
        first.conf.keys.insert("mtu".into(), json!("broken"));
        first.del_with_nothing_known();
        assert_eq!(files(), ["c_eth0.json", "d_eth0.json"]);
        std::fs::write(dir.join("c_eth0.json"), "{").unwrap();
        third.del();
        assert_eq!(files(), ["d_eth0.json"]);
        assert_eq!(third.eth0().mtu, 1400);
    });
}

#[test]
fn each_refusal_names_the_key_and_changes_nothing() {
    on_a_host(|host| {
        let called = Called::new(host, "c", json!({ "type": "tuning" }));
        let before = called.eth0();
        for (conf, words) in [
            (json!({ "sysctl": { "kernel.pid_max": "7" } }), "\"kernel.pid_max\""),
            (json!({ "sysctl": { "net/../kernel/pid_max": "7" } }), "\"net/../kernel/pid_max\""),
            (json!({ "sysctl": { "net.ipv4.ip_forward": 1 } }), "\"net.ipv4.ip_forward\""),
            (json!({ "sysctl": { "net.ipv4.no_such": "1" } }), "\"net.ipv4.no_such\""),
            (json!({ "sysctl": ["net.ipv4.ip_forward"] }), "\"sysctl\""),
            (json!({ "mac": "x" }), "\"mac\""),
            (json!({ "args": { "cni": { "mac": "x" } } }), "\"mac\""),
            (json!({ "runtimeConfig": { "mac": "x" } }), "\"mac\""),
            (json!({ "mtu": -1 }), "\"mtu\""),
            (json!({ "mtu": 7, "promisc": true, "txQLen": 9 }), "\"mtu\""),
            (json!({ "promisc": 1 }), "\"promisc\""),
            (json!({ "allmulti": "yes" }), "\"allmulti\""),
            (json!({ "txQLen": "long" }), "\"txQLen\""),
            (json!({ "mtu": 1400, "dataDir": "relative" }), "\"dataDir\""),
            (json!({ "mtu": 1400, "dataDir": "/proc/nowhere" }), "/proc/nowhere"),
        ] {
            let mut keys = json!({ "type": "tuning", "dataDir": host.dir.path().join("kept") });
            keys.as_object_mut().unwrap().extend(conf.as_object().unwrap().clone());
            let refused = Called {
                plugin: called.plugin.clone(),
                caller: called.caller,
                attachment: called.attachment.clone(),
                conf: cni::contract::PluginConf::from_value(&keys).unwrap(),
                previous: called.previous.clone(),
                netns: Netns::new(),
            };
            let error = refused.add().unwrap_err().to_string();
            assert!(error.contains(words), "{conf}: {error}");
            assert_eq!(called.eth0(), before, "{conf}");
        }
        let mut alone = called;
        alone.previous = None;
        assert_eq!(alone.add().unwrap_err().code, Code::InvalidConfig);
        rig::undone(host.owner("c"));
    });
}

#[test]
fn a_duplicated_sysctl_is_refused_when_the_network_is_read() {
    let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"tuning","sysctl":{"net.a":"1","net.a":"2"}}]}"#;
    let error = cni::contract::NetworkList::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("\"net.a\" of \"sysctl\" is duplicated"), "{error}");
}
