//! Objects in files, as people write them.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use api::decode::{self, Media};
use serde_json::Value;

use super::{list, text};
use crate::failure::{Context, Failure, Result};

/// One object, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) object: Value,
    /// For messages: `shop.yaml, document 2`.
    pub(crate) place: String,
}

impl Document {
    pub(crate) fn api_version(&self) -> &str {
        text(&self.object, "/apiVersion")
    }

    pub(crate) fn kind(&self) -> &str {
        text(&self.object, "/kind")
    }

    pub(crate) fn name(&self) -> &str {
        text(&self.object, "/metadata/name")
    }
}

/// Reads files, folders (their `.yaml`, `.yml` and `.json`, in the order of their names), and `-`.
///
/// # Errors
/// One cannot be read, has no objects, or has something else: with file and document.
pub(crate) fn read(places: &[PathBuf], recursive: bool) -> Result<Vec<Document>> {
    let mut all = Vec::new();
    for place in places {
        if place == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context(|| "read standard input".into())?;
            all.extend(parse("standard input", &text)?);
            continue;
        }
        let meta = fs::metadata(place).context(|| format!("read {}", place.display()))?;
        let mut files = Vec::new();
        if meta.is_dir() {
            within(place, recursive, &mut files)?;
            if files.is_empty() {
                return Err(Failure::new(format!(
                    "cannot find objects in {}: no file there ends in .yaml, .yml or .json",
                    place.display()
                )));
            }
        } else {
            files.push(place.clone());
        }
        for file in files {
            let text = fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
            all.extend(parse(&file.display().to_string(), &text)?);
        }
    }
    if all.is_empty() {
        return Err(Failure::new("no objects are in what was given"));
    }
    Ok(all)
}

fn within(folder: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("read the folder {}", folder.display());
    let entries: std::io::Result<Vec<_>> = fs::read_dir(folder).context(cannot)?.collect();
    let mut paths: Vec<PathBuf> = entries.context(cannot)?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            if recursive {
                within(&path, recursive, files)?;
            }
        } else if matches!(ending, "yaml" | "yml" | "json") {
            files.push(path);
        }
    }
    Ok(())
}

/// The objects of a text: documents apart by lines that begin with `---`, and the items of lists.
fn parse(file: &str, content: &str) -> Result<Vec<Document>> {
    let mut all = Vec::new();
    for (number, (line, document)) in split(content).into_iter().enumerate() {
        let place = format!("{file}, document {}", number + 1);
        let read = decode::value(document.as_bytes(), Media::Yaml);
        let value = read.map_err(|status| {
            Failure::new(format!("cannot read {place} (from line {line}): {}", status.message))
        })?;
        expand(value, place, &mut all)?;
    }
    Ok(all)
}

/// The object, or those that a list has.
fn expand(object: Value, place: String, all: &mut Vec<Document>) -> Result<()> {
    if object.is_null() {
        return Ok(());
    }
    let missing = |field: &str| Failure::new(format!("cannot use {place}: {field} is missing"));
    for field in ["apiVersion", "kind"] {
        if object.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(missing(field));
        }
    }
    if text(&object, "/kind").ends_with("List") && object.get("items").is_some() {
        for (number, item) in list(&object, "/items").iter().enumerate() {
            expand(item.clone(), format!("{place}, item {}", number + 1), all)?;
        }
        return Ok(());
    }
    if text(&object, "/metadata/name").is_empty() {
        let what = match text(&object, "/metadata/generateName") {
            "" => "metadata.name",
            _ => "metadata.name (what is made anew each time, by generateName, cannot be applied)",
        };
        return Err(missing(what));
    }
    super::named::checked(text(&object, "/metadata/name"))
        .map_err(|failure| Failure::new(format!("cannot use {place}: {failure}")))?;
    all.push(Document { object, place });
    Ok(())
}

/// The documents that say something, each with the number of its first line.
fn split(content: &str) -> Vec<(usize, String)> {
    let mut all = vec![(1, String::new())];
    for (number, line) in content.lines().enumerate() {
        // What stands behind the dashes is the next document's, most often a comment.
        if let Some(rest) = line.strip_prefix("---") {
            all.push((number + 1, rest.to_owned() + "\n"));
        } else if let Some((_, document)) = all.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says = |text: &str| text.lines().any(|line| !matches!(line.trim().chars().next(), None | Some('#')));
    all.retain(|(_, document)| says(document));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";

    #[test]
    fn documents_and_lists_are_told_apart() {
        let text = format!(
            "# nothing\n---\n{POD}--- # behind\n---\nkind: List\napiVersion: v1\nitems:\n- {{apiVersion: v1, kind: Node, metadata: {{name: b}}}}\n"
        );
        let all = parse("x", &text).unwrap();
        let told: Vec<_> = all.iter().map(|one| (one.name(), one.kind(), one.place.as_str())).collect();
        assert_eq!(told, [("a", "Pod", "x, document 1"), ("b", "Node", "x, document 2, item 1")]);
        assert_eq!(
            parse("x", r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c"}}"#).unwrap()[0]
                .name(),
            "c"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let said = |text: &str| parse("x.yaml", text).unwrap_err().to_string();
        assert!(
            said(&format!("{POD}---\na: [1\n")).starts_with("cannot read x.yaml, document 2 (from line 4): ")
        );
        assert_eq!(said("kind: Pod\n"), "cannot use x.yaml, document 1: apiVersion is missing");
        assert!(said("apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n").contains("generateName"));
        let bad = said("apiVersion: v1\nkind: Pod\nmetadata: {name: 'a?b'}\n");
        assert!(bad.starts_with("cannot use x.yaml, document 1: cannot use the name \"a?b\""), "{bad}");
        assert!(
            said("apiVersion: v1\nkind: Pod\nmetadata: {name: ''}\n").contains("metadata.name is missing")
        );
    }

    #[test]
    fn a_folder_is_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "notes.txt"] {
            fs::write(folder.path().join(name), POD.replace("name: a", &format!("name: {}", &name[..1])))
                .unwrap();
        }
        let all = read(&[folder.path().to_owned()], false).unwrap();
        assert_eq!(all.iter().map(Document::name).collect::<Vec<_>>(), ["a", "b"]);
        fs::remove_file(folder.path().join("a.yml")).unwrap();
        fs::remove_file(folder.path().join("b.yaml")).unwrap();
        assert!(read(&[folder.path().to_owned()], false).unwrap_err().to_string().contains("no file there"));
    }
}
