//! Any bytes as a layer, unpacked for real: whatever its names and links say, nothing outside the layer's directory is
//! made, changed or removed. Needs root, as unpacking does.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use oci_image::contract::Algorithm;
use oci_image::layer::tar::Reader;
use oci_image::layer::{Inflate, Limits, remove_tree, unpack};

static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// A folder with a file that nobody may touch, at the path that the seeds try to reach: `../outside/canary`.
fn place() -> &'static PathBuf {
    PLACE.get_or_init(|| {
        let place = std::env::temp_dir().join(format!("layer-{}", std::process::id()));
        fs::create_dir_all(place.join("outside")).expect("a place");
        fs::write(place.join("outside/canary"), "sings").expect("a canary");
        place
    })
}

/// What is beside the layer's directory, and how it is.
fn outside() -> Vec<(PathBuf, u32, u32, u64, i64)> {
    let mut seen = Vec::new();
    for folder in [place().clone(), place().join("outside")] {
        for entry in fs::read_dir(folder).expect("it is there").flatten() {
            let (path, meta) = (entry.path(), entry.metadata().expect("it is there"));
            if !path.ends_with("root") {
                seen.push((path, meta.mode(), meta.uid(), meta.nlink(), meta.ctime_nsec()));
            }
        }
    }
    seen.sort();
    seen
}

pub fn run(bytes: &[u8]) {
    let root = place().join("root");
    let before = outside();
    fs::create_dir(&root).expect("nothing is there");
    let mut reader = Reader::new(Inflate::new(bytes, Algorithm::Sha256, 1 << 20));
    let limits = Limits { bytes: 1 << 20, entries: 200, ..Limits::default() };
    let _ = unpack(&mut reader, File::open(&root).expect("ours").into(), &limits);
    assert_eq!(outside(), before, "the layer reached out");
    let parent = File::open(place()).expect("ours");
    remove_tree(parent.as_fd(), b"root").expect("what was unpacked can be removed");
}
