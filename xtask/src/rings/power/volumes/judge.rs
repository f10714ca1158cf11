//! What must be true after a cut, given what was begun and acknowledged, in the words of `driver_power`.

use std::collections::{BTreeMap, BTreeSet};

use testkit::power::summary;

/// What is known of a volume or a snapshot.
#[derive(Clone, Debug, Default)]
struct Known<'a> {
    /// How large it may be.
    bytes: BTreeSet<&'a str>,
    /// What its file has; any bytes while it is written to.
    sum: Option<&'a str>,
    /// It may be gone.
    may_be_gone: bool,
    is_gone: bool,
}

/// What was said before the cut: by id, and how many may have come to be without an answer.
#[derive(Debug, Default)]
struct Before<'a> {
    volumes: BTreeMap<&'a str, Known<'a>>,
    snapshots: BTreeMap<&'a str, Known<'a>>,
    volumes_begun: usize,
    snapshots_begun: usize,
}

fn known<'k, 'a>(all: &'k mut BTreeMap<&'a str, Known<'a>>, id: &str) -> Result<&'k mut Known<'a>, String> {
    all.get_mut(id).ok_or_else(|| format!("not understood: {id} was not there"))
}

impl<'a> Before<'a> {
    fn read(marks: &'a [String]) -> Result<Self, String> {
        let mut before = Before::default();
        for mark in marks {
            before.add(mark)?;
        }
        Ok(before)
    }

    fn add(&mut self, mark: &'a str) -> Result<(), String> {
        let words: Vec<&str> = mark.split(' ').collect();
        let made = |bytes, sum| Known { bytes: [bytes].into(), sum: Some(sum), ..Known::default() };
        match *words.as_slice() {
            ["begin", "create"] => self.volumes_begun += 1,
            ["ack", "create", id, bytes, sum] => {
                self.volumes_begun = self.volumes_begun.saturating_sub(1);
                self.volumes.insert(id, made(bytes, sum));
            }
            ["begin", "snapshot"] => self.snapshots_begun += 1,
            ["ack", "snapshot", id, bytes, sum] => {
                self.snapshots_begun = self.snapshots_begun.saturating_sub(1);
                self.snapshots.insert(id, made(bytes, sum));
            }
            ["begin", "group", members] => {
                self.snapshots_begun +=
                    members.parse::<usize>().map_err(|_| format!("not understood: {mark}"))?;
            }
            ["ack", "group", ref members @ ..] if members.len().is_multiple_of(3) => {
                for member in members.chunks_exact(3) {
                    self.snapshots_begun = self.snapshots_begun.saturating_sub(1);
                    self.snapshots.insert(member[0], made(member[1], member[2]));
                }
            }
            ["begin", "write", id] => known(&mut self.volumes, id)?.sum = None,
            ["ack", "write", id, sum] => known(&mut self.volumes, id)?.sum = Some(sum),
            ["begin", "expand", id, bytes] => drop(known(&mut self.volumes, id)?.bytes.insert(bytes)),
            ["ack", "expand", id, bytes] => known(&mut self.volumes, id)?.bytes = [bytes].into(),
            ["begin", "delete", id] => known(&mut self.volumes, id)?.may_be_gone = true,
            ["ack", "delete", id] => known(&mut self.volumes, id)?.is_gone = true,
            ["begin", "unsnapshot", id] => known(&mut self.snapshots, id)?.may_be_gone = true,
            ["ack", "unsnapshot", id] => known(&mut self.snapshots, id)?.is_gone = true,
            ["begin", "ungroup", ref members @ ..] => {
                for id in members {
                    known(&mut self.snapshots, id)?.may_be_gone = true;
                }
            }
            ["ack", "ungroup", ref members @ ..] => {
                for id in members {
                    known(&mut self.snapshots, id)?.is_gone = true;
                }
            }
            _ => return Err(format!("not understood: {mark}")),
        }
        Ok(())
    }
}

/// What was acknowledged is there, as it was acknowledged to be, and at most as much more as was begun.
pub(super) fn judge(marks: &[String], said: &str) -> Result<(), String> {
    let before = Before::read(marks)?;
    let mut wrong: Vec<String> =
        said.lines().filter(|line| line.starts_with("damaged:")).map(str::to_owned).collect();
    if !said.lines().any(|line| line == "looked") {
        wrong.push("it was not looked at to the end".into());
    }
    compare("volume", &before.volumes, before.volumes_begun, said, &mut wrong);
    compare("snapshot", &before.snapshots, before.snapshots_begun, said, &mut wrong);
    summary(wrong)
}

fn compare(what: &str, known: &BTreeMap<&str, Known<'_>>, begun: usize, said: &str, wrong: &mut Vec<String>) {
    let mut there = BTreeMap::new();
    for line in said.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        if let [first, id, bytes, sum] = *words.as_slice()
            && first == what
        {
            there.insert(id, (bytes, sum));
        }
    }
    for (id, known) in known {
        match there.remove(id) {
            Some(_) if known.is_gone => wrong.push(format!("{what} {id} was deleted, and is there")),
            None if known.is_gone || known.may_be_gone => {}
            None => wrong.push(format!("{what} {id} was acknowledged, and is gone")),
            Some((bytes, sum)) => {
                if !known.bytes.contains(bytes) {
                    wrong.push(format!("{what} {id} has {bytes} bytes, not {:?}", known.bytes));
                }
                if let Some(wanted) = known.sum.filter(|wanted| *wanted != sum) {
                    wrong.push(format!("{what} {id} has {sum} in its file, not {wanted}"));
                }
            }
        }
    }
    if there.len() > begun {
        wrong.push(format!("{begun} of {what}s were begun, and there are {:?}", there.keys()));
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    const MARKS: &str = "begin create\nack create a-1 100 none\nbegin write a-1\nack write a-1 s1\nbegin snapshot\n\
                         ack snapshot a-s 100 s1\nbegin write a-1\nack write a-1 s2\nbegin expand a-1 150\n\
                         ack expand a-1 150\nbegin create\nack create a-2 100 s1\nbegin delete a-2\nack delete a-2\n\
                         begin create\nack create a-3 100 none\nbegin delete a-3\nbegin create\nbegin group 2\n\
                         ack group a-g1 100 s2 a-g2 100 none\nbegin group 1\nack group a-h 100 s2\nbegin ungroup a-h\n\
                         ack ungroup a-h";
    const SAID: &str = "volume a-1 150 s2\nvolume a-3 100 none\nvolume a-4 100 none\nsnapshot a-s 100 s1\n\
         snapshot a-g1 100 s2\nsnapshot a-g2 100 none\nlooked";

    fn judged(marks: &str, said: &str) -> Result<(), String> {
        let marks: Vec<String> = marks.lines().map(str::to_owned).collect();
        judge(&marks, said)
    }

    #[test]
    fn what_was_acknowledged_is_true() {
        assert_eq!(judged(MARKS, SAID), Ok(()));
        assert_eq!(judged("", "looked"), Ok(()));
        // What was begun may have come to pass or not.
        assert_eq!(judged(MARKS, &SAID.replace("volume a-3 100 none\nvolume a-4 100 none\n", "")), Ok(()));
        let writing = format!("{MARKS}\nbegin write a-1\nbegin expand a-1 200");
        for line in ["volume a-1 150 s2", "volume a-1 200 other"] {
            assert_eq!(judged(&writing, &SAID.replace("volume a-1 150 s2", line)), Ok(()));
        }
    }

    #[test]
    fn what_is_not_is_wrong() {
        for (what, from, to) in [
            ("a volume is lost", "volume a-1 150 s2\n", ""),
            ("a volume has its old size", "a-1 150", "a-1 100"),
            ("what was synced is lost", "150 s2", "150 s1"),
            ("a snapshot is lost", "snapshot a-s 100 s1\n", ""),
            ("a snapshot has something else", "100 s1", "100 s2"),
            ("one that was deleted is back", "volume a-3", "volume a-2 100 s1\nvolume a-3"),
            ("one too many is there", "volume a-4", "volume a-5 100 none\nvolume a-4"),
            ("a snapshot that nobody wanted", "looked", "snapshot a-t 100 s1\nlooked"),
            ("a member of a group is lost", "snapshot a-g2 100 none\n", ""),
            ("a group that was deleted is back", "looked", "snapshot a-h 100 s2\nlooked"),
            ("something is left", "looked", "damaged: gone/a-9 is left\nlooked"),
            ("it ended before", "looked", ""),
        ] {
            assert!(judged(MARKS, &SAID.replacen(from, to, 1)).is_err(), "{what}");
        }
    }
}
