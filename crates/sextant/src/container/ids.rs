use std::io::Read;

use super::Record;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// A new container's id: 64 hexadecimal digits.
pub(super) fn new_id() -> Result<String> {
    random_hex(32)
}

/// An id for a process that is brought in.
pub(crate) fn exec_id() -> Result<String> {
    random_hex(8)
}

fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut random))
        .context(|| "read /dev/urandom".into())?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}

const FIRST: [&str; 24] = [
    "amber", "brisk", "calm", "clear", "copper", "deep", "early", "fair", "fleet", "high", "keen", "late",
    "level", "light", "north", "open", "plain", "polar", "quiet", "ready", "silver", "steady", "true",
    "windward",
];
const SECOND: [&str; 24] = [
    "altair", "arc", "bearing", "beacon", "capella", "chart", "compass", "deneb", "harbour", "horizon",
    "keel", "latitude", "lantern", "mast", "meridian", "mizar", "polaris", "quadrant", "rigel", "sail",
    "sirius", "star", "tide", "vega",
];

/// A name nobody has to think of; the id makes it unlikely that it is taken.
pub(super) fn made_up_name(id: &str) -> String {
    let pick =
        |at: usize| id.get(at..at + 4).and_then(|hex| usize::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let number = pick(8) % 1000;
    format!("{}-{}-{number}", FIRST[pick(0) % FIRST.len()], SECOND[pick(4) % SECOND.len()])
}

/// Whether `name` can be a container's.
pub(super) fn check_name(name: &str) -> Result<()> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if starts && rest && name.len() <= 128 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "cannot name a container {name:?}: give letters, digits, '_', '.' and '-', beginning with a letter or digit"
    )))
}

/// The container that `text` means: a name, an id, or the beginning of one.
pub(crate) fn find(instance: &Instance, text: &str) -> Result<Record> {
    search(instance, text)?
        .ok_or_else(|| Failure::new(format!("no container {text:?} is here (see `sextant ps -a`)")))
}

/// As [`find`], for whoever looks elsewhere too.
pub(crate) fn search(instance: &Instance, text: &str) -> Result<Option<Record>> {
    let all = Record::all(instance)?;
    if let Some(record) = all.iter().find(|r| r.name == text || r.id == text) {
        return Ok(Some(record.clone()));
    }
    let matching: Vec<&Record> = all.iter().filter(|r| !text.is_empty() && r.id.starts_with(text)).collect();
    match matching[..] {
        [record] => Ok(Some(record.clone())),
        [] => Ok(None),
        _ => Err(Failure::new(format!(
            "the id {text:?} is the beginning of {} containers' ids: give more of it",
            matching.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_and_checked() {
        let id = new_id().unwrap();
        assert_eq!(id.len(), 64);
        check_name(&made_up_name(&id)).unwrap();
        for bad in ["", "-a", "a/b", "a b", "ä", ".hidden"] {
            assert!(check_name(bad).unwrap_err().to_string().contains(&format!("{bad:?}")));
        }
    }
}
