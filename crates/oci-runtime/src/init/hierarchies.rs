//! The view of v1's cgroups: a tmpfs with a directory for each hierarchy.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

use kernel::mount::{Attributes, clone_tree, filesystem, set_attributes};
use kernel::path::open_c;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::plan::MountPlan;

const TARGET: OFlags = OFlags::PATH;

/// A directory for each v1 hierarchy in the tmpfs just attached, as the container's own cgroup namespace sees it, or from
/// its `own` cgroup on; and a link for each controller of several.
pub(super) fn attach(
    root: BorrowedFd<'_>,
    mount: &MountPlan,
    hierarchies: &[(CString, Vec<CString>)],
    own: bool,
) -> rustix::io::Result<()> {
    let top = open_c(root, &mount.target, TARGET | OFlags::DIRECTORY)?;
    for (name, controllers) in hierarchies {
        let options = controllers.iter().map(|option| {
            // `name=systemd` has a value, the controllers have none.
            match option.as_bytes().iter().position(|&b| b == b'=') {
                Some(_) => (c"name", CStr::from_bytes_with_nul(&option.as_bytes_with_nul()[5..]).ok()),
                None => (option.as_c_str(), None),
            }
        });
        let hierarchy = if own {
            match own_cgroup(name) {
                // The host has it nowhere: so it is no matter for the container.
                Err(Errno::NOENT) => continue,
                other => other?,
            }
        } else {
            filesystem(c"cgroup", Some(c"cgroup"), options, mount.attributes.set)?
        };
        if own {
            set_attributes(&hierarchy, mount.attributes, false, None)?;
        }
        rustix::fs::mkdirat(&top, name.as_c_str(), Mode::from_raw_mode(0o755))?;
        let target = rustix::fs::openat(
            &top,
            name.as_c_str(),
            TARGET | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        if mount.read_only_last {
            let attributes = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
            set_attributes(&hierarchy, attributes, false, None)?;
        }
        kernel::mount::attach(&hierarchy, &target)?;
        if controllers.len() > 1 {
            controllers
                .iter()
                .try_for_each(|one| rustix::fs::symlinkat(name.as_c_str(), &top, one.as_c_str()))?;
        }
    }
    Ok(())
}

/// The cgroup this process is in, in the hierarchy of v1 that the host has under `name`.
fn own_cgroup(name: &CStr) -> rustix::io::Result<OwnedFd> {
    const TOP: &[u8] = b"/sys/fs/cgroup/";
    let mut table = [0_u8; 8192];
    let file = rustix::fs::open(c"/proc/self/cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut len = 0;
    loop {
        match rustix::io::read(&file, &mut table[len..])? {
            0 => break,
            n => len += n,
        }
    }
    // `4:memory:/path`, `1:name=systemd:/path`
    let path = table[..len].split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |&b| b == b':').skip(1);
        let controllers = fields.next()?;
        let same = controllers.strip_prefix(b"name=").unwrap_or(controllers) == name.to_bytes();
        fields.next().filter(|_| same)
    });
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    let mut end = 0;
    for part in [TOP, name.to_bytes(), path.ok_or(Errno::NOENT)?] {
        let room = buffer.get_mut(end..end + part.len()).ok_or(Errno::NAMETOOLONG)?;
        room.copy_from_slice(part);
        end += part.len();
    }
    let path = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno::NAMETOOLONG)?;
    clone_tree(rustix::fs::CWD, path, false)
}
