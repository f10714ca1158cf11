//! Latencies as they are counted on one thread: what was counted is a [`Histogram`].

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use smi::latency::{Histogram, OCTAVES, PARTS, place};

type Octave = [Cell<u64>; PARTS];

/// Counts latencies of one thread. Memory is taken for those powers of two alone in which there is something.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    octaves: [OnceCell<Box<Octave>>; OCTAVES],
    micros: Cell<u64>,
}

impl Recorder {
    pub(crate) fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = place(micros);
        let octave = self.octaves.get(place / PARTS).map(|octave| octave.get_or_init(Box::default));
        if let Some(count) = octave.and_then(|octave| octave.get(place % PARTS)) {
            count.set(count.get() + 1);
        }
        self.micros.set(self.micros.get().saturating_add(micros));
    }

    /// What was counted.
    pub(crate) fn read(&self) -> Histogram {
        let mut parts = Vec::new();
        for (octave, number) in self.octaves.iter().zip(0_usize..) {
            let Some(octave) = octave.get() else { continue };
            let counts = octave.iter().map(Cell::get).zip(number * PARTS..);
            parts.extend(counts.filter(|(count, _)| *count > 0).map(|(count, place)| (place, count)));
        }
        Histogram::of(parts, self.micros.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_counted_where_it_belongs() {
        let recorder = Recorder::default();
        let all = [0, 1, 31, 32, 1000, 1001, 5_000_000, u64::MAX];
        all.iter().for_each(|micros| recorder.note(Duration::from_micros(*micros)));
        assert_eq!(recorder.read(), Histogram::of(all.map(|micros| (place(micros), 1)), u64::MAX));
    }
}
