//! A scenario that needs nothing of ours: files written the durable way (write, fsync, rename, fsync the directory). It
//! shows that the harness finds what a wrong order would lose, and keeps what a right one has promised.

use std::time::Duration;

use testkit::power::{When, whole};
use testkit::vm::Kernel;

use super::{BLIND, Count, Extent, Stand, seen};
use crate::Result;

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
    mark ack $i
done
sleep 1
"#;
const LOOK: &str = r#"
place=/disks/${1##*/}
mkdir -p "$place" && mount "$1" "$place" || exit 1
cd "$place"
for sum in *.sum; do
    [ -f "$sum" ] || continue
    name=${sum%.sum}
    [ "$name" = new ] && continue
    if [ "$(md5sum "$name" | cut -d' ' -f1)" = "$(cat "$sum")" ]; then echo "whole $name"; else echo "lost $name"; fi
done
"#;

pub(super) fn run(kernel: &Kernel, extent: &Extent, count: &mut Count) -> Result<()> {
    if !"files".contains(&extent.only) {
        return Ok(());
    }
    let stand = Stand::new(kernel, 256, &|_| ())?;
    let look = stand.look("look", LOOK, &whole)?;
    let workload = |sync: &str| stand.workload(&WRITE.replace("SYNC", sync), 64, Duration::from_secs(300));
    let mut random = extent.random.clone();
    let durable = workload("sync")?;
    let mut recording = stand.record(&durable)?;
    let survived = stand.survives(&durable, &mut recording, &look, extent.cuts, &mut random);
    count.add("files written durably survive", survived);
    let careless = stand.record(&workload("")?)?.cuts(&look, When::Anytime, BLIND, &mut random)?;
    count.add("the harness sees what was not", seen(&careless));
    Ok(())
}
