//! What a cgroup reads from and writes to block devices, and what a filesystem is on.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::stats::Reader;

/// Operations on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Operations {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

/// By device (`major:minor`).
pub(super) fn operations(reader: &Reader, cgroup: &Path) -> BTreeMap<String, Operations> {
    if reader.is_unified() {
        return of_v2(&reader.text("io", cgroup, "io.stat").unwrap_or_default());
    }
    let mut all: BTreeMap<String, Operations> = BTreeMap::new();
    for (file, bytes) in
        [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
    {
        let text = reader.text("blkio", cgroup, file).unwrap_or_default();
        for (device, operation, number) in text.lines().filter_map(of_v1) {
            let of = all.entry(device.to_owned()).or_default();
            match (operation, bytes) {
                ("Read", true) => of.read_bytes = number,
                ("Write", true) => of.written_bytes = number,
                ("Read", false) => of.reads = number,
                ("Write", false) => of.writes = number,
                _ => {}
            }
        }
    }
    all
}

/// `8:0 Read 4096`; the total has no device.
fn of_v1(line: &str) -> Option<(&str, &str, u64)> {
    let mut words = line.split(' ');
    let (device, operation, number) = (words.next()?, words.next()?, words.next()?);
    Some((device, operation, number.parse().ok()?))
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`
fn of_v2(text: &str) -> BTreeMap<String, Operations> {
    let one = |line: &str| {
        let (device, words) = line.split_once(' ')?;
        let word = |key: &str| {
            let value = words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        let operations = Operations {
            reads: word("rios"),
            writes: word("wios"),
            read_bytes: word("rbytes"),
            written_bytes: word("wbytes"),
        };
        Some((device.to_owned(), operations))
    };
    text.lines().filter_map(one).collect()
}

/// The name of a block device (`/dev/sda1`) from its numbers; the numbers where it has none.
pub(super) fn name(numbers: &str) -> String {
    let link = std::fs::read_link(format!("/sys/dev/block/{numbers}")).ok();
    let name = link.as_deref().and_then(Path::file_name).map(|name| format!("/dev/{}", name.display()));
    name.unwrap_or_else(|| numbers.to_owned())
}

/// The filesystem that a directory is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filesystem {
    pub(super) device: String,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    pub(super) free_inodes: u64,
}

/// The filesystem that `dir` is on.
pub(super) fn filesystem(dir: &Path) -> Option<Filesystem> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(dir).ok()?.dev();
    let numbers = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(Filesystem {
        device: name(&numbers),
        bytes: stat.f_blocks * stat.f_frsize,
        inodes: stat.f_files,
        free_inodes: stat.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_lines() {
        assert_eq!(of_v1("8:0 Read 4096"), Some(("8:0", "Read", 4096)));
        assert_eq!(of_v1("Total 0"), None);
        let all = of_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:1 \n");
        let first = Operations { read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 };
        assert_eq!(all.get("8:0"), Some(&first));
        assert_eq!(all.get("7:1"), Some(&Operations::default()));
    }
}
