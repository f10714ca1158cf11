//! What must be true after a cut, given what had been promised: of each name the images it may stand for, of the store
//! what may be in it.

use std::collections::{BTreeMap, BTreeSet};

use testkit::power::summary;

use super::images::{RECORD, Stock};

/// What each name may stand for; `None` is nothing.
type May<'a> = BTreeMap<&'a str, BTreeSet<Option<&'a str>>>;
/// What each name stands for.
type Names<'a> = BTreeMap<&'a str, &'a str>;

/// Judges what the guest found on a disk (`look.sh`).
pub(super) fn judge(stock: &Stock, marks: &[String], said: &str) -> Result<(), String> {
    let mut wrong: Vec<String> = said
        .lines()
        .filter(|line| line.starts_with("damaged:") || line.starts_with("left:"))
        .map(str::to_owned)
        .collect();
    let mut phases = BTreeMap::new();
    for phase in said.split("phase ").skip(1) {
        let (name, text) = phase.split_once('\n').unwrap_or((phase, ""));
        phases.insert(name.trim(), text);
    }
    let listed = |phase: &str| names(phases.get(phase).copied().unwrap_or_default(), "listed ");
    let (cut, pulled) = (listed("cut"), listed("pulled"));
    promised(&may(marks), &cut, &mut wrong);
    let all: Names<'_> = stock.newest().collect();
    if pulled != all {
        wrong.push(format!("pulled again: {pulled:?} and not {all:?}"));
    }
    for (phase, listed) in [("cut", &cut), ("pulled", &pulled)] {
        let whole = names(phases.get(phase).copied().unwrap_or_default(), "whole ");
        for (name, _) in listed.iter().filter(|(name, digest)| whole.get(*name) != Some(*digest)) {
            wrong.push(format!("{phase}: {name} is listed and not whole"));
        }
    }
    for (phase, owners) in [("pruned", &cut), ("collected", &pulled)] {
        match phases.get(phase) {
            Some(text) => kept(stock, owners, text, phase, &mut wrong),
            // Only every other disk is collected before everything is pulled again.
            None if phase == "pruned" => {}
            None => wrong.push(format!("there is no phase {phase}")),
        }
    }
    summary(wrong)
}

/// What each name may stand for after these marks. Whatever has begun may have come to pass; what is acknowledged has.
fn may(marks: &[String]) -> May<'_> {
    let mut may = May::new();
    for mark in marks {
        let words: Vec<&str> = mark.split_whitespace().collect();
        let (when, name, image) = match words.as_slice() {
            [when, "pull", name, digest] => (*when, *name, Some(*digest)),
            [when, "rmi", name] => (*when, *name, None),
            _ => continue,
        };
        let images = may.entry(name).or_insert_with(|| BTreeSet::from([None]));
        if when == "ack" {
            images.clear();
        }
        images.insert(image);
    }
    may
}

fn promised(may: &May<'_>, listed: &Names<'_>, wrong: &mut Vec<String>) {
    for (name, images) in may {
        let found = listed.get(name).copied();
        if !images.contains(&found) {
            wrong.push(format!("{name} is {found:?}, and may be {images:?}"));
        }
    }
    for name in listed.keys().filter(|name| !may.contains_key(*name)) {
        wrong.push(format!("{name} is listed, and nobody pulled it yet"));
    }
}

/// Lines `KEY NAME DIGEST`.
fn names<'a>(text: &'a str, key: &str) -> Names<'a> {
    let lines = text.lines().filter_map(|line| line.trim_end().strip_prefix(key));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

/// After a collection the store holds what its images need, and not a file more.
fn kept(stock: &Stock, owners: &Names<'_>, text: &str, phase: &str, wrong: &mut Vec<String>) {
    let found: BTreeSet<&str> =
        text.lines().filter_map(|line| line.trim_end().strip_prefix("kept ")).collect();
    let needed = stock.paths(owners.values().copied());
    for path in found.iter().filter(|path| !needed.contains(**path) && !RECORD.contains(*path)) {
        wrong.push(format!("{phase}: {path} is kept, and nobody needs it"));
    }
    for path in needed.iter().filter(|path| !found.contains(path.as_str())) {
        wrong.push(format!("{phase}: {path} is missing"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(text: &str) -> Vec<String> {
        text.split(", ").map(str::to_owned).collect()
    }

    fn verdict(text: &str, listed: &[(&str, &str)]) -> usize {
        let marks = marks(text);
        let mut wrong = Vec::new();
        promised(&may(&marks), &listed.iter().copied().collect(), &mut wrong);
        wrong.len()
    }

    #[test]
    fn what_is_promised_and_what_may_be() {
        let pulled = "begin pull a x, ack pull a x";
        assert_eq!(verdict(pulled, &[("a", "x")]), 0);
        assert_eq!(verdict(pulled, &[]), 1, "lost");
        assert_eq!(verdict(pulled, &[("a", "y")]), 1, "another image");
        assert_eq!(verdict(pulled, &[("a", "x"), ("b", "x")]), 1, "from nowhere");
        let begun = "begin pull a x";
        assert_eq!(verdict(begun, &[]) + verdict(begun, &[("a", "x")]), 0);
        let moved = "begin pull a x, ack pull a x, begin pull a y";
        assert_eq!(verdict(moved, &[("a", "x")]) + verdict(moved, &[("a", "y")]), 0);
        assert_eq!(verdict(moved, &[]), 1);
        let removing = "ack pull a x, begin rmi a";
        assert_eq!(verdict(removing, &[]) + verdict(removing, &[("a", "x")]), 0);
        let removed = "ack pull a x, begin rmi a, ack rmi a";
        assert_eq!(verdict(removed, &[]), 0);
        assert_eq!(verdict(removed, &[("a", "x")]), 1, "back from the dead");
        // A pull that was killed may have come to its end, until the next has.
        let killed = "ack rmi a, begin pull a x, begin pull a y";
        assert_eq!(verdict(killed, &[]) + verdict(killed, &[("a", "x")]) + verdict(killed, &[("a", "y")]), 0);
    }
}
