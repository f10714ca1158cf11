//! `state` and `list`.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::failure::Failure;
use super::options::{Given, Rest, Words, switch, value};
use super::record::{Dir, Record};
use super::{Command, Context};
use crate::contract::{self, Status};

pub(super) static STATE: Command = Command {
    name: "state",
    usage: "ID",
    summary: "show a container's state as JSON",
    options: &[switch("help", Some('h'), "show this")],
    words: Words { least: 1, own: 1, rest: Rest::None },
    clones: false,
    run: state,
};

pub(super) static LIST: Command = Command {
    name: "list",
    usage: "",
    summary: "show all containers of this root",
    options: &[
        value("format", Some('f'), "FORMAT", "table or json [table]"),
        switch("quiet", Some('q'), "their ids alone"),
        switch("help", Some('h'), "show this"),
    ],
    words: Words { least: 0, own: 0, rest: Rest::None },
    clones: false,
    run: list,
};

/// What `state` and `list` say of a container. Scripts read the keys in runc's order, as text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    oci_version: &'static str,
    id: String,
    pid: i32,
    status: Status,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
}

fn state(context: &Context, given: &Given) -> Result<u8, Failure> {
    let dir = Dir::open(&context.root, given.id())?;
    let record = dir.read()?;
    print(&serde_json::to_string_pretty(&document(&dir, record)?).unwrap_or_default())
}

/// The state with what runc adds to it.
fn document(dir: &Dir, record: Record) -> Result<Document, Failure> {
    let status = dir.status(&record)?;
    // Just made: its number was not written yet when the record was read.
    let record = if record.status == Status::Creating { dir.read()? } else { record };
    Ok(Document {
        oci_version: contract::VERSION,
        pid: if status == Status::Stopped { 0 } else { record.pid },
        status,
        owner: owner(record.owner),
        id: record.id,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        annotations: record.annotations,
    })
}

/// The user's name, from the table that every system has; a static program knows no other.
pub(super) fn owner(uid: u32) -> String {
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let mut lines = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.get(2) == Some(&number.as_str()));
    found
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()))
        .unwrap_or_else(|| format!("#{uid}"))
}

fn list(context: &Context, given: &Given) -> Result<u8, Failure> {
    let format = given.get("format").unwrap_or("table");
    if !matches!(format, "table" | "json") {
        return Err(Failure::usage(format!("cannot use --format {format:?}: give table or json")));
    }
    let mut documents = Vec::new();
    let entries = match std::fs::read_dir(&context.root) {
        Ok(entries) => entries.flatten().collect(),
        // The usual one is made with the first container; one that was named is a mistake.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !context.root_is_given => Vec::new(),
        Err(e) => {
            let root = context.root.display();
            return Err(Failure::new(format!("cannot list the containers of --root {root}: {e}")));
        }
    };
    let mut ids: Vec<String> = entries.iter().filter_map(|e| e.file_name().into_string().ok()).collect();
    ids.sort();
    for id in ids {
        // Made or deleted just now, or no container at all.
        let Ok(dir) = Dir::open(&context.root, &id) else { continue };
        match dir.find() {
            Ok(Some(record)) => documents.extend(document(&dir, record).ok()),
            Ok(None) => {}
            Err(failure) => context.log.warn(&failure.to_string()),
        }
    }
    if given.has("quiet") {
        return print(&documents.iter().map(|d| d.id.as_str()).collect::<Vec<_>>().join("\n"));
    }
    if format == "json" {
        return print(&serde_json::to_string(&documents).unwrap_or_default());
    }
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = documents
        .into_iter()
        .map(|d| [d.id, d.pid.to_string(), d.status.as_str().to_owned(), d.bundle, d.created, d.owner]);
    print(&table(&std::iter::once(header).chain(rows).collect::<Vec<_>>()))
}

/// Columns as wide as their widest entry.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints a document. A reader that has left is no error.
pub(super) fn print(text: &str) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    let end = if text.is_empty() { "" } else { "\n" };
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(0),
    }
}
