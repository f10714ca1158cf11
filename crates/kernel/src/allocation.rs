//! An allocator that catches what must not allocate: a process between clone and exec. For tests.
//!
//! A test binary makes [`Watched`] its global allocator and calls [`watch`]; from then on a copy of the process that
//! allocates says so on standard error and ends with code [`CAUGHT`]. A program executed in the copy is not watched.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, Ordering};

/// What a copy that allocated exits with.
pub const CAUGHT: i32 = 99;

static WATCHED: AtomicI32 = AtomicI32::new(0);

/// From now on this process, and no copy of it, may allocate.
pub fn watch() {
    WATCHED.store(own_pid(), Ordering::SeqCst);
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

fn check() {
    let watched = WATCHED.load(Ordering::Relaxed);
    // The copy may be the first process of a new PID namespace: it has another number all the same, unless this one is
    // a first process too.
    if watched != 0 && own_pid() != watched {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"an allocation between clone and exec\n");
        crate::process::exit_now(CAUGHT);
    }
}

/// The system's allocator, watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched;

// SAFETY: everything is the system allocator's, called with the arguments as they came; the check neither allocates nor
// unwinds.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
