//! This process's memory.

mod image;

pub use image::map_single_pages;

/// Gives back to the kernel what a burst of work has left in this process: pages that the allocator holds free, those of the
/// programs' text and constants, and of the first thread's stack, where that calls, what is far below the caller.
///
/// glibc keeps what threads have freed in arenas of theirs, after their end too, and what ran once, at the start or in the burst,
/// stays mapped: a process that lives long and works in bursts does this after one. What runs again comes from the page
/// cache, some pages at a time, or one ([`map_single_pages`]). It walks all free memory of the process, which takes a millisecond
/// for some megabytes.
///
/// # Errors
/// `/proc/self/maps` cannot be read: text, constants and stack are held then, and nothing else is lost.
pub fn give_back() -> crate::Result<()> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes the allocator's own locks and touches nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = image::maps()?;
    image::give_back(&maps);
    let here = &raw const maps as usize;
    if let Some((start, length)) = maps.lines().find_map(|line| stack_below(line, here)) {
        // SAFETY: the pages are of this thread's own stack, and more than `APART` below a variable of this function. Nothing
        // that is alive is below the stack pointer (but for the red zone, which is much smaller), and what will be there is
        // written before it is read.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
    Ok(())
}

/// So far below a caller (bytes) its stack is free, whatever calls were inlined, and is not needed again at once.
const APART: usize = 64 << 10;

/// Where the free part of the first thread's stack begins and how long it is, if `line` is that stack and `here` is on it.
fn stack_below(line: &str, here: usize) -> Option<(usize, usize)> {
    let (start, end) = line.strip_suffix("[stack]")?.split_ascii_whitespace().next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    // Pages have at most 64 KiB.
    let free = here.checked_sub(APART)? & !(APART - 1);
    (here < end && free > start).then(|| (start, free - start))
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
    fn text_comes_back_when_it_runs() {
        let held = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut is_text = false;
            let mut sum = 0;
            for line in text.lines() {
                let mut fields = line.split_ascii_whitespace();
                match (fields.next(), fields.next()) {
                    (Some("Rss:"), Some(kb)) if is_text => sum += kb.parse::<u64>().unwrap(),
                    (Some(first), _) if !first.ends_with(':') => {
                        is_text = line.contains(" r-xp ") && line.contains('/')
                    }
                    _ => {}
                }
            }
            sum
        };
        let sorted = |n: u64| {
            let mut all: Vec<String> = (0..n).map(|i| (i * 7919 % n).to_string()).collect();
            all.sort();
            all.concat().len()
        };
        let length = sorted(1000);
        // Other tests run in this process, too, and have their text come back at any time.
        let is_less = (0..200).any(|_| {
            let before = held();
            give_back().unwrap();
            held() < before
        });
        assert!(is_less, "{} kB of text are held whatever is forgotten", held());
        assert_eq!(sorted(1000), length);
    }

    #[test]
    fn only_the_stack_that_calls_is_given_back() {
        let line = "7ffff7e00000-7ffff8000000 rw-p 00000000 00:00 0                          [stack]";
        assert_eq!(stack_below(line, 0x7fff_f7ff_1234), Some((0x7fff_f7e0_0000, 0x1e_0000)));
        for (line, here) in [
            (line, 0x7fff_f8ff_0000),
            (line, 0x7fff_f7e0_ffff),
            (line, 0x7000_0000_0000),
            (
                "7ffff7e00000-7ffff8000000 rw-p 00000000 00:00 0                          [heap]",
                0x7fff_f7ff_1234,
            ),
        ] {
            assert_eq!(stack_below(line, here), None, "{line} {here:x}");
        }
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
        give_back().unwrap();
        let after = anonymous();
        assert!(kept.iter().all(|piece| piece.iter().all(|byte| *byte == 1)));
        // Of 64,000 kB half are kept.
        assert!(before > 60_000 && after + 20_000 < before, "{before} kB before, {after} kB after");
    }
}
