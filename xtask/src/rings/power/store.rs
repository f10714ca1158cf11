//! The API's store takes transactions in a guest; whatever it had acknowledged when the power went is there afterwards, and
//! watchers are told all that is still in its history.

use std::time::Duration;

use testkit::power::{When, whole};
use testkit::vm::{Initramfs, Kernel};

use super::{BLIND, Count, Extent, Stand, seen};
use crate::Result;
use crate::program::{built, cargo};

const WRITE: &str = "
mkdir -p /disk && mount /dev/vda /disk || exit 1
store_power write /disk/store /dev/vda || exit 1
";
const LOOK: &str = r#"
place=/disks/${1##*/}
mkdir -p "$place" && mount "$1" "$place" || exit 1
store_power look "$place/store"
"#;

pub(super) fn run(kernel: &Kernel, extent: &Extent, count: &mut Count) -> Result<()> {
    if !"store".contains(&extent.only) {
        return Ok(());
    }
    // `cargo test --workspace` has built it: a release would have another choice of features, and all of it built once more.
    cargo(["build", "--locked", "--workspace", "--example", "store_power"])?;
    let program = built("debug")?.join("examples/store_power");
    let furnish = |contents: &mut Initramfs| {
        contents.program("bin/store_power", &program);
    };
    let stand = Stand::new(kernel, 256, &furnish)?;
    let workload = stand.workload(WRITE, 64, Duration::from_secs(300))?;
    let mut random = extent.random.clone();
    let mut recording = stand.record(&workload)?;
    let look = stand.look("look", LOOK, &whole)?;
    let survived = stand.survives(&workload, &mut recording, &look, extent.cuts, &mut random);
    count.add("what the API's store acknowledged survives", survived);
    let lied = recording.cuts(&look, When::Lied, 2 * BLIND, &mut random)?;
    count.add("what a disk lost that lied is seen", seen(&lied));
    Ok(())
}
