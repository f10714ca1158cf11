//! What runs in the pods of `up_power`. `up_power_pod NAME DISK` adds rows to `/data/rows`, syncs each, and marks on DISK
//! `ack rows/NAME COUNT`. Without words it only runs.

#[path = "../../api/examples/power/marks.rs"]
mod marks;
#[path = "power/rows.rs"]
mod rows;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use marks::{Marks, Result};

/// Between two rows: other things are to happen, too.
const PAUSE: Duration = Duration::from_millis(150);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, disk] = words.as_slice() else {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    };
    // Those who look have the disk of another there: what is behind its file system is nobody's then.
    let marks = Marks::open(Path::new(disk))?;
    let file = File::options().read(true).write(true).create(true).truncate(false).open("/data/rows")?;
    let mut count = rows::count(&file)?;
    // What was written when the power went, and not synced.
    file.set_len(count * rows::LENGTH)?;
    file.sync_all()?;
    File::open("/data")?.sync_all()?;
    loop {
        file.write_all_at(rows::row(count).as_bytes(), count * rows::LENGTH)?;
        file.sync_data()?;
        count += 1;
        marks.mark(&format!("ack rows/{name} {count}"))?;
        std::thread::sleep(PAUSE);
    }
}
