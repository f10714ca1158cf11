//! This process's memory.

/// Gives pages that the allocator holds free back to the kernel.
///
/// glibc keeps what threads have freed in arenas of theirs, after their end too: a process that lives long and works in
/// bursts does this after one. It walks all free memory of the process, which takes a millisecond for some megabytes.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes the allocator's own locks and touches nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// From now on all threads share one arena of the allocator's, instead of up to eight for each processor.
///
/// glibc gives threads arenas of their own so that they do not wait for each other, and each keeps its free memory to itself.
/// A process whose many threads mostly wait for the kernel holds less with one.
pub fn share_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a number of the allocator's; arenas that are there already stay in use.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kilobytes of memory that no file stands behind.
    fn anonymous() -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_a_thread_freed_goes_back() {
        // Pieces so small that the allocator keeps them when they are freed, and every second one stays: so nothing goes
        // back that is not asked back.
        let burst = || {
            let pieces: Vec<Vec<u8>> = (0..4000).map(|_| vec![1; 16 << 10]).collect();
            pieces.into_iter().step_by(2).collect::<Vec<_>>()
        };
        let kept = std::thread::spawn(burst).join().unwrap();
        let before = anonymous();
        give_back();
        let after = anonymous();
        assert!(kept.iter().all(|piece| piece.iter().all(|byte| *byte == 1)));
        // Of 64,000 kB half are kept.
        assert!(before > 60_000 && after + 20_000 < before, "{before} kB before, {after} kB after");
    }
}
