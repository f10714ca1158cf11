//! A process that pulls is killed at any moment: what it leaves is collected, and the next pull goes on.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::source::{Memory, gzip, noise, quick};
use crate::{
    pull::{Silent, pull},
    store::Store,
};

const FOLDER: &str = "SEXTANT_TEST_CRASH_STORE";
const NAME: &str = "localhost:5000/crash:1";

fn source() -> Memory {
    let mut source = Memory::new(&[
        gzip(&[("a/1", &noise(400_000, 1)), ("a/2", b"2")]),
        gzip(&[("b", &noise(300_000, 2))]),
        gzip(&[("c", &noise(200_000, 3))]),
    ]);
    source.delay = Duration::from_micros(300);
    source
}

/// The process to be killed: this test, run again.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = Store::open(folder).unwrap();
    pull(&store, NAME, &source(), &quick(), &Silent).unwrap();
}

#[test]
fn a_pull_killed_at_any_moment_leaves_a_whole_store() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("images");
    for round in 0..24_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pull::tests::crash::child"])
            .env(FOLDER, &root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(3 + round * 3));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root).unwrap();
        whole(&store);
        // Every other time nothing is kept, so that the next begins anew.
        if round % 2 == 0 {
            store.collect(&|_| false, Duration::ZERO).unwrap();
            assert_eq!(fs::read_dir(root.join("ingest/blobs")).unwrap().count(), 0);
        }
        if round % 4 == 3 {
            pull(&store, NAME, &source(), &quick(), &Silent).unwrap();
            whole(&store);
            assert!(store.untag(NAME).unwrap());
            store.collect(&|_| false, Duration::ZERO).unwrap();
            for empty in ["blobs/sha256", "layers/sha256"] {
                assert_eq!(fs::read_dir(root.join(empty)).unwrap().count(), 0, "{empty}");
            }
        }
    }
}

/// No work is left behind, and every image listed is complete to the byte.
fn whole(store: &Store) {
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 2);
    for image in store.images().unwrap() {
        let details = store.details(&image).unwrap();
        for layer in &details.manifest.layers {
            store.read_blob(&layer.digest, 1 << 30).unwrap();
        }
        let paths = store.layer_paths(&details.config).unwrap();
        assert_eq!(fs::read(paths[0].join("a/1")).unwrap(), noise(400_000, 1));
        assert_eq!(fs::read(paths[2].join("c")).unwrap(), noise(200_000, 3));
    }
}
