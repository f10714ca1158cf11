//! A whole API server serves in a guest, to clients that change objects and to watchers; whatever it had said when the power
//! went is true when it serves again.

mod judge;

use std::time::Duration;

use testkit::power::When;
use testkit::vm::{Initramfs, Kernel};

use super::{BLIND, Count, Extent, Stand, faults, seen};
use crate::Result;
use crate::program::{built, cargo};

const WRITE: &str = "
mkdir -p /disk && mount /dev/vda /disk || exit 1
server_power write /disk/api /dev/vda || exit 1
";
const LOOK: &str = r#"
place=/disks/${1##*/}
mkdir -p "$place" && mount "$1" "$place" || exit 1
server_power look "$place/api"
"#;

pub(super) fn run(kernel: &Kernel, extent: &Extent, count: &mut Count) -> Result<()> {
    if !"server".contains(&extent.only) {
        return Ok(());
    }
    // With every check that a release leaves out, and without the minutes that optimising a whole server takes.
    cargo(["build", "--locked", "--workspace", "--example", "server_power"])?;
    let program = built("debug")?.join("examples/server_power");
    let furnish = |contents: &mut Initramfs| {
        contents.program("bin/server_power", &program);
    };
    let stand = Stand::new(kernel, 512, &furnish)?;
    let workload = stand.workload(WRITE, 64, Duration::from_secs(240))?;
    let mut random = extent.random.clone();
    let mut recording = stand.record(&workload)?;
    let look = stand.look("look", LOOK, &judge::judge)?;
    let survived = stand.survives(&workload, &mut recording, &look, extent.cuts, &mut random);
    count.add("what an API server said survives", survived);
    if extent.full {
        // Marks of many clients come in bursts, and the disk lies for two marks only: most cuts lose nothing.
        let mut lied = Vec::new();
        while faults(&lied) == 0 && (lied.len() as u64) < 10 * BLIND {
            lied.extend(recording.cuts(&look, When::Lied, BLIND, &mut random)?);
        }
        count.add("what an API server loses on a disk that lied is seen", seen(&lied));
    }
    Ok(())
}
