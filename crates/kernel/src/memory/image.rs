//! What is mapped of this program's files and is never written: text and constants.

use std::ffi::c_void;
use std::fs;
use std::ops::Range;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::ioctl::{Updater, ioctl, opcode};

use crate::{Act, Result};

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

const UFFDIO_API: u32 = opcode::read_write::<Api>(0xAA, 0x3F);
const UFFDIO_REGISTER: u32 = opcode::read_write::<Register>(0xAA, 0x00);
/// The version of the interface.
const UFFD_API: u64 = 0xAA;
/// Whoever may do nothing else may have it so.
const UFFD_USER_MODE_ONLY: i32 = 1;
/// What is write-protected is made writable by the kernel itself; any mapping may be tracked.
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;

/// Held until the process ends, and its ranges with it: once it is closed all is as before.
static TRACKER: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// From now on, and until this process ends, its programs' text and constants are mapped by the page that is touched.
///
/// At a fault the kernel maps what it has in the page cache of the 64 KiB around. A daemon that rests touches some pages here and there
/// (a timer, a lease, an answer), and so comes to have the whole program mapped within half a minute: thirty megabytes for three. Nobody
/// can ask for less but by tracking writes with a userfaultfd: for ranges that have one the kernel maps single pages. So this process
/// registers its own text and constants with one and asks nothing of it. No page is ever protected, so that no fault
/// is reported or waits for anybody; what is touched for the first time costs a fault a page.
///
/// A child that is forked has it not, nor has a program that is executed. A second call does nothing.
///
/// # Errors
/// `EINVAL` from kernels before 6.7, `ENOSYS` from those without userfaultfd, `EPERM` under a seccomp profile that forbids it
/// (a container engine's default one does); `/proc/self/maps` cannot be read. More is held then, and nothing else is lost.
pub fn map_single_pages() -> Result<()> {
    let mut held = TRACKER.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_some() {
        return Ok(());
    }
    let object = || "faults of this process";
    // SAFETY: has no memory among its arguments.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).act("track", object);
    }
    // SAFETY: the kernel has just made it, for this process alone.
    let tracker = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = Api { api: UFFD_API, features: UFFD_FEATURE_WP_ASYNC, ioctls: 0 };
    // SAFETY: the request's own structure, live for the call.
    unsafe { ioctl(&tracker, Updater::<UFFDIO_API, Api>::new(&mut api)) }.act("track", object)?;
    for range in ranges(&maps()?) {
        let mut register = Register {
            start: range.start as u64,
            length: range.len() as u64,
            mode: UFFDIO_REGISTER_MODE_WP,
            ioctls: 0,
        };
        // SAFETY: the request's own structure, live for the call. What it changes is how faults in the range are answered: those
        // of writes to pages that were protected, which none is, and which the kernel would answer itself.
        unsafe { ioctl(&tracker, Updater::<UFFDIO_REGISTER, Register>::new(&mut register)) }
            .act("track", object)?;
    }
    *held = Some(tracker);
    Ok(())
}

/// Has the kernel take back what is mapped of text and constants, as `maps` of this process has them.
pub(super) fn give_back(maps: &str) {
    for range in ranges(maps) {
        // SAFETY: the pages are of a file that is mapped privately, by a segment of a program that is never writable. Nobody in
        // this process could write to them, so there is nothing to lose: the next access finds the same bytes in the
        // file. Addresses stay mapped.
        unsafe {
            libc::madvise(range.start as *mut c_void, range.len(), libc::MADV_DONTNEED);
        }
    }
}

/// The mappings of this process, as proc_pid_maps(5) has them.
pub(super) fn maps() -> Result<String> {
    let path = "/proc/self/maps";
    fs::read_to_string(path).act("read", || path)
}

/// Where text and constants are.
fn ranges(maps: &str) -> Vec<Range<usize>> {
    let segments = segments();
    let is_within = |range: &Range<usize>| {
        segments.iter().any(|segment| segment.start <= range.start && range.end <= segment.end)
    };
    maps.lines().filter_map(of_file).filter(is_within).collect()
}

/// A mapping of a file that is not writable now. It may have been: what a loader has relocated is protected afterwards.
fn of_file(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, inode) = (fields.next()?, fields.nth(2)?);
    if !matches!(permissions, "r-xp" | "r--p") || inode == "0" {
        return None;
    }
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
    Some(start?..end?)
}

/// The segments of all programs and libraries in this process that are never writable, to the ends of their pages.
fn segments() -> Vec<Range<usize>> {
    unsafe extern "C" fn one(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> libc::c_int {
        // SAFETY: the C library hands over a structure that is valid for the call, and the caller's own pointer, which is that of a
        // vector that nobody else has meanwhile.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<Range<usize>>>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: so many headers are there, in a segment that is mapped as long as its program.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let page = page();
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
                let start = info.dlpi_addr as usize + header.p_vaddr as usize;
                let end = start + header.p_memsz as usize;
                found.push(start & !(page - 1)..end.next_multiple_of(page));
            }
        }
        0
    }
    let mut found: Vec<Range<usize>> = Vec::new();
    // SAFETY: `one` is called before this returns, and never later, with this very vector; it does not unwind: memory that cannot
    // be had ends the process.
    unsafe { libc::dl_iterate_phdr(Some(one), (&raw mut found).cast()) };
    found
}

/// Bytes.
fn page() -> usize {
    // SAFETY: has no memory among its arguments; there is no system where it fails.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    /// What is not zero is in the file.
    static CONSTANTS: [u8; 2 << 20] = [7; 2 << 20];

    /// How many pages of them are mapped.
    fn mapped() -> usize {
        let page = page();
        let file = fs::File::open("/proc/self/pagemap").unwrap();
        let first = CONSTANTS.as_ptr() as usize / page;
        let mut entries = vec![0; CONSTANTS.len() / page * 8];
        file.read_exact_at(&mut entries, first as u64 * 8).unwrap();
        // The highest bit: the page is present.
        entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).count()
    }

    /// Reads a byte of each `apart`.
    fn touch(apart: usize) -> usize {
        black_box(&CONSTANTS).iter().step_by(apart).map(|byte| usize::from(*black_box(byte))).sum()
    }

    fn is_before_6_7() -> bool {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 7)
    }

    #[test]
    fn constants_come_by_the_page_that_is_touched() {
        // All of them are in the page cache after this.
        let whole = touch(512);
        assert_eq!(whole, 7 * CONSTANTS.len() / 512);
        if let Err(error) = map_single_pages() {
            assert!(is_before_6_7(), "{error}");
            return;
        }
        map_single_pages().unwrap();
        give_back(&maps().unwrap());
        let apart = 64 << 10;
        // Other tests of this process may give back what this one touches, and none touches them.
        let touched = (0..200).map(|_| {
            touch(apart);
            mapped()
        });
        let most = touched.max().unwrap();
        // One more at either end may be others'.
        assert!((1..=CONSTANTS.len() / apart + 2).contains(&most), "{most} pages are mapped");
        assert_eq!(touch(512), whole);
    }

    #[test]
    fn what_was_written_is_not_taken_for_constants() {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut constants, mut relocated) = (0, 0);
        let mut mapping = None;
        let segments = segments();
        for line in smaps.lines() {
            let mut fields = line.split_ascii_whitespace();
            match (fields.next(), fields.next()) {
                // Pages of its own: they were written to.
                (Some("Anonymous:"), Some(kb)) => {
                    let Some(range) = mapping.take() else { continue };
                    let range: Range<usize> = range;
                    let is_ours = segments.iter().any(|one| one.start <= range.start && range.end <= one.end);
                    if is_ours {
                        constants += 1;
                        assert_eq!(kb, "0", "{range:x?} of {segments:x?}");
                    } else if kb != "0" {
                        relocated += 1;
                    }
                }
                (Some(first), _) if !first.ends_with(':') => mapping = of_file(line),
                _ => {}
            }
        }
        // Text and constants; what the loader has relocated and protected.
        assert!(constants >= 2 && relocated >= 1, "{constants} {relocated}\n{smaps}");
    }

    #[test]
    fn only_what_is_of_files_and_not_writable_is_looked_at() {
        let text = "555555554000-555555600000 r-xp 00001000 fe:00 1234   /usr/bin/a b (deleted)";
        let constants = "555555554000-555555600000 r--p 00001000 fe:00 1234   /usr/bin/a";
        assert_eq!(of_file(text), Some(0x5555_5555_4000..0x5555_5560_0000));
        assert_eq!(of_file(constants), Some(0x5555_5555_4000..0x5555_5560_0000));
        for other in [
            "7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0   [vdso]",
            "555555554000-555555600000 rw-p 00001000 fe:00 1234   /usr/bin/a",
            "555555554000-555555600000 r--s 00001000 fe:00 1234   /usr/bin/a",
            "555555554000-555555600000 rwxp 00001000 fe:00 1234   /usr/bin/a",
            "",
        ] {
            assert_eq!(of_file(other), None, "{other}");
        }
    }
}
