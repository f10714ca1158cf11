//! A suite in QEMU, on Debian with systemd: cgroup v2 alone, every capability, and modules that this machine lacks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::vm::{Disk, Guest, Initramfs, Kernel, rootfs};

use super::{Conformance, DRIVER, Suite};
use crate::Result;
use crate::packages;
use crate::program::{quiet, target};

/// What a suite needs in the guest, below its directory. The rest is source and other builds.
fn parts(suite: Suite) -> Result<&'static [&'static str]> {
    match suite {
        Suite::RuntimeTools => Ok(&[
            "src/runtime-tools/runtimetest",
            "src/runtime-tools/rootfs-*.tar.gz",
            "src/runtime-tools/validation/*/*.t",
        ]),
        Suite::Contest => Ok(&["contest", "src/youki/tests/contest/contest/src/tests"]),
        Suite::Bats => Err("bats wants more of a machine than the guest has: run it without --vm".into()),
        Suite::Cni | Suite::CsiSanity => Err(format!("{} has a guest of its own", suite.word()).into()),
        Suite::Critest
        | Suite::GatewayApi
        | Suite::GatewayMesh
        | Suite::CsiCaller
        | Suite::CsiAgent
        | Suite::CsiKubelet
        | Suite::E2e => Err(format!("{} is run on this machine alone: leave out --vm", suite.word()).into()),
    }
}

/// An emulated machine is some ten times slower than this one.
const SECONDS_AN_ITEM: u64 = 300;
const LIMIT: Duration = Duration::from_secs(3600);
/// Raw output of all items comes to a few MiB.
const RESULTS_SIZE: u64 = 128 << 20;

/// Runs the suite, and leaves in `out` what the driver writes.
pub(super) fn run(args: &Conformance, runtime: &Path, out: &Path) -> Result<()> {
    packages::install(packages::NEEDED)?;
    let place = tempfile::Builder::new().prefix("sextant-vm-").tempdir()?;
    let stage = place.path().join("stage");
    std::fs::create_dir(&stage)?;
    for part in parts(args.name)? {
        let copy = format!("cp -r --parents {part} \"$0\"");
        quiet(Command::new("sh").args(["-c", &copy]).arg(&stage).current_dir(&args.suite))?;
    }
    std::fs::copy(runtime, stage.join("sextant-oci"))?;
    std::fs::write(stage.join("driver.py"), DRIVER)?;
    std::fs::write(stage.join("run"), script(args))?;
    let tests = place.path().join("tests.ext4");
    rootfs::tests_disk(&stage, &tests)?;
    let results = place.path().join("results.tar");
    std::fs::File::create(&results)?.set_len(RESULTS_SIZE)?;

    let cache = target().join("vm");
    let kernel = Kernel::fetch(&cache)?;
    let initramfs = place.path().join("initramfs");
    Initramfs::new(&kernel, &["virtio_blk"], "")?.write(&initramfs)?;
    let mut guest = Guest::new(&kernel, &initramfs);
    let system = rootfs::disk(&cache, &kernel)?;
    guest.disks = vec![Disk::Scratch(system), Disk::Scratch(tests), Disk::Raw(results.clone())];
    guest.append = "sextant.root=/dev/vda apparmor=1 security=apparmor systemd.show_status=0".into();
    guest.memory = 2048;
    guest.acceleration = guest.probe();
    guest.echo = true;
    println!("booting {} ({:?})", kernel.version, guest.acceleration);
    let (_, status) = guest.run(LIMIT)?;
    if status != 0 {
        return Err(format!("the driver in the guest ended with {status}").into());
    }
    quiet(Command::new("tar").arg("-xf").arg(&results).arg("-C").arg(out)).map(drop)
}

/// The suite's directory is the root's, which can be written; its files are the tests disk's, which cannot.
fn script(args: &Conformance) -> String {
    let (suite, items) = (args.name.word(), args.items.join(" "));
    format!(
        "mkdir -p /suite/tmp /suite/out\n\
         for part in /tests/src /tests/contest; do [ -e $part ] && ln -s $part /suite/; done\n\
         SUITES=/suite python3 /tests/driver.py {suite} /tests/sextant-oci /suite/out --cgroup v2 \
         --timeout {SECONDS_AN_ITEM} {items}\n\
         status=$?\n\
         tar -cf /dev/vdc -C /suite/out .\n\
         exit $status\n"
    )
}
