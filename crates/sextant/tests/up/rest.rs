//! What the programs hold of their memory while nothing is asked of them.

use std::time::{Duration, Instant};

use super::{Machine, PATIENCE};

/// The flags of the program's text in a process (proc_pid_smaps(5)).
fn text_flags(pid: i32) -> Option<String> {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_sextant")).unwrap();
    let mut lines = smaps.lines();
    lines.find(|line| line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap()))?;
    lines.find_map(|line| line.strip_prefix("VmFlags:")).map(str::to_owned)
}

fn is_before_6_7() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 7)
}

#[test]
fn all_six_have_single_pages_of_their_program_mapped() {
    if is_before_6_7() {
        return;
    }
    let machine = Machine::new();
    machine.up(&[]);
    let pids = machine.wait(|_| true);
    assert_eq!(pids.len(), 6, "{pids:?}");
    for (name, pid) in pids {
        let begun = Instant::now();
        loop {
            let flags = text_flags(pid).unwrap_or_else(|| panic!("{name} has no text"));
            // Writes to it are tracked.
            if flags.split_ascii_whitespace().any(|flag| flag == "uw") {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{name}: {flags}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
