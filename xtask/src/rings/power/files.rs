//! A scenario that needs nothing of ours: files written the durable way (write, fsync, rename, fsync the directory). It
//! shows that the harness finds what a wrong order would lose, and keeps what a right one has promised.

use std::time::Duration;

use testkit::power::{When, whole};
use testkit::vm::Kernel;

use super::{Count, Extent, Scenario};

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

pub(super) fn run(kernel: &Kernel, extent: &mut Extent, count: &mut Count) {
    let scenario = |sync: &str| Scenario {
        kernel,
        write: WRITE.replace("SYNC", sync),
        look: LOOK.to_owned(),
        furnish: &|_| (),
        size: 64,
        memory: 256,
        limit: Duration::from_secs(60),
        when: When::Anytime,
        judge: &whole,
    };
    if "files".contains(&extent.only) {
        let mut random = extent.random.clone();
        count.add("files written durably survive", scenario("sync").safe(extent.cuts, &mut random));
        count.add("the harness sees what was not", scenario("").blind(&mut extent.random.clone()));
    }
}
