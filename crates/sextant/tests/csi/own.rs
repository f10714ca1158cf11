//! The whole life of a volume, with a driver of our own. Mounts are in a namespace of the test's own.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{LIMIT, Place};

/// `sextant csi-driver`.
struct Driver(Child);

impl Driver {
    fn start(place: &Place) -> Driver {
        let mut driver = Driver(place.command(&["csi-driver", "--node-id", "node-1"]).spawn().unwrap());
        let until = Instant::now() + LIMIT;
        while !place.path("run/csi.sock").exists() {
            assert!(driver.0.try_wait().unwrap().is_none() && Instant::now() < until, "it does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
        driver
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It has ended, if the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The beginning of an id, as people write it.
fn shortened(id: &str) -> &str {
    &id[..id.len() - 2]
}

#[test]
fn a_volume_is_made_used_copied_and_removed_by_hand() {
    testkit::own_namespaces();
    let place = Place::new();
    let driver = Driver::start(&place);
    let create = |name: &str, from: &[&str]| {
        place.ok(&[&["create", name, "--size", "1Mi", "-p", "backend=dir"], from].concat())
    };
    let [a, b, c] = ["a", "b", "c"].map(|name| place.at(name));
    let note = |at: &str| format!("{at}/note");

    let data = create("data", &[]);
    assert_eq!(create("data", &[]), data, "a name is one volume");
    place.ok(&["publish", shortened(&data), &a]);
    place.ok(&["publish", &data, &format!("{b}/")]);
    fs::write(note(&a), "first").unwrap();
    place.ok(&["unpublish", shortened(&data), &a]);
    assert!(!place.path("a").exists(), "what was made for it goes with it");
    assert_eq!(fs::read_to_string(note(&b)).unwrap(), "first", "the other path stays");

    let snapshot = place.ok(&["snapshot", shortened(&data), "before"]);
    fs::write(note(&b), "second").unwrap();
    let restored = create("restored", &["--from-snapshot", shortened(&snapshot)]);
    let copy = create("copy", &["--from-volume", shortened(&data)]);
    place.ok(&["publish", &restored, &c]);
    assert_eq!(fs::read_to_string(note(&c)).unwrap(), "first");
    place.refused(&["create", "x", "--from-snapshot", "nosuch"], &["no snapshot \"nosuch\""]);
    place.refused(&["rm", &data], &["cannot delete volume", &b]);

    let volumes = place.json(&["volumes"]);
    assert_eq!(volumes.as_array().unwrap().len(), 3, "{volumes}");
    let drivers = place.json(&["drivers"]);
    assert_eq!(drivers[0]["name"], "csi.sextant.dev", "{drivers}");
    let found = place.json(&["doctor"]);
    assert!(found.as_array().unwrap().iter().all(|finding| finding["good"] == true), "{found}");

    place.ok(&["unpublish", &data, &b]);
    place.ok(&["unpublish", &restored, &c]);
    let removed = place.ok(&["rm", shortened(&data), &restored, &copy, shortened(&snapshot)]);
    assert_eq!(removed.lines().collect::<Vec<_>>(), [&data, &restored, &copy, &snapshot]);
    assert_eq!((place.json(&["volumes"]), place.json(&["snapshots"])), (json!([]), json!([])));
    assert_eq!(place.records(), 0);
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains(place.0.path().to_str().unwrap()), "{mounts}");
    driver.end();
    assert!(!place.path("run/csi.sock").exists());
}
