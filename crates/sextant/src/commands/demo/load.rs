//! A caller under whose load things are changed: it asks an address again and again, and tells what was answered.

use std::collections::BTreeMap;
use std::io::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::app::{VERSION, ask_within, end_when_told, listen, missing};

/// How many ask at a time.
const ASKERS: usize = 2;
/// How long each of them waits before it asks again.
const PAUSE: Duration = Duration::from_millis(5);
/// What is not accepted, or not answered, in this time has failed: longer than a machine that does much else takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of requests.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// How many had this answer.
    pub(super) answers: BTreeMap<String, u64>,
    /// How many had none, or that of a failure.
    pub(super) failed: u64,
    /// What the last of these had instead.
    pub(super) why: String,
}

impl Tally {
    /// How many had this answer.
    pub(super) fn of(&self, answer: &str) -> u64 {
        self.answers.get(answer).copied().unwrap_or_default()
    }

    /// How many there were.
    pub(super) fn total(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.failed
    }

    /// With those that came after them.
    pub(super) fn add(&mut self, later: Self) {
        for (answer, count) in later.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.failed += later.failed;
        if later.failed > 0 {
            self.why = later.why;
        }
    }

    fn count(&mut self, answered: Result<String>) {
        match answered {
            Ok(answer) => *self.answers.entry(answer).or_default() += 1,
            Err(error) => {
                self.failed += 1;
                self.why = error.to_string();
            }
        }
    }
}

/// What was counted since it was taken the last time, of requests that began after the last time that all was forgotten.
#[derive(Debug, Default)]
struct Counted {
    tally: Tally,
    /// How often all was forgotten.
    turn: u64,
}

/// Asks `address`, until this is told to end. `POST /take` answers what came of the requests that have ended since; after `POST /forget` those count that
/// begin then.
pub(super) fn load(address: &str) -> Result<()> {
    // Threads that are started later leave the signal to who waits for it.
    end_when_told()?;
    let counted = Arc::new(Mutex::new(Counted::default()));
    for _ in 0..ASKERS {
        let (counted, address) = (Arc::clone(&counted), address.to_owned());
        thread::spawn(move || {
            loop {
                let turn = lock(&counted).turn;
                let answered = ask_within("GET", &address, VERSION, PATIENCE);
                let mut counted = lock(&counted);
                if counted.turn == turn {
                    counted.tally.count(answered);
                }
                drop(counted);
                thread::sleep(PAUSE);
            }
        });
    }
    listen(move |method, path, _| match (method, path) {
        ("POST", "/take") => {
            let taken = std::mem::take(&mut lock(&counted).tally);
            serde_json::to_string(&taken).map_or_else(|error| (500, error.to_string()), |text| (200, text))
        }
        ("POST", "/forget") => {
            let mut counted = lock(&counted);
            *counted = Counted { tally: Tally::default(), turn: counted.turn + 1 };
            (200, String::new())
        }
        ("GET", "/healthz") => (200, "asks".into()),
        _ => missing(path),
    })
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up() {
        let mut all = Tally::default();
        for answered in
            [Ok("v1".to_owned()), Ok("v2".into()), Ok("v1".into()), Err(std::io::Error::other("gone"))]
        {
            all.count(answered);
        }
        assert_eq!((all.of("v1"), all.of("v2"), all.of("v3"), all.failed, all.total()), (2, 1, 0, 1, 4));
        let mut later = Tally::default();
        later.count(Ok("v2".into()));
        all.add(later);
        assert_eq!((all.of("v2"), all.total(), all.why.as_str()), (2, 5, "gone"));
        let read: Tally = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
        assert_eq!((read.answers, read.failed, read.why), (all.answers, all.failed, all.why));
    }
}
