//! The end of what a pod has on the node.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Unmounts what is below the pod's folder, and removes it. What is not there counts as done.
///
/// # Errors
/// Something is mounted still, or cannot be removed: nothing that belongs to others is touched.
pub(crate) fn remove(agent: &Path, uid: &str) -> Result<(), String> {
    let folder = super::folder(agent, uid);
    if uid.is_empty() || !folder.exists() {
        return Ok(());
    }
    let failed = |why: &dyn std::fmt::Display| format!("cannot remove {}: {why}", folder.display());
    // Nothing is unmounted behind a driver's back.
    if let Some((_, one)) = super::csi::record::of_pod(agent, uid).first() {
        return Err(failed(&format!(
            "volume {:?} of driver {} is published there",
            one.id.handle, one.id.driver
        )));
    }
    detach_below(&folder)?;
    if let Some(point) = mounts(&folder).map_err(|e| failed(&e))?.first() {
        return Err(failed(&format!("something is mounted at {}", point.display())));
    }
    fs::remove_dir_all(&folder).map_err(|e| failed(&e))
}

/// Unmounts what is on a folder and below it.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn detach_below(folder: &Path) -> Result<(), String> {
    let failed =
        |why: &dyn std::fmt::Display| format!("cannot unmount what is at {}: {why}", folder.display());
    for _ in 0..2 {
        for point in mounts(folder).map_err(|e| failed(&e))?.into_iter().rev() {
            kernel::mount::detach(&point).map_err(|e| failed(&e))?;
        }
    }
    Ok(())
}

/// Pods that have a folder.
pub(crate) fn uids(agent: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(agent.join("pods")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What is mounted on a folder and below it, in the order in which it was.
pub(super) fn mounts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/thread-self/mountinfo")?;
    let points =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let points = points.map(|point| PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(point))));
    Ok(points.filter(|point| point.starts_with(folder)).collect())
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let digits =
            more.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match digits {
            Some(digits) => {
                out.push(
                    digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &more[3..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_mount_points_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescape(b"/a\\040b\\134c\\x"), b"/a b\\c\\x");
    }
}
