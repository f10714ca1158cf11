//! What a machine can check of CONTRIBUTING.md; what the compiler and clippy check is left to them.

mod arrows;
mod generated;
mod links;
mod sources;

use std::path::{Path, PathBuf};

use crate::Result;
use crate::program::root;

/// One broken rule: where, and what to do.
#[derive(Debug)]
pub(crate) struct Finding {
    place: String,
    what: String,
}

impl Finding {
    fn new(place: impl std::fmt::Display, what: impl Into<String>) -> Self {
        Self { place: place.to_string(), what: what.into() }
    }
}

pub(crate) fn run() -> Result<()> {
    let sources = tracked(".rs")?;
    let mut findings = arrows::check()?;
    findings.extend(generated::check()?);
    findings.extend(sources::check(&sources)?);
    findings.extend(links::check(&tracked(".md")?)?);
    sources::report_lengths(&sources)?;
    for finding in &findings {
        println!("{}: {}", finding.place, finding.what);
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("{} findings", findings.len()).into()) }
}

/// The checkout's files that end in `suffix`, relative to it: tracked, or new and not ignored.
fn tracked(suffix: &str) -> Result<Vec<PathBuf>> {
    let mut git = std::process::Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let list = crate::program::quiet(&mut git)?;
    let files = list.lines().filter(|path| path.ends_with(suffix)).map(PathBuf::from);
    Ok(files.filter(|path| root().join(path).is_file()).collect())
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(root().join(path))
        .map_err(|e| format!("cannot read {}: {e}", path.display()).into())
}
