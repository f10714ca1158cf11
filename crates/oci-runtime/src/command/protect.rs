//! Keeps what is inside a container from this program's file.
//!
//! A container may make the process that is on its way into it execute `/proc/self/exe`, and then open that file for
//! writing (CVE-2019-5736). So the commands that clone run from a read-only, detached copy of the mount their file is on:
//! no bytes are copied, and nobody can write through it.

use std::os::fd::AsFd;

use kernel::process::{CStrings, exec_fd};
use rustix::fs::StatVfsMountFlags;

use super::failure::Failure;
use super::is_root;

/// Executes this program again from such a copy, unless it runs from one.
pub(super) fn once() -> Result<(), Failure> {
    let read_only = rustix::fs::statvfs("/proc/self/exe")
        .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    if read_only {
        return Ok(());
    }
    let program = match kernel::mount::own_program() {
        Ok(program) => program,
        // Who may not mount has no rights over the file that the container's user would not have.
        Err(_) if !is_root() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let args = CStrings::new(std::env::args_os().map(|arg| arg.into_encoded_bytes()))?;
    let env = CStrings::new(std::env::vars_os().map(|(name, value)| {
        let mut both = name.into_encoded_bytes();
        both.push(b'=');
        both.extend(value.into_encoded_bytes());
        both
    }))?;
    let errno = exec_fd(program.as_fd(), &args, &env);
    Err(Failure::new(format!("cannot execute a read-only copy of this program: {errno}")))
}
