//! Unified differences of texts, line by line, as Kubernetes shows what an update would have changed.
//!
//! The longest run of equal lines is kept, then the longest on either side of it and so on, which is what the library that
//! Kubernetes uses does: its answers are wire facts. Lines that are in more than a hundredth of a text of 200 lines or more
//! never begin a run.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

const CONTEXT: usize = 3;

/// The difference, without a head; empty where there is none.
#[must_use]
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in groups(changes(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let (from, to) = (first.old.start..last.old.end, first.new.start..last.new.end);
        let _ = writeln!(out, "@@ -{} +{} @@", span(&from), span(&to));
        for change in &group {
            let (gone, come) = if change.equal { (' ', None) } else { ('-', Some('+')) };
            for line in &old[change.old.clone()] {
                let _ = writeln!(out, "{gone}{line}");
            }
            for line in come.map_or(&[][..], |_| &new[change.new.clone()]) {
                let _ = writeln!(out, "+{line}");
            }
        }
    }
    out
}

/// `3,7`; one line is told without its count, none with the line before.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        length => format!("{},{length}", range.start + 1),
    }
}

/// Of more lines it is not looked for what is equal: that takes more than the square of them.
const MOST_LINES: usize = 4000;

/// Lines of the one that are replaced with lines of the other, or equal.
#[derive(Clone, Debug)]
struct Change {
    equal: bool,
    old: Range<usize>,
    new: Range<usize>,
}

/// A run of equal lines.
#[derive(Clone, Copy, Debug)]
struct Run {
    old: usize,
    new: usize,
    length: usize,
}

fn changes(old: &[&str], new: &[&str]) -> Vec<Change> {
    if old.len() + new.len() > MOST_LINES {
        return vec![Change { equal: false, old: 0..old.len(), new: 0..new.len() }];
    }
    let mut runs = Vec::new();
    let places = places(new);
    let mut pending = vec![(0..old.len(), 0..new.len())];
    while let Some((within_old, within_new)) = pending.pop() {
        let run = longest(old, new, &places, within_old.clone(), within_new.clone());
        if run.length > 0 {
            pending.push((within_old.start..run.old, within_new.start..run.new));
            pending.push((run.old + run.length..within_old.end, run.new + run.length..within_new.end));
            runs.push(run);
        }
    }
    runs.sort_by_key(|run| (run.old, run.new));
    runs.push(Run { old: old.len(), new: new.len(), length: 0 });
    let mut changes: Vec<Change> = Vec::new();
    let (mut at_old, mut at_new) = (0, 0);
    for run in runs {
        if at_old < run.old || at_new < run.new {
            changes.push(Change { equal: false, old: at_old..run.old, new: at_new..run.new });
        }
        (at_old, at_new) = (run.old + run.length, run.new + run.length);
        if run.length == 0 {
            continue;
        }
        match changes.last_mut() {
            Some(last) if last.equal => (last.old.end, last.new.end) = (at_old, at_new),
            _ => changes.push(Change { equal: true, old: run.old..at_old, new: run.new..at_new }),
        }
    }
    changes
}

/// Where each line of `new` stands, but for lines that are too frequent.
fn places<'a>(new: &[&'a str]) -> HashMap<&'a str, Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(index);
    }
    if new.len() >= 200 {
        let most = new.len() / 100 + 1;
        places.retain(|_, places| places.len() <= most);
    }
    places
}

fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    within_old: Range<usize>,
    within_new: Range<usize>,
) -> Run {
    let mut best = Run { old: within_old.start, new: within_new.start, length: 0 };
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for index in within_old.clone() {
        let mut next = HashMap::new();
        for &place in places.get(old[index]).map_or(&[][..], Vec::as_slice) {
            if !within_new.contains(&place) {
                continue;
            }
            let length = place.checked_sub(1).and_then(|before| lengths.get(&before)).unwrap_or(&0) + 1;
            next.insert(place, length);
            if length > best.length {
                best = Run { old: index + 1 - length, new: place + 1 - length, length };
            }
        }
        lengths = next;
    }
    // Frequent lines extend a run that others began.
    while best.old > within_old.start && best.new > within_new.start && old[best.old - 1] == new[best.new - 1]
    {
        best = Run { old: best.old - 1, new: best.new - 1, length: best.length + 1 };
    }
    while best.old + best.length < within_old.end
        && best.new + best.length < within_new.end
        && old[best.old + best.length] == new[best.new + best.length]
    {
        best.length += 1;
    }
    best
}

/// Changes that are near each other, with some equal lines around.
fn groups(mut changes: Vec<Change>) -> Vec<Vec<Change>> {
    if changes.iter().all(|change| change.equal) {
        return Vec::new();
    }
    if let Some(first) = changes.first_mut().filter(|first| first.equal) {
        first.old.start = first.old.start.max(first.old.end.saturating_sub(CONTEXT));
        first.new.start = first.new.start.max(first.new.end.saturating_sub(CONTEXT));
    }
    if let Some(last) = changes.last_mut().filter(|last| last.equal) {
        last.old.end = last.old.end.min(last.old.start + CONTEXT);
        last.new.end = last.new.end.min(last.new.start + CONTEXT);
    }
    let (mut groups, mut group) = (Vec::new(), Vec::new());
    for mut change in changes {
        if change.equal && change.old.len() > 2 * CONTEXT {
            let tail = Change {
                equal: true,
                old: change.old.end - CONTEXT..change.old.end,
                new: change.new.end - CONTEXT..change.new.end,
            };
            change.old.end = change.old.start + CONTEXT;
            change.new.end = change.new.start + CONTEXT;
            group.push(change);
            groups.push(std::mem::replace(&mut group, vec![tail]));
        } else {
            group.push(change);
        }
    }
    if group.iter().any(|change| !change.equal) {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn one_line_with_three_around() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni";
        assert_eq!(unified(old, &old.replace('e', "E")), "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n");
        assert_eq!(unified(old, old), "");
    }

    #[test]
    fn far_changes_are_apart() {
        let old: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let mut new = old.clone();
        new.remove(28);
        new.insert(1, "x".to_owned());
        let text = unified(&old.join("\n"), &new.join("\n"));
        assert_eq!(text, "@@ -1,4 +1,5 @@\n 0\n+x\n 1\n 2\n 3\n@@ -26,5 +27,4 @@\n 25\n 26\n 27\n-28\n 29\n");
    }
}
