//! Power cuts: a guest that writes records and is cut; afterwards everything acknowledged must be there.

use std::time::Duration;

use testkit::power::{PowerCut, print, whole};
use testkit::vm::{Guest, Initramfs, Kernel};

use super::{Count, Extent};
use crate::Result;
use crate::program::target;

/// A scenario that needs nothing of ours: files written the durable way (write, fsync, rename, fsync the directory).
/// It shows that the harness finds what a wrong order would lose, and keeps what a right one has promised.
const WRITE: &str = r#"
mkdir -p /disk && mount /dev/vda /disk || exit 1
i=0
while [ $i -lt 40 ]; do
    i=$((i + 1))
    dd if=/dev/urandom of=/disk/new bs=16k count=2 2>/dev/null
    md5sum /disk/new | cut -d' ' -f1 >/disk/new.sum
    SYNC
    mv /disk/new /disk/$i && mv /disk/new.sum /disk/$i.sum
    SYNC
    echo "ack $i"
done
sleep 1
"#;
const READ: &str = r#"
mkdir -p /disk && mount /dev/vda /disk || exit 1
cd /disk
for sum in *.sum; do
    [ -f "$sum" ] || continue
    name=${sum%.sum}
    [ "$name" = new ] && continue
    if [ "$(md5sum "$name" | cut -d' ' -f1)" = "$(cat "$sum")" ]; then echo "whole $name"; else echo "lost $name"; fi
done
"#;

pub(super) fn run(extent: &mut Extent) -> Result<Count> {
    let cache = target().join("vm");
    let kernel = Kernel::fetch(&cache)?;
    let mut count = Count::default();
    for (name, sync, safe) in
        [("files written durably survive", "sync", true), ("the harness sees what was not", "", false)]
    {
        let mut random = extent.random.clone();
        count.add(name, cut(&kernel, sync, safe, extent.cuts, &mut random));
    }
    Ok(count)
}

fn cut(kernel: &Kernel, sync: &str, safe: bool, cuts: u64, random: &mut testkit::Random) -> Result<()> {
    let place = tempfile::Builder::new().prefix("sextant-power-").tempdir()?;
    let guest = |name: &str, script: &str| -> Result<Guest> {
        let path = place.path().join(name);
        Initramfs::new(kernel, &["virtio_blk"], script)?.write(&path)?;
        let mut guest = Guest::new(kernel, &path);
        guest.memory = 256;
        Ok(guest)
    };
    let (mut workload, mut verify) = (guest("write", &WRITE.replace("SYNC", sync))?, guest("read", READ)?);
    workload.acceleration = workload.probe();
    verify.acceleration = workload.acceleration;
    let power = PowerCut { workload, verify, size: 64, limit: Duration::from_secs(60), judge: &whole };
    let cuts = power.cuts(place.path(), cuts, random)?;
    print(&cuts, &mut std::io::stdout())?;
    let lost = cuts.iter().filter(|cut| cut.wrong.is_some()).count();
    match (safe, lost) {
        (true, 0) => Ok(()),
        (true, _) => Err(format!("{lost} of {} cuts lost something acknowledged", cuts.len()).into()),
        (false, 0) => Err("nothing was lost though nothing was flushed: the harness is blind".into()),
        (false, _) => Ok(()),
    }
}
