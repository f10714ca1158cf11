//! The root of a container of the Task API: a mount that is attached nowhere on the host.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use kernel::mount::{Attributes, Overlay, set_attributes};
use kernel::process::cstring;

use super::super::connection::Refusal;
use crate::protocol::Code;
use crate::protocol::task::Mount;

/// Options that are attributes of a mount and none of its filesystem: the bits to set. Their opposites set none.
const ATTRIBUTES: [(&str, u64); 18] = [
    ("ro", Attributes::RDONLY),
    ("nosuid", Attributes::NOSUID),
    ("nodev", Attributes::NODEV),
    ("noexec", Attributes::NOEXEC),
    ("noatime", Attributes::NOATIME),
    ("nodiratime", Attributes::NODIRATIME),
    ("strictatime", Attributes::STRICTATIME),
    ("rw", 0),
    ("suid", 0),
    ("dev", 0),
    ("exec", 0),
    ("relatime", 0),
    ("diratime", 0),
    ("bind", 0),
    ("rbind", 0),
    ("private", 0),
    ("rprivate", 0),
    ("defaults", 0),
];

/// `rootfs` is where the bundle has it if there is no mount.
pub(in super::super) fn root(mounts: &[Mount], rootfs: &Path) -> Result<OwnedFd, Refusal> {
    let mount = match mounts {
        [] => return clone(&rootfs.display().to_string(), true),
        [mount] => mount,
        several => {
            let message = format!("rootfs has {} mounts (one is mounted, or none)", several.len());
            return Err(Refusal::new(Code::Unimplemented, message));
        }
    };
    if !matches!(mount.target.as_str(), "" | "/") {
        let message = format!("rootfs.target {:?} is not the root (leave it out)", mount.target);
        return Err(Refusal::new(Code::Unimplemented, message));
    }
    let attributes = attributes(mount);
    let bind = mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
    let tree = if bind {
        clone(&mount.source, mount.options.iter().any(|o| o == "rbind"))?
    } else if mount.kind == "overlay" {
        overlay(mount)?
    } else {
        filesystem(mount)?
    };
    if attributes != 0 {
        let set = Attributes { set: attributes, ..Attributes::default() };
        set_attributes(&tree, set, false, None).map_err(|e| failed(mount, &e))?;
    }
    Ok(tree)
}

fn attributes(mount: &Mount) -> u64 {
    let bits =
        |option: &String| ATTRIBUTES.iter().find(|(name, _)| name == option).map_or(0, |(_, bits)| *bits);
    mount.options.iter().map(bits).fold(0, |all, one| all | one)
}

fn failed(mount: &Mount, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::internal(format!("cannot mount {} ({}) as the root: {error}", mount.source, mount.kind))
}

fn clone(path: &str, recursive: bool) -> Result<OwnedFd, Refusal> {
    let name = cstring(path.as_bytes()).map_err(Refusal::internal)?;
    kernel::mount::clone_tree(rustix::fs::CWD, &name, recursive)
        .map_err(|e| Refusal::internal(format!("cannot open the root {path}: {e}")))
}

/// The options that the filesystem itself has.
fn own_options(mount: &Mount) -> impl Iterator<Item = (&str, Option<&str>)> {
    let own = |option: &&String| ATTRIBUTES.iter().all(|(name, _)| name != *option);
    mount.options.iter().filter(own).map(|option| match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option.as_str(), None),
    })
}

fn overlay(mount: &Mount) -> Result<OwnedFd, Refusal> {
    let (mut lower, mut upper, mut work, mut volatile) = (Vec::new(), None, None, false);
    let mut options: Vec<(CString, Option<CString>)> = Vec::new();
    for (key, value) in own_options(mount) {
        match (key, value) {
            ("lowerdir", Some(list)) => lower = split(list),
            ("upperdir", Some(path)) => upper = Some(PathBuf::from(path)),
            ("workdir", Some(path)) => work = Some(PathBuf::from(path)),
            ("volatile", None) => volatile = true,
            ("uidmap" | "gidmap", _) => {
                let message = format!("rootfs.options {key}: layers are not mapped by it (leave it out)");
                return Err(Refusal::new(Code::Unimplemented, message));
            }
            (key, value) => {
                let text = |text: &str| cstring(text.as_bytes()).map_err(Refusal::internal);
                options.push((text(key)?, value.map(text).transpose()?));
            }
        }
    }
    let overlay = Overlay {
        lower: lower.iter().map(PathBuf::as_path).collect(),
        upper: upper.as_deref().zip(work.as_deref()),
        volatile,
    };
    let options: Vec<_> = options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref())).collect();
    kernel::mount::overlay_with(&overlay, &options).map_err(|e| failed(mount, &e))
}

/// A list of layers: a backslash takes the next character as it is.
fn split(list: &str) -> Vec<PathBuf> {
    let (mut all, mut one, mut escaped) = (Vec::new(), String::new(), false);
    for c in list.chars() {
        match c {
            _ if escaped => {
                one.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            ':' => all.push(PathBuf::from(std::mem::take(&mut one))),
            c => one.push(c),
        }
    }
    all.push(PathBuf::from(one));
    all.retain(|path| !path.as_os_str().is_empty());
    all
}

fn filesystem(mount: &Mount) -> Result<OwnedFd, Refusal> {
    let text = |text: &str| cstring(text.as_bytes()).map_err(Refusal::internal);
    let options: Vec<(CString, Option<CString>)> = own_options(mount)
        .map(|(key, value)| Ok((text(key)?, value.map(text).transpose()?)))
        .collect::<Result<_, Refusal>>()?;
    let (kind, source) = (text(&mount.kind)?, text(&mount.source)?);
    let options = options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
    kernel::mount::filesystem(&kind, Some(&source), options, 0).map_err(|e| failed(mount, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let options = ["ro", "index=off", "userxattr", "lowerdir=/a:/b\\:c", "nosuid"].map(str::to_owned);
        let mount = Mount { kind: "overlay".into(), options: options.to_vec(), ..Mount::default() };
        let own: Vec<_> = own_options(&mount).collect();
        assert_eq!(own, [("index", Some("off")), ("userxattr", None), ("lowerdir", Some("/a:/b\\:c"))]);
        assert_eq!(attributes(&mount), Attributes::RDONLY | Attributes::NOSUID);
        assert_eq!(split("/a:/b\\:c:"), [PathBuf::from("/a"), PathBuf::from("/b:c")]);
    }

    #[test]
    fn what_is_not_one_root_is_named() {
        let error = root(&[Mount::default(), Mount::default()], Path::new("/")).unwrap_err();
        assert!(error.message.contains("rootfs has 2 mounts"), "{}", error.message);
        let below = Mount { target: "/below".into(), ..Mount::default() };
        assert!(root(&[below], Path::new("/")).unwrap_err().message.contains("rootfs.target"));
    }
}
