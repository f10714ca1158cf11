//! What a pool's device begins with: whose it is, and how it is laid out.
//!
//! ```text
//! 0          the label, one block
//! 1 MiB      the metadata of dm-thin
//! 1 MiB + M  data, whole blocks of the pool, to the end
//! ```
//!
//! The same is in the pool's directory. A device is taken only where both agree, so that neither a disk that was put in another's
//! place nor a second directory loses anybody's data.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use grpc::Failure;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::plugin::backend::{copy, failed};
use crate::plugin::hold::hold;
use crate::plugin::pool::record;
use crate::plugin::text;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const FORMAT: u32 = 1;
/// What the label begins with; a line of JSON follows.
const MAGIC: &[u8] = b"sextant-csi lvm-thin\n";
/// Bytes of the label.
const LABEL: usize = 4096;
/// Where the metadata begins.
pub(super) const METADATA_AT: u64 = MIB;
/// What metadata has at least, and, however large the pool is, at most.
const METADATA: (u64, u64) = (16 * MIB, GIB);
/// The metadata of a block: what it has in the trees of the volumes and snapshots that have it, with room for changing them.
const METADATA_OF_A_BLOCK: u64 = 64;
/// The blocks of a small pool.
const BLOCK: u64 = 64 << 10;
/// The largest blocks that dm-thin has.
const BLOCK_AT_MOST: u64 = GIB;

/// Whose a device is, and how it is laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Label {
    format: u32,
    /// 32 hexadecimal digits.
    pub(super) uuid: String,
    /// Bytes of a block of the pool.
    pub(super) block: u64,
    /// Bytes of its metadata.
    pub(super) metadata: u64,
}

impl Label {
    /// A new one for a device of so many bytes.
    pub(super) fn new(bytes: u64) -> Result<Label, Failure> {
        let metadata = |block: u64| (bytes / block).saturating_mul(METADATA_OF_A_BLOCK).max(METADATA.0);
        let mut block = BLOCK;
        while metadata(block) > METADATA.1 && block < BLOCK_AT_MOST {
            block *= 2;
        }
        let metadata = metadata(block).min(METADATA.1).next_multiple_of(MIB);
        Ok(Label { format: FORMAT, uuid: text::random()?, block, metadata })
    }

    /// Where the data begins.
    pub(super) fn data_at(&self) -> u64 {
        METADATA_AT + self.metadata
    }

    /// Bytes of data on a device of so many bytes.
    pub(super) fn data(&self, bytes: u64) -> u64 {
        let data = bytes.saturating_sub(self.data_at());
        data - data % self.block.max(1)
    }

    fn parse(text: &[u8]) -> Result<Label, String> {
        let label: Label = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        record::is_known(label.format, FORMAT)?;
        let is_block = (BLOCK..=BLOCK_AT_MOST).contains(&label.block) && label.block.is_power_of_two();
        let is_uuid = label.uuid.len() == 32 && label.uuid.bytes().all(|c| c.is_ascii_hexdigit());
        let is_metadata =
            (METADATA.0..=METADATA.1).contains(&label.metadata) && label.metadata.is_multiple_of(MIB);
        if !is_block || !is_uuid || !is_metadata {
            return Err("it has values that cannot be".to_owned());
        }
        Ok(label)
    }
}

/// A pool's device.
pub(super) struct Disk {
    file: File,
    /// As tables name it.
    pub(super) number: String,
    pub(super) bytes: u64,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Disk, Failure> {
        let mut file =
            File::options().read(true).write(true).open(path).map_err(|e| failed("open", path, &e))?;
        let told = file.metadata().map_err(|e| failed("look at", path, &e))?;
        if !told.file_type().is_block_device() {
            let message =
                format!("{} is no block device: write one, such as a logical volume", path.display());
            return Err(Failure::invalid("pool.device", message));
        }
        let bytes = file.seek(SeekFrom::End(0)).map_err(|e| failed("look at", path, &e))?;
        let number = format!("{}:{}", rustix::fs::major(told.rdev()), rustix::fs::minor(told.rdev()));
        Ok(Disk { file, number, bytes })
    }

    /// The label; none where there is none.
    pub(super) fn label(&self) -> Result<Option<Label>, String> {
        let mut bytes = [0; LABEL];
        match self.file.read_exact_at(&mut bytes, 0) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(|e| e.to_string())?,
        }
        let Some(text) = bytes.strip_prefix(MAGIC) else { return Ok(None) };
        let end = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
        Label::parse(&text[..end]).map(Some)
    }

    /// Whether nothing is where file systems, partition tables and volume managers have what they are known by: the first MiB and
    /// the last.
    fn is_blank(&self) -> std::io::Result<bool> {
        let mut bytes = vec![0; MIB as usize];
        for at in [0, self.bytes.saturating_sub(MIB)] {
            self.file.read_exact_at(&mut bytes, at)?;
            if bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes a blank device this pool's. A power cut leaves it blank, or whole.
    ///
    /// # Errors
    /// Somebody has it open for himself alone, as what is mounted is; it has somebody's data on it; the disk's.
    pub(super) fn take(&self, path: &Path, label: &Label) -> Result<(), Failure> {
        let failed = |e: std::io::Error| failed("take", path, &e);
        if label.data(self.bytes) < 64 * MIB {
            let message =
                format!("{} has {} bytes: a pool needs at least 96 MiB", path.display(), self.bytes);
            return Err(Failure::invalid("pool.device", message));
        }
        let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
        let _alone = match File::options().read(true).write(true).custom_flags(exclusive).open(path) {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::BUSY) => {
                let hint = "it is mounted, or part of something else; give the pool another one";
                return Err(Failure::precondition(format!("{} is in use: {hint}", path.display())));
            }
            other => other.map_err(failed)?,
        };
        if !self.is_blank().map_err(failed)? {
            let message = format!(
                "{} has data on it, and is not this pool's: nothing was changed. Give the pool another one, or, where nobody needs \
                 it, overwrite its first and its last MiB with zeros (blkdiscard -z does it with all)",
                path.display()
            );
            return Err(Failure::precondition(message));
        }
        // What dm-thin finds blank it makes its own.
        let zeros = vec![0; MIB as usize];
        self.file.write_all_at(&zeros, METADATA_AT).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        let mut bytes = [0; LABEL];
        let text = serde_json::to_vec(label).map_err(|e| failed(e.into()))?;
        let mut rest = &mut bytes[..];
        [MAGIC, &text, b"\n"].into_iter().try_for_each(|part| rest.write_all(part)).map_err(failed)?;
        self.file.write_all_at(&bytes, 0).and_then(|()| self.file.sync_all()).map_err(failed)
    }
}

/// The label in a pool's directory, by which nobody else has the pool as long as this is there.
pub(super) struct Own {
    file: File,
    pub(super) label: Option<Label>,
}

impl Own {
    pub(super) fn open(path: &Path) -> Result<Own, Failure> {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|e| failed("open", path, &e))?;
        if !hold(&file).map_err(|e| failed("lock", path, &e))? {
            let hint = "stop it, or give this one pools of its own";
            return Err(Failure::exists(format!("another driver has {}: {hint}", path.display())));
        }
        let text = std::fs::read(path).map_err(|e| failed("read", path, &e))?;
        // Who was killed before it was written left it empty.
        let label = if text.is_empty() { None } else { Some(Label::parse(&text)) };
        Ok(Own { file, label: label.transpose().map_err(|e| failed("read", path, &e))? })
    }

    /// Writes it, durably.
    pub(super) fn write(&mut self, directory: &Path, label: Label) -> Result<(), Failure> {
        let text = serde_json::to_vec(&label).map_err(|e| failed("write", directory, &e))?;
        self.file
            .write_all_at(&text, 0)
            .and_then(|()| self.file.sync_all())
            .map_err(|e| failed("write a label in", directory, &e))?;
        copy::sync_names(&[directory])?;
        self.label = Some(label);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_grows_with_the_pool_until_blocks_do() {
        for (bytes, block, metadata) in [
            (GIB, BLOCK, 16 * MIB),
            (100 * GIB, BLOCK, 100 * MIB),
            (1024 * GIB, BLOCK, GIB),
            (16 * 1024 * GIB, 16 * BLOCK, GIB),
        ] {
            let label = Label::new(bytes).unwrap();
            assert_eq!((label.block, label.metadata), (block, metadata), "{bytes}");
            assert!(
                label.data(bytes).is_multiple_of(block) && label.data(bytes) > bytes / 100 * 98,
                "{bytes}"
            );
            assert_eq!(Label::parse(&serde_json::to_vec(&label).unwrap()), Ok(label));
        }
        assert_eq!(Label::new(MIB).unwrap().data(MIB), 0);
    }

    #[test]
    fn a_label_that_cannot_be_is_refused() {
        let good = serde_json::to_string(&Label::new(GIB).unwrap()).unwrap();
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("65536", "65535"),
            ("16777216", "1"),
            ("16777216", "18446744073708503040"),
            ("{", "["),
        ] {
            assert!(Label::parse(good.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
