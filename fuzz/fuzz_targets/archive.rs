//! Any bytes as an image archive (`docker save`, or an OCI layout as a tar): no panic, and the documents it names are
//! inside it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use oci_image::archive::contents;

pub fn run(bytes: &[u8]) {
    let file: OwnedFd = rustix::fs::memfd_create("archive", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let mut file = File::from(file);
    file.write_all(bytes).expect("memory takes it");
    if let Ok(images) = contents(file) {
        assert!(images.iter().all(|(_, top)| top.media_type.is_manifest() || top.media_type.is_index()));
    }
}
