//! `sextant up` runs in a guest, with objects, claims and pods that come, change and go; whatever was acknowledged when the power
//! went is true when it is up again, pods run again with what they had synced, and once all is deleted nothing is left.

mod judge;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use testkit::power::{Look, When};
use testkit::vm::{Initramfs, Kernel};

use super::{BLIND, Count, Extent, Stand, faults, intact, seen};
use crate::Result;
use crate::program::{built, cargo, quiet};

/// What pods, their network and volumes want of a kernel.
const MODULES: [&str; 16] = [
    "loop",
    "ext4",
    "overlay",
    "veth",
    "bridge",
    "br_netfilter",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_reject_inet",
    "nft_fib_inet",
    "nft_numgen",
    "nf_conntrack_netlink",
];
/// What the CSI driver runs.
const PROGRAMS: [&str; 3] = ["mkfs.ext4", "fsck.ext4", "resize2fs"];
/// Of the disk, in MiB.
const SIZE: u64 = 512;
/// How long it may take to do all that is to be done, and to look at one disk.
const WRITING: Duration = Duration::from_secs(600);
const LOOKING: Duration = Duration::from_secs(900);
/// How many pods each of two has: an emulated machine has one in some ten seconds.
const PODS: u64 = 4;
/// The same in a sample, and how many cuts it has: a disk is looked at in no less than a minute.
const FEW_PODS: u64 = 2;
const FEW_CUTS: u64 = 1;

/// Programs reach Services only where there is a way to everywhere.
const NETWORK: &str = "ip route replace default dev lo || exit 1\n";
const WRITE: &str = "
mkdir -p /disk && mount /dev/vda /disk || exit 1
up_power write /disk/data /dev/vda PODS || exit 1
";
/// At the place where it was written: records name it. What dies with the kernel is of another machine then.
const LOOK: &str = r#"
mkdir -p /disk && mount "$1" /disk || exit 1
rm -rf /run/sextant
up_power look /disk/data
status=$?
umount /disk || { echo "damaged: the disk is held by something that is left"; umount -l /disk; }
exit $status
"#;

pub(super) fn run(kernel: &Kernel, extent: &Extent, count: &mut Count) -> Result<()> {
    // It takes minutes: a sample of the ring has it only where it is asked for by name.
    let is_asked = extent.full || !extent.only.is_empty();
    if !is_asked || !"up".contains(&extent.only) {
        return Ok(());
    }
    let place = tempfile::Builder::new().prefix("sextant-power-").tempdir()?;
    let programs = programs(place.path())?;
    let furnish = |contents: &mut Initramfs| {
        for (name, path) in &programs {
            contents.program(&format!("bin/{name}"), path);
        }
    };
    let stand = Stand { modules: &MODULES, programs: &PROGRAMS, ..Stand::new(kernel, 2048, &furnish)? };
    let pods = if extent.full { PODS } else { FEW_PODS };
    let write = WRITE.replace("PODS", &pods.to_string());
    let workload = stand.workload(&format!("{NETWORK}{write}"), SIZE, WRITING)?;
    let look = stand.look("look", &format!("{NETWORK}{LOOK}"), &judge::judge)?;
    let look = Look { limit: LOOKING, ..look };
    let mut random = extent.random.clone();
    let mut recording = stand.record(&workload)?;
    let survived = if extent.full {
        stand.survives(&workload, &mut recording, &look, extent.cuts, &mut random)
    } else {
        intact(&recording.cuts(&look, When::Anytime, FEW_CUTS, &mut random)?)
    };
    count.add("what `sextant up` acknowledged survives", survived);
    if extent.full {
        // Marks of many come in bursts, and the disk lies for two marks only: some cuts lose nothing.
        let mut lied = Vec::new();
        while faults(&lied) == 0 && (lied.len() as u64) < 4 * BLIND {
            lied.extend(recording.cuts(&look, When::Lied, BLIND, &mut random)?);
        }
        count.add("what `sextant up` loses on a disk that lied is seen", seen(&lied));
    }
    Ok(())
}

/// The programs of the guest, without what a debugger reads: they are all in its memory.
fn programs(place: &std::path::Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let examples = ["--example", "up_power", "--example", "up_power_pod"];
    cargo(["build", "--locked", "--workspace", "--bin", "sextant"].iter().chain(&examples))?;
    let from = built("debug")?;
    let names = [
        ("sextant", "sextant"),
        ("up_power", "examples/up_power"),
        ("up_power_pod", "examples/up_power_pod"),
    ];
    let mut programs = Vec::new();
    for (name, path) in names {
        let to = place.join(name);
        quiet(Command::new("strip").arg("-o").arg(&to).arg(from.join(path)))?;
        programs.push((name, to));
    }
    Ok(programs)
}
