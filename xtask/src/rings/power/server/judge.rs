//! Compares what an API server had said before a cut with what it says after it, in the words of `server_power`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use testkit::power::summary;

/// The number of an object that is deleted is one more than that of its last change.
const LAST: u64 = 3;

/// A change: of which version and object, and the object's number then.
type Change<'a> = (u64, &'a str, u64);

fn number<T: FromStr>(word: Option<&&str>) -> Result<T, String> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| format!("not understood: {word:?} is no number"))
}

/// How many changes an object has had.
fn changes(word: Option<&&str>) -> Result<u64, String> {
    if word == Some(&"gone") { Ok(LAST + 1) } else { number(word) }
}

/// What was said before the cut.
#[derive(Default)]
struct Before<'a> {
    /// In their order; a deletion has no version.
    acknowledged: Vec<Change<'a>>,
    told: BTreeMap<&'a str, Vec<Change<'a>>>,
    /// The highest version that anybody had heard of.
    version: u64,
}

impl<'a> Before<'a> {
    fn read(marks: &'a [String]) -> Result<Self, String> {
        let mut before = Before::default();
        for mark in marks {
            let words: Vec<&str> = mark.split(' ').collect();
            let version = match words.as_slice() {
                ["ack", name, rest @ ..] => {
                    let version = number(rest.get(1))?;
                    before.acknowledged.push((version, name, changes(rest.first())?));
                    version
                }
                ["told", watcher, version, name, rest @ ..] => {
                    let version = number(Some(version))?;
                    before.told.entry(watcher).or_default().push((version, name, changes(rest.first())?));
                    version
                }
                _ => return Err(format!("not understood: {mark}")),
            };
            before.version = before.version.max(version);
        }
        Ok(before)
    }
}

/// What is said after it.
#[derive(Default)]
struct After<'a> {
    listed: BTreeSet<&'a str>,
    told: BTreeMap<&'a str, Vec<Change<'a>>>,
    /// The version of the list, and that of an object that was made after it.
    list: u64,
    next: u64,
    damaged: Vec<String>,
}

impl<'a> After<'a> {
    fn read(said: &'a str) -> Result<Self, String> {
        let mut after = After::default();
        for line in said.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["lease", name, ..] => drop(after.listed.insert(name)),
                ["change", watcher, version, name, rest @ ..] => {
                    let change = (number(Some(version))?, *name, changes(rest.first())?);
                    after.told.entry(watcher).or_default().push(change);
                }
                ["list", version] => after.list = number(Some(version))?,
                ["next", version] => after.next = number(Some(version))?,
                ["damaged" | "damaged:", ..] => after.damaged.push(line.to_owned()),
                // A guest's kernel may say something too.
                _ => {}
            }
        }
        Ok(after)
    }

    /// All that happened.
    fn all(&self) -> &[Change<'a>] {
        self.told.get("all").map_or(&[], Vec::as_slice)
    }
}

/// The number that each object has come to.
fn numbers<'a>(changes: &[Change<'a>]) -> BTreeMap<&'a str, u64> {
    changes.iter().map(|(_, name, number)| (*name, *number)).collect()
}

/// Every acknowledged change is there, at its version, and at most one of each client that was not acknowledged; versions go
/// on; and all that watchers had seen happened as they had seen it.
pub(super) fn judge(marks: &[String], said: &str) -> Result<(), String> {
    let (before, after) = (Before::read(marks)?, After::read(said)?);
    let mut wrong = after.damaged.clone();
    wrong.extend(lost(&before, &after));
    wrong.extend(ahead(&before, &after));
    if after.list < before.version || after.next <= after.list {
        wrong.push(format!("versions went from {} to {} and {}", before.version, after.list, after.next));
    }
    for (watcher, seen) in &before.told {
        wrong.extend(unlike(watcher, seen, after.told.get(watcher).map_or(&[], Vec::as_slice)));
    }
    summary(wrong)
}

/// What was acknowledged and did not happen, and what the list has otherwise than it happened.
fn lost(before: &Before<'_>, after: &After<'_>) -> Vec<String> {
    let missing = |change: &&Change<'_>| {
        let (version, name, number) = **change;
        let same = |all: &Change<'_>| (all.1, all.2) == (name, number) && (all.0 == version || number > LAST);
        !after.all().iter().any(same)
    };
    let mut wrong: Vec<String> = before
        .acknowledged
        .iter()
        .filter(missing)
        .map(|change| format!("acknowledged, and did not happen: {change:?}"))
        .collect();
    for (name, number) in numbers(after.all()).into_iter().filter(|(name, _)| name.starts_with('n')) {
        if (number <= LAST) != after.listed.contains(name) {
            wrong.push(format!("{name} is at {number}, and is it listed? {}", after.listed.contains(name)));
        }
    }
    wrong
}

/// Clients that have done more than one change without an answer.
fn ahead(before: &Before<'_>, after: &After<'_>) -> Vec<String> {
    let (known, mut more) = (numbers(&before.acknowledged), BTreeMap::<&str, u64>::new());
    for (name, number) in numbers(after.all()) {
        let Some((client, _)) = name.split_once('-') else { continue };
        *more.entry(client).or_default() += number.saturating_sub(known.get(name).copied().unwrap_or(0));
    }
    let more = more.into_iter().filter(|(_, more)| *more > 1);
    more.map(|(client, more)| format!("{client} had {more} changes and no answer")).collect()
}

/// What one watcher saw is how all that happened begins.
fn unlike(watcher: &str, seen: &[Change<'_>], all: &[Change<'_>]) -> Option<String> {
    let first = seen.iter().enumerate().find(|(at, change)| all.get(*at) != Some(change))?;
    Some(format!("watcher {watcher} was told {:?}, and there was {:?}", first.1, all.get(first.0)))
}

#[cfg(test)]
mod tests {
    use super::judge;

    const MARKS: &str = "ack n0-1 1 10\ntold all 10 n0-1 1\nack n0-1 2 11\nack n1-1 1 12\nack n0-1 3 13\nack n0-1 gone 0\n\
                         told all 11 n0-1 2";
    const SAID: &str = "lease n1-1 2 15\nlist 15\nnext 16\nchange all 10 n0-1 1\nchange all 11 n0-1 2\nchange all 12 n1-1 1\n\
                        change all 13 n0-1 3\nchange all 14 n0-1 gone\nchange all 15 n1-1 2\nchange all 16 afterwards 1";

    fn judged(said: &str) -> Result<(), String> {
        let marks: Vec<String> = MARKS.lines().map(str::to_owned).collect();
        judge(&marks, said)
    }

    #[test]
    fn what_was_said_is_true() {
        assert_eq!(judged(SAID), Ok(()));
        assert_eq!(judge(&[], "list 5\nnext 6"), Ok(()));
    }

    #[test]
    fn what_is_not_is_wrong() {
        let all = [
            ("an acknowledged object is lost", "lease n1-1 2 15\n", ""),
            ("it is there in another version", "12 n1-1 1\n", "9 n1-1 1\n"),
            ("one that was deleted is back", "change all 14 n0-1 gone\n", ""),
            ("one that was deleted is listed", "lease n1-1", "lease n0-1 3 13\nlease n1-1"),
            ("more was done than was asked for", "15 n1-1 2\n", "15 n1-1 2\nchange all 15 n1-1 3\n"),
            ("a version went back", "list 15", "list 12"),
            ("a version came twice", "next 16", "next 15"),
            ("a watcher saw what was not", "change all 10 n0-1 1\n", ""),
            ("a watcher saw something else", "11 n0-1 2", "11 n2-1 2"),
            ("it says so", "list 15", "damaged: something\nlist 15"),
        ];
        for (what, from, to) in all {
            let said = SAID.replacen(from, to, 1);
            assert_ne!(said, SAID, "{what}");
            assert!(judged(&said).is_err(), "{what}");
        }
    }
}
