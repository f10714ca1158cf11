//! What is kept of a volume or a snapshot in its place, and the numbers that dm-thin knows them by.
//!
//! A number is in a place, durably, before dm-thin has it, and as long as dm-thin has it: so none is ever without an owner, and
//! nobody has to ask dm-thin which there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use grpc::{Code, Failure};
use serde::{Deserialize, Serialize};

use crate::plugin::backend::{copy, failed};
use crate::plugin::pool::record;

const FORMAT: u32 = 1;
const FILE: &str = "thin.json";
/// As many devices as dm-thin has numbers for.
const NUMBERS: u32 = 1 << 24;

/// A device of dm-thin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Thin {
    format: u32,
    /// What dm-thin knows it by.
    pub(super) number: u32,
    /// How large it is, which dm-thin does not know: at least what the volume's capacity needs.
    pub(super) bytes: u64,
}

impl Thin {
    pub(super) fn new(number: u32, bytes: u64) -> Thin {
        Thin { format: FORMAT, number, bytes }
    }

    /// That of a place; none where none was made yet.
    pub(super) fn find(place: &Path) -> Result<Option<Thin>, Failure> {
        record::find(place, FILE, |thin: &Thin| {
            record::is_known(thin.format, FORMAT)?;
            let is_number = (1..NUMBERS).contains(&thin.number);
            if is_number { Ok(()) } else { Err(format!("{} is no number of dm-thin's", thin.number)) }
        })
    }

    pub(super) fn read(place: &Path) -> Result<Thin, Failure> {
        Thin::find(place)?.ok_or_else(|| failed("read", &place.join(FILE), &"it is missing"))
    }

    /// Writes it into a place, durably with the place's own name, in the stead of what was there.
    pub(super) fn write(&self, place: &Path) -> Result<(), Failure> {
        record::put(place, FILE, self)?;
        copy::sync_names(&[place.parent().unwrap_or(place)])
    }

    /// Takes it out of a place again: with a place goes what it names, and this is another's.
    pub(super) fn forget(place: &Path) -> Result<(), Failure> {
        let path = place.join(FILE);
        fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))
    }
}

/// Numbers that are taken.
#[derive(Default)]
pub(super) struct Numbers(Mutex<BTreeSet<u32>>);

impl Numbers {
    /// Those in all places.
    pub(super) fn of(places: &[std::path::PathBuf]) -> Numbers {
        let numbers = Numbers::default();
        for place in places {
            match Thin::find(place) {
                Ok(thin) => numbers.held().extend(thin.map(|thin| thin.number)),
                // Its number is not given away: dm-thin says that it has it.
                Err(error) => eprintln!("sextant csi: {error}"),
            }
        }
        numbers
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that nobody has.
    pub(super) fn take(&self) -> Result<u32, Failure> {
        let mut held = self.held();
        // After the last one, so that none comes again soon; from the beginning where those are used up.
        let after = held.last().map_or(1, |last| last + 1);
        let number = if after < NUMBERS { Some(after) } else { (1..NUMBERS).find(|n| !held.contains(n)) };
        let number = number.ok_or_else(|| {
            Failure::new(Code::ResourceExhausted, "the pool has as many volumes and snapshots as it can have")
        })?;
        held.insert(number);
        Ok(number)
    }

    pub(super) fn give_back(&self, number: u32) {
        self.held().remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_its_place_and_given_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Thin::find(dir.path()).unwrap(), None);
        assert!(Thin::read(dir.path()).unwrap_err().message.contains("missing"));
        for bytes in [1, 2] {
            Thin::new(7, bytes).write(dir.path()).unwrap();
            assert_eq!(Thin::read(dir.path()).unwrap(), Thin::new(7, bytes));
        }
        let numbers = Numbers::of(&[dir.path().to_owned()]);
        assert_eq!([numbers.take().unwrap(), numbers.take().unwrap()], [8, 9]);
        numbers.held().insert(NUMBERS - 1);
        assert_eq!(numbers.take().unwrap(), 1);
        numbers.give_back(NUMBERS - 1);
        numbers.give_back(9);
        assert_eq!(numbers.take().unwrap(), 9);
        Thin::forget(dir.path()).unwrap();
        assert_eq!(Thin::find(dir.path()).unwrap(), None);
        let told = |number: u32| format!(r#"{{"format":1,"number":{number},"bytes":1}}"#);
        for text in ["{", &told(0), &told(NUMBERS), &told(u32::MAX)] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert!(Thin::find(dir.path()).is_err(), "{text}");
        }
    }
}
