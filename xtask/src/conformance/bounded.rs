//! csi-sanity in QEMU, against `sextant csi-driver` with what this machine's kernel or rights may lack.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::vm::{Disk, Guest, Initramfs, Kernel, MODULES};

use super::{Conformance, volumes};
use crate::Result;
use crate::packages;
use crate::program::{quiet, target};

/// A way of having volumes that the suite is run against.
struct Way {
    name: &'static str,
    pool: Pool,
    /// What a class says.
    parameters: &'static str,
    /// More words for csi-sanity.
    words: &'static str,
}

/// What a pool is on.
enum Pool {
    /// A file system of this kind, which a program makes and an option mounts.
    Mounted { kind: &'static str, program: &'static str, option: &'static str },
    /// A device of its own.
    Device,
}

const EXT4: Pool =
    Pool::Mounted { kind: "ext4", program: "mkfs.ext4 -q -F -O project,quota", option: "prjquota" };
const XFS: Pool = Pool::Mounted { kind: "xfs", program: "mkfs.xfs -q -f", option: "prjquota" };
const BLOCK: &str = "--csi.testvolumeaccesstype=block";

const IMAGE: &str = "{backend: image, csi.storage.k8s.io/fstype: ext4}";

/// With an ext4 in images: the driver has CAP_SYS_RESOURCE there, without which that does not grow in use.
const WAYS: &[Way] = &[
    Way { name: "image-ext4", pool: EXT4, parameters: IMAGE, words: "" },
    Way { name: "quota-ext4", pool: EXT4, parameters: "backend: quota", words: "" },
    Way { name: "quota-xfs", pool: XFS, parameters: "backend: quota", words: "" },
    Way { name: "lvm-thin", pool: Pool::Device, parameters: "backend: lvm-thin", words: "" },
    Way { name: "lvm-thin-block", pool: Pool::Device, parameters: "backend: lvm-thin", words: BLOCK },
];

/// What the file systems are made with.
const PROGRAMS: &[&str] = &["fsck.ext4", "mkfs.ext4", "mkfs.xfs", "resize2fs"];
const LIMIT: Duration = Duration::from_secs(1200);
/// A log and a list of outcomes for each way.
const RESULTS_SIZE: u64 = 32 << 20;

/// Runs the suite against each way, and leaves `results.txt` in `out`.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    packages::install(packages::NEEDED)?;
    packages::install(&["e2fsprogs", "xfsprogs"])?;
    let is_meant = |way: &&Way| args.items.is_empty() || args.items.iter().any(|item| item == way.name);
    let ways: Vec<&Way> = WAYS.iter().filter(is_meant).collect();
    let place = tempfile::Builder::new().prefix("sextant-vm-").tempdir()?;
    let stripped = place.path().join("sextant");
    quiet(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(sextant))?;
    let suite = std::path::absolute(&args.suite)?.join("csi");

    let kernel = Kernel::fetch(&target().join("vm"))?;
    let initramfs = place.path().join("initramfs");
    let mut contents = Initramfs::new(&kernel, MODULES, &script(&ways))?;
    contents.linked_program("suite/sextant", &stripped);
    contents.program("suite/csi-sanity", &suite.join("csi-sanity"));
    for name in PROGRAMS {
        contents.host_program(name)?;
    }
    contents.write(&initramfs)?;
    let results = place.path().join("results.tar");
    std::fs::File::create(&results)?.set_len(RESULTS_SIZE)?;
    let mut guest = Guest::new(&kernel, &initramfs);
    guest.disks = vec![Disk::Raw(results.clone())];
    guest.memory = 2048;
    guest.acceleration = guest.probe();
    guest.echo = true;
    println!("booting {} ({:?})", kernel.version, guest.acceleration);
    let (_, status) = guest.run(LIMIT)?;
    if status != 0 {
        return Err(format!("what runs the suite in the guest ended with {status}").into());
    }
    quiet(Command::new("tar").arg("-xf").arg(&results).arg("-C").arg(out))?;
    let mut told = String::new();
    for way in ways {
        let raw = std::path::absolute(out)?.join(way.name);
        sum_up(&suite, &raw, &place.path().join(way.name))?;
        told.push_str(&volumes::results(way.name, &raw)?);
    }
    Ok(std::fs::write(out.join("results.txt"), told)?)
}

/// Has the suite's own script sum up what was found in the guest: what it takes for csi-sanity hands that over.
fn sum_up(suite: &Path, raw: &Path, beside: &Path) -> Result<()> {
    std::fs::create_dir(beside)?;
    std::fs::copy(suite.join("sanity"), beside.join("sanity"))?;
    let stand_in = beside.join("csi-sanity");
    let found = raw.join("found.xml");
    let text = format!(
        "#!/bin/sh\nfor word; do case $word in --csi.junitfile=*) cp '{}' \"${{word#*=}}\";; esac; done\n",
        found.display()
    );
    std::fs::write(&stand_in, text)?;
    std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755))?;
    let said = quiet(Command::new(beside.join("sanity")).arg("-").arg(raw))?;
    println!("{}: {}", raw.display(), said.trim());
    Ok(())
}

/// What the guest runs: a failure of specs is for the comparison to say.
fn script(ways: &[&Way]) -> String {
    let mut script = String::from(
        "mkdir /out\necho 'protected: \"false\"' >/tmp/mutable.yaml\n\
         up() { for i in $(seq 600); do [ -S $1 ] && return; sleep 0.1; done; echo 'it does not come up'; exit 1; }\n",
    );
    for Way { name, pool, parameters, words } in ways {
        let image = format!("/tmp/{name}.image");
        let (begin, pool, end) = match pool {
            Pool::Mounted { kind, program, option } => (
                format!("{program} {image} && mount -t {kind} -o loop,{option} {image} /{name} || exit 1"),
                format!("--pool pool=/{name}/pool"),
                format!("umount /{name} || exit 1"),
            ),
            Pool::Device => (
                format!(
                    "device=$(losetup -f) && losetup $device {image} || exit 1\n\
                     printf '[[pool]]\\nname = \"pool\"\\npath = \"/{name}\"\\ndevice = \"%s\"\\n' $device >/tmp/{name}.toml"
                ),
                format!("--config /tmp/{name}.toml"),
                String::new(),
            ),
        };
        script.push_str(&format!(
            "mkdir -p /out/{name} /{name}; truncate -s 12G {image}\n\
             {begin}\n\
             echo '{parameters}' >/tmp/{name}.yaml\n\
             /suite/sextant --run-dir /run/{name} csi-driver --socket /run/{name}.sock {pool} --node-id node-1 & driver=$!\n\
             up /run/{name}.sock\n\
             /suite/csi-sanity --csi.endpoint=/run/{name}.sock --csi.stagingdir=/tmp/{name}-stage \
             --csi.mountdir=/tmp/{name}-mount --csi.junitfile=/out/{name}/found.xml --ginkgo.seed=1 \
             --csi.testvolumesize=1073741824 --csi.testvolumeexpandsize=2147483648 \
             --csi.testvolumemutableparameters=/tmp/mutable.yaml --csi.testvolumeparameters=/tmp/{name}.yaml \
             {words} >/out/{name}/found.log 2>&1\n\
             tail -n 3 /out/{name}/found.log\n\
             kill $driver; wait $driver\n\
             {end}\n"
        ));
    }
    script.push_str("tar -cf /dev/vda -C /out .\n");
    script
}
