//! Any bytes where a CSI driver reads what it has kept: the record of a volume, a snapshot or a group in its pool, what is in use on
//! the node, an image's superblock. No panic; what is read is written and read the same; the pool opens, and counts what is in it.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

static PLACE: OnceLock<PathBuf> = OnceLock::new();

pub fn run(bytes: &[u8]) {
    let place =
        PLACE.get_or_init(|| std::env::temp_dir().join(format!("csi-records-{}", std::process::id())));
    fs::create_dir_all(place).expect("a place");
    csi::plugin::fuzz::records(bytes, place);
    fs::remove_dir_all(place).expect("what a driver makes can be removed");
}
