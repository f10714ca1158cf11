//! The page cache: writing back early, and letting go of what nobody reads again.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// Has the kernel begin to write back `length` bytes from `offset` on, without waiting for it: a later sync finds less
/// to do. It makes nothing durable.
///
/// Best effort: a filesystem that cannot do it (`ESPIPE`, `EINVAL`) writes when it wants to.
pub fn begin_write_back(file: impl AsFd, offset: u64, length: u64) -> Result<(), Errno> {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(Errno::OVERFLOW);
    };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: takes a descriptor that is open for the time of the call and numbers; no memory is shared.
    let done = unsafe { libc::sync_file_range(fd, offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if done == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(errno))
}

/// Lets go of the cached pages of `length` bytes from `offset` on, as far as they are on the disk already.
pub fn forget(file: impl AsFd, offset: u64, length: u64) -> Result<(), Errno> {
    let Some(length) = std::num::NonZeroU64::new(length) else { return Ok(()) };
    rustix::fs::fadvise(file, offset, Some(length), rustix::fs::Advice::DontNeed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    #[test]
    fn content_survives_being_written_back_and_forgotten() {
        let file: OwnedFd = rustix::fs::open(
            std::env::temp_dir().as_path(),
            rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::from_raw_mode(0o600),
        )
        .unwrap();
        let mut file = std::fs::File::from(file);
        file.write_all(&[7; 100_000]).unwrap();
        begin_write_back(&file, 0, 100_000).unwrap();
        file.sync_data().unwrap();
        forget(&file, 0, 100_000).unwrap();
        forget(&file, 5, 0).unwrap();
        let mut content = vec![0; 100_001];
        let n = std::os::unix::fs::FileExt::read_at(&file, &mut content, 0).unwrap();
        assert_eq!(content.get(..n), Some(&[7; 100_000][..]));
    }

    #[test]
    fn what_has_no_range_is_refused() {
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        assert_eq!(begin_write_back(&pipe, 0, 1), Err(Errno::SPIPE));
        assert_eq!(begin_write_back(&pipe, u64::MAX, 1), Err(Errno::OVERFLOW));
    }
}
