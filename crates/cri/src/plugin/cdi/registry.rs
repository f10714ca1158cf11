//! The files there are now, and which of them has a device.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::document::{Document, Edits, parse};
use super::wrong;
use crate::contract::Error;
use crate::contract::cdi::Name;

/// A file longer than this is none.
const LONGEST: u64 = 4 << 20;

/// What a container gets for its devices, in the order in which it is applied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(super) edits: Vec<Edits>,
}

/// Looks up devices by their full names. `dirs` are in rising order: what a later one has counts more; two files of one
/// directory that have the same device are in conflict.
pub(crate) fn resolve(names: &[(String, String)], dirs: &[PathBuf]) -> Result<Found, Error> {
    let mut found = Found::default();
    if names.is_empty() {
        return Ok(found);
    }
    let files = Files::read(dirs);
    // The edits that all devices of a file share come once, before those of its first device.
    let mut shared: Vec<usize> = Vec::new();
    for (name, field) in names {
        let parsed = Name::parse(name).ok_or_else(|| {
            Error::invalid(
                field.clone(),
                format!("{name:?} is no CDI device: write it as VENDOR/CLASS=DEVICE"),
            )
        })?;
        let (at, edits) =
            files.find(parsed).map_err(|error| Error { field: Some(field.clone()), ..error })?;
        if !shared.contains(&at) {
            shared.push(at);
            found.edits.push(files.read[at].document.container_edits.clone());
        }
        found.edits.push(edits.clone());
    }
    Ok(found)
}

struct File {
    path: PathBuf,
    /// Of the directories; a higher one counts more.
    rank: usize,
    document: Document,
}

#[derive(Default)]
struct Files {
    read: Vec<File>,
    /// Those that cannot be read, and why: they may have what is looked for.
    broken: BTreeMap<PathBuf, String>,
}

impl Files {
    fn read(dirs: &[PathBuf]) -> Self {
        let mut files = Self::default();
        for (rank, dir) in dirs.iter().enumerate() {
            let mut paths: Vec<PathBuf> =
                fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            paths.retain(|path| path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml"));
            paths.sort();
            for path in paths {
                match read(&path) {
                    Ok(document) => files.read.push(File { path, rank, document }),
                    Err(why) => drop(files.broken.insert(path, why)),
                }
            }
        }
        files
    }

    /// The file that has the device, and its edits.
    fn find(&self, name: Name<'_>) -> Result<(usize, &Edits), Error> {
        let mut best: Option<(usize, &Edits)> = None;
        let mut conflict = None;
        for (at, file) in self.read.iter().enumerate().filter(|(_, file)| file.document.kind == name.kind) {
            let Some(device) = file.document.devices.iter().find(|device| device.name == name.device) else {
                continue;
            };
            conflict = best.filter(|(other, _)| self.read[*other].rank == file.rank).map(|(other, _)| other);
            best = Some((at, &device.container_edits));
        }
        let full = format!("{}={}", name.kind, name.device);
        match (best, conflict) {
            (Some((at, _)), Some(other)) => {
                let (one, two) = (self.read[other].path.display(), self.read[at].path.display());
                Err(wrong(format!("{full} is in {one} and in {two}: remove one of the two")))
            }
            (Some(found), None) => Ok(found),
            (None, _) => {
                let mut message =
                    format!("unresolvable CDI device {full}: no file of /etc/cdi or /var/run/cdi has it");
                for (path, why) in &self.broken {
                    message += &format!("; {} cannot be read: {why}", path.display());
                }
                Err(wrong(message))
            }
        }
    }
}

fn read(path: &Path) -> Result<Document, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    parse(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, devices: &[(&str, &str)]) -> String {
        let devices: Vec<String> = devices
            .iter()
            .map(|(name, env)| format!(r#"{{"name": "{name}", "containerEdits": {{"env": ["{env}"]}}}}"#))
            .collect();
        format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "{kind}", "devices": [{}], "containerEdits": {{"env": ["ALL={kind}"]}}}}"#,
            devices.join(",")
        )
    }

    fn of(names: &[&str], dirs: &[PathBuf]) -> Result<Vec<String>, Error> {
        let names: Vec<_> = names.iter().map(|name| ((*name).to_owned(), "field".to_owned())).collect();
        let found = resolve(&names, dirs)?;
        Ok(found.edits.into_iter().flat_map(|edits| edits.env.unwrap_or_default()).collect())
    }

    #[test]
    fn later_directories_count_more_and_equals_are_in_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ["etc", "run", "none"].map(|name| dir.path().join(name)).to_vec();
        let write = |place: &str, text: &str| {
            let path = dir.path().join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/a.json", &file("v/c", &[("x", "X=etc"), ("y", "Y=etc")]));
        write("run/a.yaml", &file("v/c", &[("x", "X=run")]));
        write("run/notes.txt", "{");
        assert_eq!(of(&["v/c=x", "v/c=y"], &dirs).unwrap(), ["ALL=v/c", "X=run", "ALL=v/c", "Y=etc"]);
        write("run/b.json", &file("v/d", &[("x", "D=1"), ("z", "Z=1")]));
        assert_eq!(of(&["v/d=z", "v/d=x"], &dirs).unwrap(), ["ALL=v/d", "Z=1", "D=1"]);
        write("run/c.json", &file("v/c", &[("x", "X=2")]));
        let error = of(&["v/c=x"], &dirs).unwrap_err();
        assert!(error.to_string().contains("a.yaml and in "), "{error}");
        write("run/broken.json", "{");
        let error = of(&["v/c=none"], &dirs).unwrap_err();
        assert!(error.to_string().starts_with("field: unresolvable CDI device v/c=none"), "{error}");
        assert!(error.to_string().contains("broken.json cannot be read"), "{error}");
        assert_eq!(of(&["v/c"], &dirs).unwrap_err().code, crate::contract::Code::InvalidArgument);
        assert!(of(&[], &dirs).unwrap().is_empty());
    }
}
