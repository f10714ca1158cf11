//! Whatever is wrong with a call, every plugin says it with the specification's code and the name of what is wrong.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use cni::plugin::program;
use serde_json::{Value, json};

use crate::chain::link_plugins;
use crate::rig::{Netns, on_a_host};

const IO: u64 = 5;
const DECODE: u64 = 6;
const INVALID: u64 = 7;
const ENVIRONMENT: u64 = 4;
const VERSION: u64 = 1;
const UNSUPPORTED: u64 = 2;

/// One plugin that is called in many wrong ways.
struct Wrong<'a> {
    bin: &'a Path,
    kind: &'a str,
    netns: &'a Path,
}

impl Wrong<'_> {
    /// Code and words of the error object; what is no refusal at all, in words.
    fn refused(&self, verb: &str, change: &[(&str, &str)], input: &[u8]) -> Result<(u64, String), String> {
        let mut command = Command::new(self.bin.join(self.kind));
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", "c")
            .env("CNI_NETNS", self.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.bin)
            .envs(change.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // What is refused for its environment is not read.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.code() != Some(1) {
            return Err(format!("{} {text}", output.status));
        }
        let error: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("{e}: {text}"))?;
        match (error["cniVersion"].as_str(), error["code"].as_u64(), error["msg"].as_str()) {
            (Some(_), Some(code), Some(words)) => Ok((code, format!("{words} {}", error["details"]))),
            _ => Err(text),
        }
    }

    /// What is not as it should be about a refusal.
    fn mistake(
        &self,
        verb: &str,
        change: &[(&str, &str)],
        input: &[u8],
        code: u64,
        word: &str,
    ) -> Option<String> {
        let wrong = match self.refused(verb, change, input) {
            Ok((found, text)) if found == code && text.contains(word) => return None,
            Ok((found, text)) => format!("code {found}: {text}"),
            Err(text) => text,
        };
        let input = String::from_utf8_lossy(input);
        Some(format!(
            "{} {verb} {change:?} {input}: expected code {code} and {word:?}, got {wrong}",
            self.kind
        ))
    }

    fn expect(&self, verb: &str, change: &[(&str, &str)], input: &str, code: u64, word: &str) {
        assert_eq!(self.mistake(verb, change, input.as_bytes(), code, word), None);
    }

    /// The plugin's own configuration, with a change.
    fn with(&self, patch: &Value) -> String {
        let mut conf = sound(self.kind);
        for (key, value) in patch.as_object().unwrap() {
            conf[key] = value.clone();
        }
        conf.to_string()
    }
}

fn result() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "veth0" }, { "name": "eth0", "sandbox": "/x" }],
        "ips": [{ "address": "10.5.0.2/24", "gateway": "10.5.0.1", "interface": 1 }],
    })
}

/// A configuration with nothing wrong in it, for which a plugin would go to work.
fn sound(kind: &str) -> Value {
    let addresses = json!([{ "address": "10.5.0.2/24" }]);
    let ipam = match kind {
        "host-local" => {
            json!({ "type": "host-local", "subnet": "10.5.0.0/24", "dataDir": "/nowhere/at/all" })
        }
        _ => json!({ "type": "static", "addresses": addresses }),
    };
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": kind, "ipam": ipam });
    match kind {
        "portmap" | "firewall" | "bandwidth" | "tuning" | "sbr" | "vrf" | "sextant-mesh" => {
            conf["prevResult"] = result();
        }
        "macvlan" | "ipvlan" | "vlan" => conf["master"] = json!("lo"),
        "host-device" => conf["device"] = json!("nowhere0"),
        _ => {}
    }
    if kind == "vrf" {
        conf["vrfname"] = json!("blue");
    }
    conf
}

fn each(test: impl Fn(&Wrong<'_>) + Sync) {
    on_a_host(|host| {
        let bin = link_plugins(host.dir.path());
        let netns = Netns::new();
        let before = host.snapshot();
        for kind in program::names() {
            test(&Wrong { bin: &bin, kind, netns: &netns.path() });
        }
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn environments() {
    each(|plugin| {
        let conf = sound(plugin.kind).to_string();
        for (verb, missing) in [
            ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..]),
            ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
            ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
            ("GC", &["CNI_PATH"]),
        ] {
            let all: Vec<_> = missing.iter().map(|name| (*name, "")).collect();
            for name in missing {
                plugin.expect(verb, &[(name, "")], &conf, ENVIRONMENT, name);
                plugin.expect(verb, &all, &conf, ENVIRONMENT, name);
            }
        }
        for (name, value) in [
            ("CNI_CONTAINERID", "../c"),
            ("CNI_CONTAINERID", "c d"),
            ("CNI_IFNAME", "sixteen-letters0"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a:b"),
            ("CNI_IFNAME", "a b"),
        ] {
            for verb in ["ADD", "DEL", "CHECK"] {
                plugin.expect(verb, &[(name, value)], &conf, ENVIRONMENT, name);
            }
        }
        plugin.expect("PUT", &[], &conf, ENVIRONMENT, "PUT");
    });
}

#[test]
fn configurations_of_no_network() {
    each(|plugin| {
        for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            for input in ["", "{", "[]", "7", "null", "\"text\"", "{}{}"] {
                plugin.expect(verb, &[], input, DECODE, "standard input");
            }
            assert_eq!(plugin.mistake(verb, &[], b"\xff{}", DECODE, "standard input"), None);
            let with = |patch| plugin.with(&patch);
            plugin.expect(verb, &[], &with(json!({ "cniVersion": 7 })), DECODE, "cniVersion");
            plugin.expect(verb, &[], &with(json!({ "cniVersion": "9.9.9" })), VERSION, "9.9.9");
            plugin.expect(verb, &[], &with(json!({ "name": null })), INVALID, "\"name\"");
            plugin.expect(verb, &[], &with(json!({ "name": "a/b" })), INVALID, "\"name\"");
            plugin.expect(verb, &[], &with(json!({ "name": ".n" })), INVALID, "\"name\"");
            plugin.expect(verb, &[], &with(json!({ "name": 7 })), INVALID, "\"name\"");
            plugin.expect(verb, &[], &with(json!({ "runtimeConfig": 7 })), INVALID, "\"runtimeConfig\"");
            plugin.expect(verb, &[], &with(json!({ "args": [] })), INVALID, "\"args\"");
            plugin.expect(verb, &[], &with(json!({ "prevResult": 7 })), DECODE, "prevResult");
            plugin.expect(verb, &[], &with(json!({ "prevResult": { "ips": 7 } })), DECODE, "prevResult");
        }
        let old = plugin.with(&json!({ "cniVersion": "0.3.1", "prevResult": null }));
        for verb in ["CHECK", "STATUS", "GC"] {
            plugin.expect(verb, &[], &old, VERSION, verb);
        }
    });
}

/// Plugin, what is wrong in its configuration, and the key that the message names. The code is 7 unless it says otherwise.
fn keys() -> Vec<(&'static str, Value, u64, &'static str)> {
    let of = |kinds: &[&'static str], patch: Value, word: &'static str| {
        kinds.iter().map(|kind| (*kind, patch.clone(), INVALID, word)).collect::<Vec<_>>()
    };
    let ipam = |kind: &'static str, patch: Value, word: &'static str| {
        let mut ipam = sound(kind)["ipam"].clone();
        ipam["type"] = json!(kind);
        for (key, value) in patch.as_object().unwrap() {
            ipam[key] = value.clone();
        }
        vec![(kind, json!({ "ipam": ipam }), INVALID, word)]
    };
    let links = ["bridge", "ptp", "macvlan", "ipvlan", "vlan", "tap", "dummy", "host-device"];
    [
        of(&links, json!({ "ipam": 7 }), "\"ipam\""),
        of(&links, json!({ "ipam": { "type": 7 } }), "\"type\""),
        of(&links, json!({ "ipam": { "type": "a/b" } }), "\"type\""),
        of(&["bridge", "ptp", "macvlan", "ipvlan", "vlan", "tap"], json!({ "mtu": "big" }), "\"mtu\""),
        of(&["bridge", "ptp"], json!({ "ipMasq": "yes" }), "\"ipMasq\""),
        of(&["bridge"], json!({ "bridge": "a/b" }), "\"bridge\""),
        of(&["bridge"], json!({ "bridge": 7 }), "\"bridge\""),
        of(&["bridge"], json!({ "isGateway": 7 }), "\"isGateway\""),
        of(&["bridge"], json!({ "isDefaultGateway": "x" }), "\"isDefaultGateway\""),
        of(&["bridge"], json!({ "forceAddress": "x" }), "\"forceAddress\""),
        of(&["bridge"], json!({ "hairpinMode": "x" }), "\"hairpinMode\""),
        of(&["bridge"], json!({ "promiscMode": "x" }), "\"promiscMode\""),
        of(&["bridge"], json!({ "hairpinMode": true, "promiscMode": true }), "\"promiscMode\""),
        of(&["bridge"], json!({ "portIsolation": "x" }), "\"portIsolation\""),
        of(&["bridge"], json!({ "macspoofchk": "x" }), "\"macspoofchk\""),
        of(&["bridge"], json!({ "vlan": 4095 }), "\"vlan\""),
        of(&["bridge"], json!({ "vlanTrunk": [{ "minID": 9, "maxID": 5 }] }), "\"vlanTrunk\""),
        of(&["bridge"], json!({ "vlanTrunk": [{ "id": 5000 }] }), "\"vlanTrunk\""),
        of(&["bridge", "macvlan", "tap"], json!({ "runtimeConfig": { "mac": "zz" } }), "\"mac\""),
        of(&["macvlan", "ipvlan"], json!({ "mode": "x" }), "\"mode\""),
        of(&["macvlan", "ipvlan", "vlan"], json!({ "master": 7 }), "\"master\""),
        of(&["vlan"], json!({ "vlanId": 5000 }), "\"vlanId\""),
        of(&["vlan"], json!({ "vlanId": "x" }), "\"vlanId\""),
        of(&["tap"], json!({ "owner": "x" }), "\"owner\""),
        of(&["host-device"], json!({ "device": null }), "\"device\""),
        of(&["host-device"], json!({ "device": 7 }), "\"device\""),
        of(&["portmap"], json!({ "runtimeConfig": { "portMappings": 7 } }), "\"portMappings\""),
        of(
            &["portmap"],
            json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 70000 }] } }),
            "\"hostPort\"",
        ),
        vec![("portmap", json!({ "markMasqBit": "x" }), UNSUPPORTED, "\"markMasqBit\"")],
        vec![("portmap", json!({ "backend": "iptables" }), UNSUPPORTED, "\"backend\"")],
        vec![("firewall", json!({ "backend": "iptables" }), UNSUPPORTED, "\"backend\"")],
        vec![("firewall", json!({ "firewalldZone": "x" }), UNSUPPORTED, "\"firewalldZone\"")],
        vec![("bridge", json!({ "ipMasqBackend": "iptables" }), UNSUPPORTED, "\"ipMasqBackend\"")],
        of(&["firewall"], json!({ "ingressPolicy": "x" }), "\"ingressPolicy\""),
        of(&["firewall"], json!({ "ingressPolicy": 7 }), "\"ingressPolicy\""),
        of(&["bandwidth"], json!({ "ingressRate": 8 }), "\"ingressBurst\""),
        of(&["bandwidth"], json!({ "egressBurst": 8 }), "\"egressRate\""),
        of(&["bandwidth"], json!({ "ingressRate": "x", "ingressBurst": 8 }), "\"ingressRate\""),
        of(&["tuning"], json!({ "mac": "zz" }), "\"mac\""),
        of(&["tuning"], json!({ "mtu": "x" }), "\"mtu\""),
        of(&["tuning"], json!({ "promisc": "x" }), "\"promisc\""),
        of(&["tuning"], json!({ "sysctl": 7 }), "\"sysctl\""),
        of(&["tuning"], json!({ "sysctl": { "kernel.hostname": "x" } }), "kernel.hostname"),
        of(&["tuning"], json!({ "txQLen": "x" }), "\"txQLen\""),
        of(&["sbr"], json!({ "table": "x" }), "\"table\""),
        of(&["sbr"], json!({ "gateways": ["x"] }), "\"gateways\""),
        of(&["sbr"], json!({ "gateways": ["10.5.0.1", "10.5.0.2"] }), "\"gateways\""),
        of(&["vrf"], json!({ "vrfname": null }), "\"vrfname\""),
        of(&["vrf"], json!({ "vrfname": "a/b" }), "\"vrfname\""),
        of(&["vrf"], json!({ "table": "x" }), "\"table\""),
        of(&["sextant-mesh"], json!({ "socket": 7 }), "\"socket\""),
        of(&["sextant-mesh"], json!({ "socket": "mesh-pods.sock" }), "\"socket\""),
        of(&["sextant-mesh"], json!({ "required": "x" }), "\"required\""),
        ipam("host-local", json!({ "subnet": 7 }), "\"subnet\""),
        ipam("host-local", json!({ "subnet": "10.5.0.0/33" }), "\"subnet\""),
        ipam("host-local", json!({ "rangeStart": "10.6.0.1" }), "\"rangeStart\""),
        ipam("host-local", json!({ "rangeEnd": "x" }), "\"rangeEnd\""),
        ipam("host-local", json!({ "gateway": "x" }), "\"gateway\""),
        ipam("host-local", json!({ "ranges": 7 }), "\"ranges\""),
        ipam("host-local", json!({ "ranges": [[{ "subnet": "x" }]] }), "\"subnet\""),
        ipam("host-local", json!({ "routes": [{ "dst": "x" }] }), "\"routes\""),
        ipam("host-local", json!({ "dataDir": 7 }), "\"dataDir\""),
        vec![(
            "host-local",
            json!({ "ipam": { "type": "host-local", "subnet": "10.5.0.0/24", "resolvConf": "/nowhere" } }),
            IO,
            "\"resolvConf\"",
        )],
        ipam("static", json!({ "addresses": 7 }), "\"addresses\""),
        ipam("static", json!({ "addresses": [{ "address": "x" }] }), "'address'"),
        ipam("static", json!({ "addresses": [{ "address": "10.5.0.2/24", "gateway": "x" }] }), "\"gateway\""),
        ipam("static", json!({ "routes": [{ "dst": 7 }] }), "\"routes\""),
        ipam("static", json!({ "dns": 7 }), "\"dns\""),
        ipam("dhcp", json!({ "daemonSocketPath": 7 }), "\"daemonSocketPath\""),
    ]
    .concat()
}

#[test]
fn each_key_of_each_plugin() {
    let names: BTreeSet<_> = program::names().into_iter().collect();
    let keys = keys();
    let asked: BTreeSet<_> = keys.iter().map(|(kind, ..)| *kind).collect();
    // loopback has no key of its own.
    let unasked: Vec<_> =
        names.iter().filter(|kind| !asked.contains(*kind) && **kind != "loopback").collect();
    assert!(unasked.is_empty(), "no wrong configuration is tried with {unasked:?}");
    let mistakes = Mutex::new(Vec::new());
    each(|plugin| {
        for (_, patch, code, word) in keys.iter().filter(|(kind, ..)| *kind == plugin.kind) {
            let conf = plugin.with(patch);
            let mistake = plugin.mistake("ADD", &[], conf.as_bytes(), *code, word);
            mistakes.lock().unwrap().extend(mistake);
        }
    });
    let mistakes = mistakes.into_inner().unwrap();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}
