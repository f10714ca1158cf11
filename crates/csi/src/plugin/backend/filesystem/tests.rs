//! What the tests of volumes with file systems in them have in common.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use super::*;
use crate::plugin::backend::{Secrets, encryption};

pub(in crate::plugin::backend) const MIB: u64 = 1 << 20;
pub(in crate::plugin::backend) const GIB: u64 = 1 << 30;
pub(in crate::plugin::backend) const KINDS: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];
pub(in crate::plugin::backend) static NOTHING: Secrets = BTreeMap::new();

/// A volume that is mounted nowhere but for its descriptor.
pub(in crate::plugin::backend) struct Mounted(pub(in crate::plugin::backend) OwnedFd);

impl Mounted {
    /// For programs as well, which do not have this process's descriptors.
    pub(in crate::plugin::backend) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    pub(in crate::plugin::backend) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(in crate::plugin::backend) fn available(&self) -> u64 {
        let told = rustix::fs::statvfs(self.root()).unwrap();
        told.f_bavail * told.f_frsize
    }
}

pub(in crate::plugin::backend) fn how(read_only: bool) -> Mounting<'static> {
    Mounting { read_only, options: &[], secrets: &NOTHING }
}

pub(in crate::plugin::backend) fn volume_of(backend: &str, id: &str, kind: Kind, capacity: u64) -> Volume {
    let fs_type = kind.name().into();
    Volume { block: kind == Kind::Block, fs_type, ..Volume::of_test(backend, id, capacity) }
}

/// The same volume, encrypted by dm-crypt.
pub(in crate::plugin::backend) fn encrypted(volume: Volume) -> Volume {
    let parameters = BTreeMap::from([(encryption::PARAMETER.to_owned(), encryption::DM_CRYPT.to_owned())]);
    Volume { parameters, ..volume }
}

/// A key of four digits again and again.
pub(in crate::plugin::backend) fn secrets(digits: &str) -> Secrets {
    BTreeMap::from([(encryption::KEY.to_owned(), digits.repeat(32))])
}

/// Bytes that are the same nowhere else.
pub(in crate::plugin::backend) fn pattern(seed: u64, length: u64) -> Vec<u8> {
    (0..length / 8)
        .flat_map(|n| (n + (seed << 32) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}
