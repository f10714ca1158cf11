//! Memory to read into.

use std::cell::Cell;

/// What is read at a time.
const CHUNK: usize = 64 * 1024;

thread_local! {
    /// One for each thread, not for each connection: idle ones, of which there are many, own no buffer.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends `act` a buffer whose contents mean nothing.
pub(crate) fn with_scratch<T>(act: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out meanwhile: should `act` come here again, it gets another.
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
    let done = act(&mut scratch);
    SCRATCH.set(Some(scratch));
    done
}
