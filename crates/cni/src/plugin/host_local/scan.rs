//! A directory of leases, read whole: what the index is made of.

use std::fs::{self, File, Metadata};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{collections::HashMap, io::Read};

use super::boot::{self, Boot};
use super::index::{self, Entry, Index};
use super::store::failed;
use crate::contract::Error;

/// More than any holder's names need: an id, CRLF, an interface.
const LEASE: u64 = 64 * 1024;

/// All leases, but for those that nobody can hold, which are freed: torn ones (whoever writes one has the lock, as we
/// have), and those of another boot. `known` is what was known of the directory before.
pub(super) fn scan(path: &Path, dir: &File, boot: Boot, known: Option<&Index>) -> Result<Vec<Entry>, Error> {
    // Where there is no index, nobody has looked in this boot.
    let rebooted = known.is_none_or(|index| boot.is_after(index.identity().boot)) && boot::is_local(dir);
    let boot = if rebooted { boot.with_time() } else { boot };
    let before: HashMap<IpAddr, i64> = known
        .filter(|_| rebooted)
        .and_then(|index| index.entries().ok())
        .into_iter()
        .flatten()
        .map(|entry| (entry.address, entry.modified))
        .collect();
    let mut entries = Vec::new();
    for address in leases(path)? {
        let file = path.join(address.to_string());
        let Ok((text, modified)) = read(&file) else { continue };
        // The index of another boot has seen this very file, or the clock had not yet come so far when it was written.
        let dead = rebooted && (before.get(&address) == Some(&modified) || modified < boot.began);
        if text.trim().is_empty() || dead {
            fs::remove_file(&file).map_err(failed("remove lease", &file))?;
        } else {
            entries.push(Entry { holder: index::hash(text.trim()), address, modified });
        }
    }
    Ok(entries)
}

fn read(path: &Path) -> std::io::Result<(String, i64)> {
    let file = File::open(path)?;
    let modified = modified(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(LEASE).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), modified))
}

/// When a file was written, in nanoseconds since 1970.
pub(super) fn modified(file: &Metadata) -> i64 {
    file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec())
}

/// The addresses that have a file: what is not called as an address is written is no lease.
pub(super) fn leases(path: &Path) -> Result<Vec<IpAddr>, Error> {
    let entries = fs::read_dir(path).map_err(failed("list", path))?;
    Ok(entries.flatten().filter_map(|entry| address(entry.file_name().to_str()?)).collect())
}

fn address(name: &str) -> Option<IpAddr> {
    let address: IpAddr = name.parse().ok()?;
    (address.to_string() == name).then_some(address)
}

/// A lease's container and, if it is not of a time when there was but one, its interface.
pub(super) fn holder(text: &str) -> (&str, Option<&str>) {
    match text.trim().split_once("\r\n") {
        Some((id, ifname)) => (id, Some(ifname)),
        None => (text.trim(), None),
    }
}

/// Any text as a lease's name and content: for the fuzzer.
pub(super) fn exercise(text: &str) {
    assert!(address(text).is_none_or(|address| address.to_string() == text));
    let (id, ifname) = holder(text);
    assert!(text.contains(id) && ifname.is_none_or(|name| text.contains(name)));
}
