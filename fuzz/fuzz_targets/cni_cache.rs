//! Any bytes as a cached result, ours, libcni's or the bare one of before: no panic, and what is accepted names the
//! attachment it is about.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use cni::caller::{cached, cached_attachments};
use cni::contract::Attachment;

static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// A directory of results.
fn place() -> &'static PathBuf {
    PLACE.get_or_init(|| {
        let place = std::env::temp_dir().join(format!("cni-cache-{}", std::process::id()));
        fs::create_dir_all(place.join("results")).expect("a place");
        place
    })
}

pub fn run(bytes: &[u8]) {
    fs::write(place().join("results/net-id-eth0"), bytes).expect("a file");
    let attachment = Attachment::new("id", "eth0", None).expect("an attachment");
    let one = cached(place(), "net", &attachment);
    let all = cached_attachments(place());
    assert_eq!(one.is_some(), !all.is_empty());
    for found in all {
        let Attachment { container_id, ifname, .. } = &found.attachment;
        assert!(Attachment::new(container_id, ifname, None).is_ok(), "{container_id:?} {ifname:?}");
        // What is damaged tells what it can.
        assert!(found.damage.is_some() || !found.list.plugins.is_empty());
        let _ = found.result.map(|result| result.to_value(found.list.version));
    }
}
