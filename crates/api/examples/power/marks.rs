//! What a guest whose power is cut has promised, in the log of its disk.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Mutex;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SECTOR: usize = 512;
/// Behind the filesystem there are so many sectors for marks (`testkit::power`).
const ROOM: u64 = 2048;

/// Where it is marked what is acknowledged: known to be said before each write that follows it.
pub(crate) struct Marks {
    disk: File,
    at: u64,
    /// The disk takes direct writes only from where a sector may begin in memory.
    buffer: Mutex<Vec<u8>>,
}

impl Marks {
    pub(crate) fn open(disk: &Path) -> Result<Marks> {
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
        let disk = File::options().write(true).custom_flags(direct).open(disk)?;
        let sectors: u64 = std::fs::read_to_string("/sys/block/vda/size")?.trim().parse()?;
        Ok(Marks { disk, at: (sectors - ROOM) * SECTOR as u64, buffer: Mutex::new(vec![b' '; 2 * SECTOR]) })
    }

    pub(crate) fn mark(&self, text: &str) -> Result<()> {
        let mut buffer = self.buffer.lock().map_err(|_| "a mark failed before")?;
        let start = buffer.as_ptr().align_offset(SECTOR);
        let sector = buffer.get_mut(start..start + SECTOR).ok_or("there is no whole sector")?;
        sector.fill(b' ');
        sector.get_mut(..text.len()).ok_or("the mark is too long")?.copy_from_slice(text.as_bytes());
        Ok(self.disk.write_all_at(sector, self.at)?)
    }
}
