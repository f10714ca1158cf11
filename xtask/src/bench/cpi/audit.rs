//! What was asked of the API server, as its audit log has it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Result;

/// What this bench asks itself has this in its query, and does not count.
pub(super) const MARK: &str = "bench";

/// Requests of each kind: `patch nodes/status`.
pub(super) type Requests = BTreeMap<String, usize>;

/// A log that is read on from where it was read to.
pub(super) struct Audit {
    path: PathBuf,
    read: u64,
    requests: Requests,
}

impl Audit {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, requests: Requests::new() }
    }

    /// All requests until now that were answered, but those of the bench. Watches are not among them before they end.
    pub(super) fn requests(&mut self) -> Result<&Requests> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        loop {
            line.clear();
            let bytes = reader.read_line(&mut line)?;
            // The last one may be there in part.
            if !line.ends_with('\n') {
                return Ok(&self.requests);
            }
            self.read += bytes as u64;
            if let Some(request) = request(&serde_json::from_str(&line)?) {
                *self.requests.entry(request).or_default() += 1;
            }
        }
    }
}

/// What an event says that somebody else asked for.
fn request(event: &Value) -> Option<String> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let query = text("/requestURI").split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|word| word == MARK) {
        return None;
    }
    let resource = text("/objectRef/resource");
    let below = match text("/objectRef/subresource") {
        "" => String::new(),
        below => format!("/{below}"),
    };
    let what = if resource.is_empty() { text("/requestURI") } else { resource };
    // Conflicts are told apart: what was in somebody's way was asked for again.
    let outcome = match event.pointer("/responseStatus/code").and_then(Value::as_u64) {
        Some(code) if code >= 400 => format!(" ({code})"),
        _ => String::new(),
    };
    Some(format!("{} {what}{below}{outcome}", text("/verb")))
}
