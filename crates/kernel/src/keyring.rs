//! The session keyring: keys of whoever started a process are in reach of what it becomes, unless it joins another.

use std::ffi::CStr;

use crate::process::last_errno;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;
/// Whatever session keyring the process has.
const KEY_SPEC_SESSION_KEYRING: libc::c_int = -3;

/// Whoever holds the keyring may do anything with it; processes of its user may view, read, link and find it. The last
/// one, which a new keyring does not have, lets a process that comes later join it by its name.
const PERMISSIONS: libc::c_ulong = 0x3f1b_0000;

/// Makes the keyring called `name` this process's session keyring, a new one unless its user has one of that name that
/// may be searched. Its keys are then all that the process has of this kind. Allocates nothing.
///
/// # Errors
/// `ENOSYS` where the kernel has no keys, `EPERM` where a system call filter forbids it, `EDQUOT` where the user has as
/// many as it may (`kernel.keys.maxkeys`), `EACCES` where the one of that name may not be joined.
pub fn join_session(name: &CStr) -> rustix::io::Result<()> {
    // SAFETY: a number and a NUL-terminated name, which the kernel reads.
    let rc = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if rc < 0 {
        return Err(last_errno());
    }
    // Not by the number that came back: it is 0 for a process that had this one already.
    // SAFETY: numbers only.
    let rc =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, PERMISSIONS) };
    if rc < 0 { Err(last_errno()) } else { Ok(()) }
}

/// What the kernel says of this process's session keyring: type, user, group, permissions and name, with semicolons
/// between them.
///
/// # Errors
/// Those of keyctl(2), `KEYCTL_DESCRIBE`.
pub fn session() -> rustix::io::Result<String> {
    const KEYCTL_DESCRIBE: libc::c_int = 6;
    let mut text = [0_u8; 4352];
    // SAFETY: numbers, and a buffer of the length given, which the kernel fills at most.
    let length = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_DESCRIBE,
            KEY_SPEC_SESSION_KEYRING,
            text.as_mut_ptr(),
            text.len(),
        )
    };
    if length < 0 {
        return Err(last_errno());
    }
    let text = CStr::from_bytes_until_nul(&text).map_err(|_| rustix::io::Errno::NAMETOOLONG)?;
    Ok(text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    /// A thread's keyring is its own and goes with it.
    fn in_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(act).join().unwrap()
    }

    #[test]
    fn a_keyring_is_joined_by_its_name() {
        let name = CString::new(format!("_ses.sextant-test-{}", std::process::id())).unwrap();
        let shown = name.to_str().unwrap().to_owned();
        let keys = in_thread(move || {
            join_session(&name).unwrap();
            let first = session().unwrap();
            // Another thread joins the same one: there is one of that name.
            let second = in_thread(move || {
                join_session(&name).unwrap();
                (session().unwrap(), std::fs::read_to_string("/proc/keys").unwrap())
            });
            (first, second)
        });
        let (first, (second, all)) = keys;
        assert_eq!(all.lines().filter(|line| line.contains(&shown)).count(), 1, "{all}");
        for text in [first, second] {
            assert!(text.starts_with("keyring;") && text.ends_with(&format!(";3f1b0000;{shown}")), "{text}");
        }
    }
}
