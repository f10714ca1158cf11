//! host-local as a program: leases that are never given twice, never lost, and found at once.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use programs::{Program, ours};
use serde_json::{Value, json};

fn conf(dir: &Path, ipam: Value) -> Value {
    let mut all = json!({ "type": "host-local", "subnet": "10.5.0.0/24", "dataDir": dir });
    all.as_object_mut().unwrap().extend(ipam.as_object().unwrap().clone());
    json!({ "cniVersion": "1.1.0", "name": "n", "type": "x", "ipam": all })
}

struct Network {
    dir: tempfile::TempDir,
    conf: Value,
    ours: Program,
}

impl Network {
    fn new(ipam: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conf = conf(dir.path(), ipam);
        Self { dir, conf, ours: ours("host-local") }
    }

    fn add(&self, id: &str) -> Result<String, Value> {
        self.add_by(&self.ours, id)
    }

    fn add_by(&self, program: &Program, id: &str) -> Result<String, Value> {
        let address = |result: Value| result["ips"][0]["address"].as_str().unwrap().to_owned();
        program.call("ADD", id, "/none", &self.conf).map(address)
    }

    fn del(&self, id: &str) {
        self.ours.call("DEL", id, "", &self.conf).unwrap();
    }

    fn lease(&self, address: &str) -> std::path::PathBuf {
        self.dir.path().join("n").join(address)
    }

    /// Addresses that have a file.
    fn leases(&self) -> BTreeSet<String> {
        let files = fs::read_dir(self.dir.path().join("n")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock" && !name.starts_with("last_reserved")).collect()
    }
}

#[test]
fn fifty_at_once_have_fifty_addresses() {
    let network = Network::new(json!({}));
    let given: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50)
            .map(|i| (i, &network))
            .map(|(i, n)| scope.spawn(move || n.add(&format!("c{i}"))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 50);
    assert_eq!(network.leases().len(), 50);
    std::thread::scope(|scope| {
        (0..50).for_each(|i| {
            drop(scope.spawn({
                let n = &network;
                move || n.del(&format!("c{i}"))
            }))
        })
    });
    assert!(network.leases().is_empty());
}

#[test]
fn a_second_add_is_refused_and_del_is_for_the_interface_alone() {
    let network = Network::new(json!({}));
    network.add("a").unwrap();
    assert!(network.add("a").unwrap_err()["msg"].as_str().unwrap().contains("10.5.0.2 already"));
    let eth1 = Program { ifname: "eth1", ..network.ours.clone() };
    network.add_by(&eth1, "a").unwrap();
    network.del("a");
    network.del("a");
    assert_eq!(network.leases(), ["10.5.0.3".to_owned()].into());
    network.ours.call("CHECK", "a", "/none", &network.conf).unwrap_err();
    eth1.call("CHECK", "a", "/none", &network.conf).unwrap();
}

#[test]
fn what_others_do_to_the_directory_is_seen() {
    let network = Network::new(json!({ "rangeEnd": "10.5.0.5" }));
    for id in ["a", "b"] {
        network.add(id).unwrap();
    }
    // One more and one less: as the reference plugin would write them.
    fs::write(network.lease("10.5.0.4"), "x\r\neth0").unwrap();
    fs::remove_file(network.lease("10.5.0.2")).unwrap();
    assert_eq!(network.add("c").unwrap(), "10.5.0.5/24");
    assert_eq!(network.add("d").unwrap(), "10.5.0.2/24");
    assert_eq!(network.add("e").unwrap_err()["code"], 100);
    // Written over as somebody's who knew no interfaces, which the directory's time does not tell.
    fs::write(network.lease("10.5.0.3"), "b").unwrap();
    network.del("x");
    network.del("b");
    assert_eq!(network.leases(), ["10.5.0.2".to_owned(), "10.5.0.5".to_owned()].into());
    // An index that somebody has broken is none.
    for bytes in [&b""[..], b"sxlease1", &[0xff; 9000]] {
        fs::write(network.dir.path().join(".index/n"), bytes).unwrap();
        assert_eq!(network.add("f").unwrap().len(), "10.5.0.3/24".len());
        network.del("f");
    }
}

#[test]
fn a_full_range_is_told_by_status_and_add() {
    let network = Network::new(json!({ "rangeEnd": "10.5.0.3" }));
    let status = || network.ours.call("STATUS", "", "", &network.conf);
    status().unwrap();
    network.add("a").unwrap();
    network.add("b").unwrap();
    assert_eq!(status().unwrap_err()["code"], 50);
    let error = network.add("c").unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("10.5.0.1-10.5.0.3"), "{error}");
    network.del("a");
    status().unwrap();
}

#[test]
fn gc_frees_all_but_the_valid() {
    let network = Network::new(json!({}));
    for id in ["a", "b", "c"] {
        network.add(id).unwrap();
    }
    fs::write(network.lease("10.5.0.9"), "old").unwrap();
    fs::write(network.lease("10.5.0.10"), "b").unwrap();
    let mut conf = network.conf.clone();
    conf["cni.dev/valid-attachments"] =
        json!([{ "containerID": "b", "ifname": "eth0" }, { "containerID": "c", "ifname": "eth1" }]);
    network.ours.call("GC", "", "", &conf).unwrap();
    assert_eq!(network.leases(), ["10.5.0.3".to_owned(), "10.5.0.10".to_owned()].into());
}

#[test]
fn torn_leases_are_nobodys() {
    let network = Network::new(json!({ "rangeEnd": "10.5.0.3" }));
    network.add("a").unwrap();
    fs::write(network.lease("10.5.0.3"), "").unwrap();
    assert_eq!(network.add("b").unwrap(), "10.5.0.3/24");
}

#[test]
fn a_failed_add_gives_back_what_it_took() {
    let ranges = json!({ "ranges": [[{ "subnet": "10.6.0.0/30", "rangeEnd": "10.6.0.2" }]] });
    let network = Network::new(ranges);
    network.add("a").unwrap();
    assert_eq!(network.leases().len(), 2);
    network.add("b").unwrap_err();
    assert_eq!(network.leases().len(), 2);
}

#[test]
fn without_a_place_for_the_index_every_lease_is_read() {
    let network = Network::new(json!({ "rangeEnd": "10.5.0.4" }));
    fs::write(network.dir.path().join(".index"), "").unwrap();
    for id in ["a", "b", "c"] {
        network.add(id).unwrap();
    }
    assert_eq!(network.add("d").unwrap_err()["code"], 100);
    network.del("b");
    assert_eq!(network.add("d").unwrap(), "10.5.0.3/24");
    assert_eq!(network.leases().len(), 3);
}

/// The index says that it is of another boot.
fn reboot(network: &Network) {
    let path = network.dir.path().join(".index/n");
    let mut index = fs::read(&path).unwrap();
    index[8..24].fill(7);
    fs::write(&path, index).unwrap();
}

#[test]
fn leases_of_another_boot_are_freed_and_those_of_this_one_stay() {
    let network = Network::new(json!({}));
    network.add("a").unwrap();
    network.add("b").unwrap();
    // The reference plugin's: one of this boot, which the index has not seen, one of long ago.
    fs::write(network.lease("10.5.0.7"), "x\r\neth0").unwrap();
    fs::write(network.lease("10.5.0.8"), "y\r\neth0").unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(network.lease("10.5.0.8")).unwrap().set_modified(long_ago).unwrap();
    // "b" was written anew in this boot, by whom the index does not know.
    let now = std::time::SystemTime::now();
    fs::File::options().write(true).open(network.lease("10.5.0.3")).unwrap().set_modified(now).unwrap();
    reboot(&network);
    network.ours.call("STATUS", "", "", &network.conf).unwrap();
    assert_eq!(network.leases(), ["10.5.0.3".to_owned(), "10.5.0.7".to_owned()].into());
}

/// Kills ADD and DEL at random moments: what is left is whole, and is freed.
#[test]
fn killed_at_any_moment_nothing_is_lost_or_given_twice() {
    let network = Network::new(json!({}));
    network.add("kept").unwrap();
    for i in 0..150_u64 {
        let id = format!("c{}", i % 3);
        let verb = if i % 2 == 0 { "ADD" } else { "DEL" };
        network.ours.kill_during(verb, &id, &network.conf, std::time::Duration::from_micros(i * 37 % 2500));
    }
    for id in ["c0", "c1", "c2"] {
        network.del(id);
    }
    // A torn lease, if there is one, is found by whoever looks next.
    network.ours.call("STATUS", "", "", &network.conf).unwrap();
    assert_eq!(network.leases(), ["10.5.0.2".to_owned()].into());
    assert_eq!(fs::read_to_string(network.lease("10.5.0.2")).unwrap(), "kept\r\neth0");
}

#[test]
#[ignore = "needs the reference plugin: Debian's containernetworking-plugins, or SEXTANT_CNI_REFERENCE=DIR"]
fn shares_a_subnet_with_the_reference_plugin() {
    let reference = programs::reference("host-local");
    let mut network = Network::new(json!({ "subnet": "10.5.0.0/26" }));
    // Debian's knows no 1.1.
    network.conf["cniVersion"] = json!("1.0.0");
    let mut held: Vec<(String, String)> = Vec::new();
    let mut seed = 12345_u64;
    for i in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let program = if seed >> 40 & 1 == 0 { &network.ours } else { &reference };
        if held.len() < 40 && seed >> 41 & 3 != 0 {
            let id = format!("c{i}");
            let address = network.add_by(program, &id).unwrap();
            assert!(held.iter().all(|(_, other)| *other != address), "{address} was given twice");
            held.push((id, address));
        } else if !held.is_empty() {
            let (id, _) = held.swap_remove(seed as usize % held.len());
            // Whoever gave it, either takes it back.
            program.call("DEL", &id, "", &network.conf).unwrap();
        }
        let wanted: BTreeSet<_> =
            held.iter().map(|(_, address)| address.trim_end_matches("/26").to_owned()).collect();
        assert_eq!(network.leases(), wanted, "step {i}");
    }
    // And at once.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|i| (i, if i % 2 == 0 { &network.ours } else { &reference }, &network))
            .map(|(i, program, n)| scope.spawn(move || n.add_by(program, &format!("p{i}")).unwrap()))
            .collect();
        let given: BTreeSet<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(given.len(), 16);
    });
    assert_eq!(network.leases().len(), held.len() + 16);
}
