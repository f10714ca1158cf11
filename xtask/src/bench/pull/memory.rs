//! Memory as a machine that has been up for a while has it.
//!
//! A virtual machine's host hands memory out at the first touch. Whoever fills the page cache first pays for that: here
//! 2.4 ms of system time a MB, twenty times what the copy costs, and as much again as all the rest of a pull. It falls on
//! everybody for each byte alike and hides what differs. So what a pull can need is touched before it, for each of them.

use std::fs;

use crate::Result;

/// What a pull of the bench's image leaves in the page cache, and a daemon's memory, with room to spare.
const PULL: u64 = 1500 << 20;
const CHUNK: usize = 64 << 20;
const PAGE: usize = 4096;

/// Touches the memory that the next pull will use, as far as the machine has it to spare, and gives it back.
pub(super) fn touch() -> Result<()> {
    let chunks = (available()? / 2).min(PULL) / CHUNK as u64;
    let held: Vec<Vec<u8>> = (0..chunks)
        .map(|_| {
            let mut chunk = vec![0_u8; CHUNK];
            chunk.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
            chunk
        })
        .collect();
    drop(std::hint::black_box(held));
    Ok(())
}

fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).ok_or("MemAvailable is not told")?;
    Ok(kib.trim().parse::<u64>()? << 10)
}
