//! What a guest does whose power is cut while `sextant up` works (`cargo xtask test --ring power --only up`).
//!
//! `up_power write FOLDER DISK PODS` brings everything up with the data directory FOLDER, has objects, claims and pods (so many by each
//! of two) come, change and go at the same time, and marks on DISK, behind its filesystem, `begin WHAT STATE` before each change and `ack WHAT STATE` once it was
//! acknowledged; a pod with a volume (`up_power_pod`) marks the rows that it has synced. `up_power look FOLDER` brings everything up
//! again, waits until all is as the objects ask for, and says `found WHAT STATE` of what is there, and `damaged: WHAT` of what does not fit together; then it
//! takes all down, and says so of what is left.
//!
//! WHAT is `map/NAME`, `pod/NAME`, `claim/NAME` (its state is its volume), `rows/NAME` (how many there are) or `deployment/NAME` (its
//! replicas). The state of what was deleted is `gone`.

#[path = "power/load.rs"]
mod load;
#[path = "power/look.rs"]
mod look;
#[path = "power/machine.rs"]
mod machine;
#[path = "../../api/examples/power/marks.rs"]
mod marks;
#[path = "power/rows.rs"]
mod rows;

use std::path::Path;

use machine::Machine;
use marks::Result;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match *words {
        ["write", folder, disk, pods] => {
            let machine = Machine::new(Path::new(folder));
            let done = runtime.block_on(load::write(&machine, Path::new(disk), pods.parse()?));
            done.inspect_err(|_| machine.tell())
        }
        ["look", folder] => {
            let machine = Machine::new(Path::new(folder));
            if !runtime.block_on(look::look(&machine)).inspect_err(|_| machine.tell())? {
                machine.tell();
            }
            println!("looked");
            Ok(())
        }
        _ => Err("up_power write FOLDER DISK PODS, or look FOLDER".into()),
    }
}
