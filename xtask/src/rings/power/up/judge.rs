//! What must be true after a cut, given what was begun and acknowledged, in the words of `up_power`.

use std::collections::{BTreeMap, BTreeSet};

use testkit::power::summary;

/// The state of what was deleted, or never was.
const GONE: &str = "gone";
/// The state of a claim whose volume is not known.
const UNBOUND: &str = "unbound";
const ROWS: &str = "rows/";

/// The states that each thing may have.
type States<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn read<'a>(marks: &'a [String]) -> Result<(States<'a>, BTreeMap<&'a str, u64>), String> {
    let (mut states, mut rows) = (States::new(), BTreeMap::new());
    for mark in marks {
        match *mark.split(' ').collect::<Vec<_>>().as_slice() {
            ["begin", what, state] => {
                states.entry(what).or_insert_with(|| [GONE].into()).insert(state);
            }
            ["ack", what, state] => match what.strip_prefix(ROWS) {
                Some(name) => {
                    let count = state.parse().map_err(|_| format!("not understood: {mark}"))?;
                    rows.insert(name, count);
                }
                None => drop(states.insert(what, [state].into())),
            },
            _ => return Err(format!("not understood: {mark}")),
        }
    }
    Ok((states, rows))
}

/// What was acknowledged is there, as it was acknowledged to be, and nothing that nobody has begun to make.
pub(super) fn judge(marks: &[String], said: &str) -> Result<(), String> {
    let (states, rows) = read(marks)?;
    let damaged = said.lines().filter(|line| line.starts_with("damaged:"));
    let mut wrong: Vec<String> = damaged.map(str::to_owned).collect();
    if !said.lines().any(|line| line == "looked") {
        wrong.push("it was not looked at to the end".into());
    }
    let words = said.lines().filter_map(|line| line.strip_prefix("found ")?.split_once(' '));
    let found: BTreeMap<&str, &str> = words.collect();
    for (what, state) in found.iter().filter(|(what, _)| !what.starts_with(ROWS)) {
        match states.get(what) {
            Some(may) if may.contains(state) => {}
            // Which volume a claim gets is known once it has it.
            Some(may) if what.starts_with("claim/") && may.contains(UNBOUND) => {}
            Some(may) => wrong.push(format!("{what} is {state}, not {may:?}")),
            None => wrong.push(format!("{what} is there, which nobody has begun to make")),
        }
    }
    let lost = states.iter().filter(|(what, may)| !found.contains_key(*what) && !may.contains(GONE));
    wrong.extend(lost.map(|(what, may)| format!("{what} is gone, not {may:?}")));
    for (name, count) in rows {
        let is_kept = |what: String| states.get(what.as_str()).is_some_and(|may| !may.contains(GONE));
        let there = found.get(format!("{ROWS}{name}").as_str()).and_then(|count| count.parse::<u64>().ok());
        match there {
            Some(there) if there < count => {
                wrong.push(format!("{there} rows of {name} are there, not {count}"))
            }
            None if is_kept(format!("claim/{name}")) && is_kept(format!("pod/{name}")) => {
                wrong.push(format!("the {count} rows of {name} are gone"));
            }
            _ => {}
        }
    }
    summary(wrong)
}

#[cfg(test)]
mod tests {
    use super::judge;

    const MARKS: &str = "begin map/a 1\nack map/a 1\nbegin map/a 2\nack map/a 2\nbegin map/b 1\nack map/b 1\nbegin map/b gone\n\
                         ack map/b gone\nbegin map/c 1\nbegin claim/p unbound\nack claim/p unbound\nbegin pod/p there\n\
                         ack pod/p there\nack rows/p 1\nack claim/p pvc-1\nack rows/p 2\nbegin claim/q unbound\n\
                         ack claim/q unbound\nbegin deployment/web 2\nack deployment/web 2\nbegin deployment/web 3";
    const SAID: &str = "found map/a 2\nfound map/c 1\nfound pod/p there\nfound rows/p 3\nfound claim/p pvc-1\n\
                        found claim/q pvc-2\nfound deployment/web 3\nlooked";

    fn judged(marks: &str, said: &str) -> Result<(), String> {
        let marks: Vec<String> = marks.lines().map(str::to_owned).collect();
        judge(&marks, said)
    }

    #[test]
    fn what_was_acknowledged_is_true() {
        assert_eq!(judged(MARKS, SAID), Ok(()));
        assert_eq!(judged("", "looked"), Ok(()));
        // What was begun may have come to pass or not.
        for (from, to) in [("found map/c 1\n", ""), ("web 3", "web 2"), ("claim/q pvc-2", "claim/q unbound")]
        {
            assert_eq!(judged(MARKS, &SAID.replace(from, to)), Ok(()));
        }
        let ending = format!("{MARKS}\nbegin pod/p gone");
        assert_eq!(judged(&ending, &SAID.replace("found pod/p there\nfound rows/p 3\n", "")), Ok(()));
        let gone = format!("{ending}\nack pod/p gone\nbegin claim/p gone\nack claim/p gone");
        let said = SAID.replace("found pod/p there\nfound rows/p 3\nfound claim/p pvc-1\n", "");
        assert_eq!(judged(&gone, &said), Ok(()));
    }

    #[test]
    fn what_is_not_is_wrong() {
        for (what, from, to) in [
            ("an object is lost", "found map/a 2\n", ""),
            ("a change is lost", "map/a 2", "map/a 1"),
            ("what was deleted is back", "looked", "found map/b 1\nlooked"),
            ("what nobody has made is there", "looked", "found map/x 1\nlooked"),
            ("a claim has another volume", "claim/p pvc-1", "claim/p pvc-9"),
            ("a claim has none any more", "claim/p pvc-1", "claim/p unbound"),
            ("a claim is lost", "found claim/q pvc-2\n", ""),
            ("a pod is lost", "found pod/p there\n", ""),
            ("a row is lost", "rows/p 3", "rows/p 1"),
            ("all rows are lost", "found rows/p 3\n", ""),
            ("replicas that nobody asked for", "web 3", "web 1"),
            ("something is left", "looked", "damaged: a mount is left\nlooked"),
            ("it ended before", "looked", ""),
        ] {
            assert!(judged(MARKS, &SAID.replacen(from, to, 1)).is_err(), "{what}");
        }
    }
}
