//! A CSI driver works in a guest, for callers that make, fill, snapshot, restore, enlarge, group and delete volumes of each backend at the
//! same time; whatever was acknowledged when the power went is true for the next driver, and nothing else is left.

mod judge;

use std::time::Duration;

use testkit::power::{FileSystem, When};
use testkit::vm::{Initramfs, Kernel};

use super::{BLIND, Count, Extent, Stand, seen};
use crate::Result;
use crate::program::{built, cargo};

/// A pool on a file system, and the backends that are tried there.
struct Pool {
    name: &'static str,
    file_system: FileSystem,
    /// What its disk is mounted with: six copies of one are looked at in one guest.
    options: &'static str,
    /// In MiB.
    size: u64,
    /// As `driver_power` has them; of the backend lvm-thin where the disk has a second partition for it.
    kinds: &'static str,
    modules: &'static [&'static str],
}

const POOLS: [Pool; 6] = [
    Pool {
        name: "ext4",
        file_system: FileSystem::Ext4,
        options: "rw",
        size: 256,
        kinds: "dir,image:ext4",
        modules: &["loop", "ext4"],
    },
    Pool {
        name: "xfs",
        file_system: FileSystem::Xfs,
        options: "nouuid",
        size: 320,
        kinds: "dir,image:ext4,image:block",
        modules: &["loop", "ext4", "xfs"],
    },
    // A kernel since 6.7 mounts copies of one beside each other.
    Pool {
        name: "btrfs",
        file_system: FileSystem::Btrfs,
        options: "rw",
        size: 512,
        kinds: "btrfs,dir,image:ext4",
        modules: &["loop", "ext4", "btrfs"],
    },
    Pool {
        name: "ext4 with quotas",
        file_system: FileSystem::Ext4Projects,
        options: "prjquota",
        size: 256,
        kinds: "quota,dir",
        modules: &["ext4", "quota_v2"],
    },
    Pool {
        name: "xfs with quotas",
        file_system: FileSystem::Xfs,
        options: "nouuid,prjquota",
        size: 320,
        kinds: "quota,dir",
        modules: &["xfs"],
    },
    Pool {
        name: "a thin pool",
        file_system: FileSystem::Ext4AndDevice,
        options: "rw",
        size: 320,
        kinds: "lvm-thin:ext4,lvm-thin:block",
        modules: &["ext4", "dm_mod", "dm_thin_pool"],
    },
];
/// What the driver runs.
const PROGRAMS: [&str; 3] = ["mkfs.ext4", "fsck.ext4", "resize2fs"];

const WRITE: &str = "
mkdir -p /disk && mount -o OPTIONS /dev/vdaFIRST /disk || exit 1
driver_power write /disk/pool /dev/vda KINDS SECOND || exit 1
";
const LOOK: &str = r#"
place=/disks/${1##*/}
mkdir -p "$place" && mount -o OPTIONS "${1}FIRST" "$place" || exit 1
driver_power look "$place/pool" SECOND
"#;

pub(super) fn run(kernel: &Kernel, extent: &Extent, count: &mut Count) -> Result<()> {
    let is_meant = |pool: &&Pool| format!("volumes on {}", pool.name).contains(&extent.only);
    let pools: Vec<&Pool> = POOLS.iter().filter(is_meant).collect();
    if pools.is_empty() {
        return Ok(());
    }
    // With every check that a release leaves out.
    cargo(["build", "--locked", "--workspace", "--example", "driver_power"])?;
    let program = built("debug")?.join("examples/driver_power");
    let mut random = extent.random.clone();
    // A sample is of one pool or another.
    let one = random.below(pools.len() as u64) as usize;
    for pool in pools.iter().enumerate().filter(|(at, _)| extent.full || *at == one).map(|(_, pool)| pool) {
        let furnish = |contents: &mut Initramfs| {
            contents.program("bin/driver_power", &program);
        };
        let stand = Stand {
            modules: pool.modules,
            programs: &PROGRAMS,
            file_system: pool.file_system,
            ..Stand::new(kernel, 512, &furnish)?
        };
        let script = |text: &str, disk: &str| {
            let has_second = pool.file_system == FileSystem::Ext4AndDevice;
            let (first, second) = if has_second { ("1", format!("{disk}2")) } else { ("", String::new()) };
            text.replace("OPTIONS", pool.options)
                .replace("KINDS", pool.kinds)
                .replace("FIRST", first)
                .replace("SECOND", &second)
        };
        let workload = stand.workload(&script(WRITE, "/dev/vda"), pool.size, Duration::from_secs(300))?;
        let mut recording = stand.record(&workload)?;
        let look = stand.look("look", &script(LOOK, "${1}"), &judge::judge)?;
        let survived = stand.survives(&workload, &mut recording, &look, extent.cuts, &mut random);
        count.add(&format!("what a CSI driver acknowledged survives on {}", pool.name), survived);
        if extent.full {
            let lied = recording.cuts(&look, When::Lied, 2 * BLIND, &mut random)?;
            count.add(
                &format!("what a CSI driver loses on a disk that lied is seen on {}", pool.name),
                seen(&lied),
            );
        }
    }
    Ok(())
}
