//! What the scheduler, the I/O scheduler and the memory allocator are told of the calling thread, and its execution
//! domain. Everything here may run between clone and exec: it allocates nothing.

use rustix::io::Errno;

use crate::process::last_errno;

/// What sched_setattr(2) gets: `struct sched_attr` of Linux 5.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Attributes {
    /// Its own size, which the default has.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, for the policies that share.
    pub nice: i32,
    /// 1 to 99, for the policies of real time.
    pub priority: u32,
    /// Nanoseconds of run time, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds until that run time is due.
    pub deadline: u64,
    /// Nanoseconds from one to the next.
    pub period: u64,
    /// The least utilisation to assume, 0 to 1024.
    pub clamp_min: u32,
    /// The greatest.
    pub clamp_max: u32,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            size: size_of::<Self>() as u32,
            policy: 0,
            flags: 0,
            nice: 0,
            priority: 0,
            runtime: 0,
            deadline: 0,
            period: 0,
            clamp_min: 0,
            clamp_max: 0,
        }
    }
}

fn outcome(result: libc::c_long) -> rustix::io::Result<()> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// sched_setattr(2) of the calling thread.
pub fn set_attributes(attributes: &Attributes) -> rustix::io::Result<()> {
    let attributes: *const Attributes = attributes;
    // SAFETY: a sched_attr that says its own size and outlives the call; 0 is the calling thread.
    outcome(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes, 0) })
}

/// An I/O scheduling class, as ioprio_set(2) numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum IoClass {
    /// First, always.
    RealTime = 1,
    /// By priority.
    BestEffort = 2,
    /// Only when nobody else asks.
    Idle = 3,
}

/// ioprio_set(2) of the calling process's group: a class, and 0 (first) to 7 within it.
pub fn set_io_priority(class: IoClass, priority: u8) -> rustix::io::Result<()> {
    const IOPRIO_WHO_PGRP: libc::c_int = 2;
    let word = (class as u32) << 13 | u32::from(priority);
    // SAFETY: numbers only.
    outcome(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, word) })
}

/// ioprio_get(2) of the calling thread: the class from bit 13 on, the priority below.
pub fn io_priority() -> rustix::io::Result<u32> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: numbers only.
    let word = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) };
    u32::try_from(word).map_err(|_| last_errno())
}

/// sched_setaffinity(2) of the calling thread: bit n of the words is CPU n. CPUs that the machine does not have count
/// for nothing, unless there is no other.
pub fn set_affinity(mask: &[u64]) -> rustix::io::Result<()> {
    // SAFETY: so many bytes of words that outlive the call; the kernel only reads.
    outcome(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) })
}

/// sched_getaffinity(2) of the calling thread; the words beyond what the kernel knows are zero.
pub fn affinity(mask: &mut [u64]) -> rustix::io::Result<()> {
    mask.fill(0);
    // SAFETY: the kernel writes at most so many bytes to words that are writable and have any value.
    outcome(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(mask), mask.as_mut_ptr()) })
}

/// set_mempolicy(2) of the calling thread: a mode with its flags (`MPOL_*`) and the nodes, bit n of the words is node n.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> rustix::io::Result<()> {
    let (address, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        // The kernel reads one bit less than it is told of.
        words => (words.as_ptr(), words.len() as u64 * 64 + 1),
    };
    // SAFETY: null with no bits, or an address whose words hold so many bits; the kernel only reads.
    outcome(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, address, bits) })
}

/// personality(2): the execution domain of what the calling process executes.
pub fn set_personality(domain: u32) -> rustix::io::Result<()> {
    // That number asks and sets nothing.
    if domain == u32::MAX {
        return Err(Errno::INVAL);
    }
    // SAFETY: a number; it changes how later calls behave, not memory.
    outcome(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(domain)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_scheduled_as_asked() {
        std::thread::spawn(|| {
            let batch = Attributes { policy: libc::SCHED_BATCH as u32, nice: 7, ..Attributes::default() };
            set_attributes(&batch).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
            assert_eq!((fields[16], fields[38]), ("7", "3"), "{stat}");
            let wrong = Attributes { policy: 99, ..Attributes::default() };
            assert_eq!(set_attributes(&wrong), Err(Errno::INVAL));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn affinity_is_what_was_set() {
        std::thread::spawn(|| {
            let (mut before, mut after) = ([0; 16], [0; 16]);
            affinity(&mut before).unwrap();
            let first = before[0] & before[0].wrapping_neg();
            set_affinity(&[first]).unwrap();
            affinity(&mut after).unwrap();
            assert_eq!(after[0], first);
            // More than the kernel has is cut to what there is.
            set_affinity(&[u64::MAX; 128]).unwrap();
            affinity(&mut after).unwrap();
            assert_eq!(after, before);
            assert_eq!(set_affinity(&[0]), Err(Errno::INVAL));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn memory_comes_from_the_nodes_that_were_named() {
        const MPOL_BIND: i32 = 2;
        std::thread::spawn(|| {
            set_memory_policy(MPOL_BIND, &[1]).unwrap();
            let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap();
            assert!(maps.lines().any(|l| l.contains(" bind:0 ")), "{maps}");
            assert_eq!(set_memory_policy(MPOL_BIND, &[0]), Err(Errno::INVAL));
            set_memory_policy(0, &[]).unwrap();
        })
        .join()
        .unwrap();
    }
}
