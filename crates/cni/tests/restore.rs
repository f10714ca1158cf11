//! Another program flushes the ruleset: what was published and masqueraded is back before anybody notices.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::os::fd::AsFd;
use std::process::Command;

use cni::caller::Keeper;
use cni::contract::NetworkList;
use rig::{Netns, ask, attachment, on_a_host, serve};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ruleset() -> String {
    run("nft", &["list", "ruleset"])
}

/// Waits for what a process that lives long would be woken by.
fn woken(keeper: &Keeper) -> bool {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(keeper.as_fd(), PollFlags::IN)], Some(&second)).unwrap() == 1
}

/// Until nothing more is told: restoring deletes the rest of what was there, and that is told too.
fn keep(keeper: &mut Keeper) -> usize {
    let mut restored = 0;
    while keeper.keep().unwrap() {
        restored += 1;
        assert!(restored < 5, "restoring goes on for ever");
    }
    restored
}

fn ptp(dir: &std::path::Path) -> NetworkList {
    let ipam = json!({ "type": "host-local", "dataDir": dir, "ranges": [
        [{ "subnet": "10.7.0.0/24" }], [{ "subnet": "fd07::/64" }]], "routes": [{ "dst": "0.0.0.0/0" }] });
    NetworkList::from_value(json!({ "cniVersion": "1.1.0", "name": "p", "plugins": [
        { "type": "ptp", "ipMasq": true, "sextant": { "table": "sextant-test" }, "ipam": ipam }] }))
    .unwrap()
}

fn guarded(dir: &std::path::Path) -> NetworkList {
    let ipam = json!({ "type": "host-local", "dataDir": dir, "subnet": "10.8.0.0/24" });
    NetworkList::from_value(json!({ "cniVersion": "1.1.0", "name": "g", "plugins": [
        { "type": "bridge", "bridge": "br8", "macspoofchk": true, "sextant": { "table": "sextant-test" }, "ipam": ipam }] }))
    .unwrap()
}

#[test]
fn a_flushed_ruleset_is_restored() {
    on_a_host(|host| {
        let outside = host.outside();
        let (a, a_attachment, _) = host.attach("a", &["8080:80"]);
        serve(&a, "0.0.0.0:80", "a");
        serve(&outside, "0.0.0.0:80", "outside");
        let (p, g) = (Netns::new(), Netns::new());
        for (id, netns, list) in [("p", &p, ptp(host.dir.path())), ("g", &g, guarded(host.dir.path()))] {
            host.caller.add(&list, &attachment(id, netns, &[]), &mut host.owner(id)).unwrap();
        }
        let before = ruleset();
        let mut keeper = Keeper::new(host.caller.clone()).unwrap();
        assert!(!keeper.keep().unwrap());
        run("nft", &["add", "table", "ip", "other"]);
        run("nft", &["delete", "table", "ip", "other"]);
        assert!(woken(&keeper) && !keeper.keep().unwrap(), "another's table is no matter of ours");

        for flush in [
            &["flush", "ruleset"][..],
            &["flush", "table", "inet", "sextant-test"],
            &["delete", "table", "bridge", "sextant-test"],
        ] {
            run("nft", flush);
            assert_ne!(ruleset(), before);
            assert!(woken(&keeper), "{flush:?}");
            assert!(keep(&mut keeper) > 0, "{flush:?}");
            assert_eq!(sorted(&ruleset()), sorted(&before), "{flush:?}");
            assert_eq!(outside.run(|| ask("192.0.2.1:8080")), Ok("a 192.0.2.2".into()));
            for netns in [&a, &p] {
                assert_eq!(netns.run(|| ask("192.0.2.2:80")), Ok("outside 192.0.2.1".into()), "{flush:?}");
            }
        }
        // What was restored is taken back as what was made.
        host.detach(&a_attachment);
        for (id, netns, list) in [("p", &p, ptp(host.dir.path())), ("g", &g, guarded(host.dir.path()))] {
            let mut owner = host.owner(id);
            host.caller.del(&list, &attachment(id, netns, &[]), &mut owner).unwrap();
            rig::undone(owner);
        }
        assert_eq!(ruleset(), "");
    });
}

/// Elements of a hash come in any order.
fn sorted(ruleset: &str) -> Vec<String> {
    let mut lines: Vec<_> = ruleset
        .replace(", ", "\n")
        .lines()
        .map(|line| line.trim().trim_end_matches(',').replace("elements = { ", "").replace(" }", ""))
        .collect();
    lines.sort();
    lines
}

/// iptables-save of the nft flavour reads every table of the families that it knows.
#[test]
fn iptables_save_is_not_disturbed() {
    if !rig::has("iptables-nft") {
        return;
    }
    on_a_host(|host| {
        let (_a, _, _) = host.attach("a", &["8080:80", "127.0.0.1:8081:80/udp"]);
        let (p, g) = (Netns::new(), Netns::new());
        for (id, netns, list) in [("p", &p, ptp(host.dir.path())), ("g", &g, guarded(host.dir.path()))] {
            host.caller.add(&list, &attachment(id, netns, &[]), &mut host.owner(id)).unwrap();
        }
        let ours = ruleset();
        for program in ["iptables-nft", "ip6tables-nft", "ebtables-nft"] {
            run(program, &["-A", "FORWARD", "-j", "ACCEPT"]);
        }
        for program in ["iptables-nft-save", "ip6tables-nft-save", "ebtables-nft-save"] {
            let saved = run(program, &[]);
            assert!(saved.contains("-A FORWARD -j ACCEPT"), "{program}: {saved}");
            assert!(!saved.contains("incompatible") && !saved.contains("sextant"), "{program}: {saved}");
        }
        let saved = run("iptables-legacy-save", &[]);
        assert!(!saved.contains("sextant"), "{saved}");
        let restore =
            "iptables-nft-save | iptables-nft-restore && ip6tables-nft-save | ip6tables-nft-restore";
        run("sh", &["-c", restore]);
        assert!(ruleset().contains(&ours), "ours is as it was");
    });
}

#[test]
fn without_attachments_there_is_nothing_to_restore() {
    on_a_host(|host| {
        host.caller.restore().unwrap();
        assert_eq!(ruleset(), "");
    });
}
