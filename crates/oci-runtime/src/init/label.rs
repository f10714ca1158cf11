//! The attributes by which security modules take the process under their rules at its next exec.

use std::ffi::CStr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::report::{At, Failure, Step};
use crate::plan::Labels;

/// Written while the host's procfs can be reached: no container can have put another there (CVE-2019-19921). It holds
/// from the next exec on.
pub(super) fn apply(labels: &Labels) -> Result<(), Failure> {
    if let Some(profile) = &labels.apparmor {
        let files = [c"/proc/thread-self/attr/apparmor/exec", c"/proc/thread-self/attr/exec"];
        write(&files, profile).at(Step::AppArmor, 0)?;
    }
    if let Some(label) = &labels.selinux {
        write(&[c"/proc/thread-self/attr/exec"], label).at(Step::SelinuxLabel, 0)?;
    }
    Ok(())
}

/// To the first of the files that this kernel has.
fn write(files: &[&CStr], text: &[u8]) -> rustix::io::Result<()> {
    for file in files {
        match rustix::fs::open(*file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
            Ok(file) => return rustix::io::write(&file, text).map(drop),
        }
    }
    Err(Errno::NOENT)
}
