//! Two calls never work on the same thing: the second is told to come again (CSI, "Concurrency").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use grpc::{Code, Failure};

/// Who works on what.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<String, Held>>>);

#[derive(Clone, Copy)]
enum Held {
    Alone,
    Together(usize),
}

/// A thing's turn; given back when this is dropped.
pub(crate) struct Turn {
    turns: Turns,
    what: String,
}

impl Turns {
    /// For who changes it.
    ///
    /// # Errors
    /// `Aborted` while somebody else has it.
    pub(crate) fn alone(&self, what: &str) -> Result<Turn, Failure> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(what) {
            return Err(pending(what));
        }
        held.insert(what.to_owned(), Held::Alone);
        Ok(self.turn(what))
    }

    /// For who reads it and needs it to stay.
    ///
    /// # Errors
    /// `Aborted` while somebody changes it.
    pub(crate) fn together(&self, what: &str) -> Result<Turn, Failure> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.entry(what.to_owned()).or_insert(Held::Together(0)) {
            Held::Alone => return Err(pending(what)),
            Held::Together(count) => *count += 1,
        }
        Ok(self.turn(what))
    }

    fn turn(&self, what: &str) -> Turn {
        Turn { turns: self.clone(), what: what.to_owned() }
    }
}

fn pending(what: &str) -> Failure {
    Failure::new(Code::Aborted, format!("another call works on {what:?}: try again when it has ended"))
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.what) {
            Some(Held::Together(count)) if *count > 1 => *count -= 1,
            _ => {
                held.remove(&self.what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_has_one_who_changes_it_or_many_who_read_it() {
        let turns = Turns::default();
        let first = turns.alone("v").unwrap();
        assert_eq!(turns.alone("v").err().unwrap().code, Code::Aborted);
        assert!(turns.together("v").is_err() && turns.alone("w").is_ok());
        drop(first);
        let readers = (turns.together("v").unwrap(), turns.together("v").unwrap());
        assert!(turns.alone("v").is_err());
        drop(readers.0);
        assert!(turns.alone("v").is_err());
        drop(readers.1);
        turns.alone("v").unwrap();
    }
}
