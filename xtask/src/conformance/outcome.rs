//! Lines of results: `NAME ok`, `NAME not ok REASON`, `NAME skip REASON`. A reason after ` -- ` is ours: why it is so.

use std::collections::BTreeMap;
use std::fmt;

use crate::Result;

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    NotOk,
    Skip,
}

impl Outcome {
    const ALL: [(Self, &'static str); 3] = [(Self::NotOk, "not ok"), (Self::Ok, "ok"), (Self::Skip, "skip")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| word)
    }
}

/// A suite's tests by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes(BTreeMap<String, (Outcome, String)>);

/// A test that is not what it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    Worse { name: String, was: &'static str, is: String },
    Other { name: String, was: &'static str, is: &'static str },
}

impl Outcomes {
    pub(super) fn read(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| one(line).ok_or_else(|| format!("not a line of results: {line:?}").into()))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// With the explanations of `known`, where the outcome is still the same.
    pub(super) fn explained_by(&self, known: &Self) -> Self {
        let explained = self.0.iter().map(|(name, (outcome, said))| {
            let reason = match known.0.get(name) {
                Some((was, reason)) if was == outcome && !reason.is_empty() => reason.clone(),
                // What a test printed has paths and numbers of that run in it.
                _ if *outcome == Outcome::Ok => String::new(),
                _ => said.clone(),
            };
            (name.clone(), (*outcome, reason))
        });
        Self(explained.collect())
    }

    /// What is not as `known` says; tests that were not run count only if the suite was run `whole`.
    pub(super) fn differences(&self, known: &Self, whole: bool) -> Vec<Difference> {
        let mut all = Vec::new();
        for (name, (is, said)) in &self.0 {
            let was = known.0.get(name).map(|(outcome, _)| *outcome);
            match was {
                Some(was) if was == *is => {}
                Some(Outcome::Ok) => all.push(Difference::Worse {
                    name: name.clone(),
                    was: Outcome::Ok.word(),
                    is: format!("{} {said}", is.word()),
                }),
                None if *is == Outcome::NotOk => all.push(Difference::Worse {
                    name: name.clone(),
                    was: "not there",
                    is: format!("{} {said}", is.word()),
                }),
                was => all.push(Difference::Other {
                    name: name.clone(),
                    was: was.map_or("not there", Outcome::word),
                    is: is.word(),
                }),
            }
        }
        let gone = known.0.iter().filter(|(name, _)| whole && !self.0.contains_key(*name));
        all.extend(gone.map(|(name, (was, _))| Difference::Worse {
            name: name.clone(),
            was: was.word(),
            is: "not there".into(),
        }));
        all
    }
}

fn one(line: &str) -> Option<(String, (Outcome, String))> {
    // Names may have spaces, and these words in them: bats' stand in brackets, `file: [name]`.
    let bats = line.split_once(": [").is_some_and(|(file, _)| !file.contains(' '));
    let bracket = if bats { line.find("] ").map_or(0, |at| at + 1) } else { 0 };
    Outcome::ALL
        .iter()
        .filter_map(|(outcome, word)| {
            let found = line.get(bracket..)?.find(&format!(" {word}"))? + bracket;
            let rest = line.get(found + 1 + word.len()..)?;
            let whole_word = rest.is_empty() || rest.starts_with(' ');
            whole_word.then(|| (found, *outcome, rest.trim().to_owned()))
        })
        .min_by_key(|(found, ..)| *found)
        .map(|(found, outcome, reason)| (line.get(..found).unwrap_or_default().to_owned(), (outcome, reason)))
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wanted| self.0.values().filter(|(outcome, _)| *outcome == wanted).count();
        let (ok, not_ok, skip) = (count(Outcome::Ok), count(Outcome::NotOk), count(Outcome::Skip));
        writeln!(f, "# {ok} ok, {not_ok} not ok, {skip} skip")?;
        for (name, (outcome, reason)) in &self.0 {
            let line = format!("{name} {} {reason}", outcome.word());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worse { name, was, is } => write!(f, "WORSE   {name}: {was} -> {is}"),
            Self::Other { name, was, is } => write!(f, "changed {name}: {was} -> {is}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "# a note\nstart ok\nkill not ok (1/2/0) stale: -- the kernel lost it\nexec: [exec ok --pid-file] ok\nc::x skip no\nr::y not ok paths[0] is wrong: [b] ok\n";

    #[test]
    fn lines_survive_the_round_trip() {
        let book = Outcomes::read(BOOK).unwrap();
        assert_eq!(book.0.len(), 5);
        assert_eq!(book.0["exec: [exec ok --pid-file]"].0, Outcome::Ok);
        assert_eq!(Outcomes::read(&book.to_string()).unwrap(), book);
        assert!(Outcomes::read("nothing of the kind\n").is_err());
    }

    #[test]
    fn only_what_got_worse_is_an_error() {
        let book = Outcomes::read(BOOK).unwrap();
        let now = Outcomes::read(
            "start not ok broken\nkill ok\nnew ok\nother not ok\nexec: [exec ok --pid-file] ok\n",
        )
        .unwrap();
        let differences = now.differences(&book, true);
        let worse: Vec<_> = differences
            .iter()
            .filter_map(|d| match d {
                Difference::Worse { name, .. } => Some(name.as_str()),
                Difference::Other { .. } => None,
            })
            .collect();
        assert_eq!(worse, ["other", "start", "c::x", "r::y"]);
        assert_eq!(differences.len(), 6);
        assert_eq!(now.differences(&book, false).len(), 4);
    }

    #[test]
    fn explanations_stay_while_they_are_true() {
        let book = Outcomes::read(BOOK).unwrap();
        let now = Outcomes::read("start ok (3/0/0)\nkill not ok (1/2/0) pid 4711\nc::x ok\n").unwrap();
        let text = now.explained_by(&book).to_string();
        assert!(text.contains("kill not ok (1/2/0) stale: -- the kernel lost it\n"), "{text}");
        assert!(text.contains("start ok\n") && text.contains("c::x ok\n"), "{text}");
    }
}
