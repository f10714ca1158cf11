//! Which leases cannot be of this boot: their containers are gone, since none outlives its kernel.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, StatxFlags};

/// Clocks are set while a machine boots, and files carry what the clock said: this much is not believed.
const DOUBT: Duration = Duration::from_secs(60);

/// The running kernel's boot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    /// Its id.
    pub(super) id: [u8; 16],
    /// No file of this boot is older, in nanoseconds since 1970.
    pub(super) began: i64,
}

impl Boot {
    /// Where /proc does not say, it is [`UNKNOWN`].
    pub(super) fn current() -> Self {
        // No process outlives its kernel.
        static ID: OnceLock<[u8; 16]> = OnceLock::new();
        let read = || {
            let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            parse_id(&text).unwrap_or(UNKNOWN)
        };
        Self { id: *ID.get_or_init(read), began: i64::MIN }
    }

    /// Whether `id` is of a boot before this one, for sure.
    pub(super) fn is_after(self, id: [u8; 16]) -> bool {
        self.id != id && self.id != UNKNOWN && id != UNKNOWN
    }

    /// The same with the time when it began, which only the first call of a boot wants to know.
    pub(super) fn with_time(self) -> Self {
        Self { began: began().unwrap_or(i64::MIN), ..self }
    }
}

/// No boot's id.
const UNKNOWN: [u8; 16] = [0; 16];

fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    (digits.len() == 32).then_some(())?;
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

/// The earliest time that the clock can have said in this boot: what it is now less the uptime, and what it was when the
/// kernel made its first file systems. A clock that was set meanwhile moves the one, not the other.
fn began() -> Option<i64> {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let up = Duration::new(up.tv_sec.try_into().ok()?, up.tv_nsec.try_into().ok()?);
    let by_uptime = SystemTime::now().checked_sub(up)?.duration_since(UNIX_EPOCH).ok()?;
    let by_devtmpfs = birth(Path::new("/dev")).unwrap_or(by_uptime);
    let began = by_uptime.min(by_devtmpfs).checked_sub(DOUBT)?;
    i64::try_from(began.as_nanos()).ok()
}

fn birth(path: &Path) -> Option<Duration> {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::BTIME).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    let time = known.then_some(found.stx_btime)?;
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec))
}

/// Whether the file system is this machine's own: on a shared one another machine's leases look like another boot's.
pub(super) fn is_local(dir: impl std::os::fd::AsFd) -> bool {
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    const F2FS: i64 = 0xf2f5_2010;
    const ZFS: i64 = 0x2fc1_2fc1;
    const TMPFS: i64 = 0x0102_1994;
    const OVERLAY: i64 = 0x794c_7630;
    let kind = rustix::fs::fstatfs(dir).map(|found| found.f_type);
    kind.is_ok_and(|kind| [EXT, XFS, BTRFS, F2FS, ZFS, TMPFS, OVERLAY].contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boot_began_in_the_past_and_what_is_written_now_is_of_it() {
        let boot = Boot::current();
        assert!(boot.is_after([7; 16]) && !boot.is_after(boot.id) && !boot.is_after(UNKNOWN));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        let began = boot.with_time().began;
        assert!(began < now - 60_000_000_000 && began > 0);
        assert!(parse_id("x").is_none() && parse_id("").is_none());
        assert!(
            is_local(std::fs::File::open("/dev").unwrap())
                && !is_local(std::fs::File::open("/proc").unwrap())
        );
    }
}
