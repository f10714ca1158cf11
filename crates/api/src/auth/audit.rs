//! The audit log: a line of JSON for each answered request (`audit.k8s.io/v1`, level `Metadata`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use http::request::Parts;
use serde_json::{Map, Value, json};

use super::{Attributes, Decision};
use crate::resource::Asker;

/// The log of one server: `FILE`, and before it `FILE.1` up to `FILE.N`.
pub struct Audit {
    path: PathBuf,
    file_max: u64,
    files: u32,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    written: u64,
    failing: bool,
    /// Whether the last line may be there in part.
    is_torn: bool,
}

impl Audit {
    /// Opens the log at `path`. A file of `file_max` bytes is put aside, of which `files` are kept.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, file_max: u64, files: u32) -> io::Result<Audit> {
        let file = append(path)?;
        let written = file.metadata()?.len();
        let open = Mutex::new(Open { file, written, failing: false, is_torn: false });
        Ok(Audit { path: path.to_owned(), file_max, files, open })
    }

    /// Adds an event. A log that cannot be written is told of once and stops nobody; one that cannot be put aside goes on
    /// as it is.
    pub(crate) fn write(&self, event: Value) {
        let mut line = event.to_string();
        line.push('\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let rotated = self.rotate(&mut open, line.len() as u64);
        if open.is_torn {
            // What is left of a line that failed must not run into this one.
            line.insert(0, '\n');
        }
        let written = open.file.write_all(line.as_bytes());
        open.is_torn = written.is_err();
        if written.is_ok() {
            open.written += line.len() as u64;
        }
        match rotated.and(written) {
            Ok(()) => open.failing = false,
            Err(error) if !std::mem::replace(&mut open.failing, true) => {
                eprintln!(
                    "sextant api: warning: cannot write the audit log {}: {error}",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }

    /// Whether the last line could not be written.
    pub(crate) fn is_failing(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).failing
    }

    fn rotate(&self, open: &mut Open, more: u64) -> io::Result<()> {
        if open.written == 0 || open.written + more <= self.file_max {
            return Ok(());
        }
        for number in (1..self.files).rev() {
            is_gone(std::fs::rename(self.aside(number), self.aside(number + 1)))?;
        }
        // Somebody may have put it aside already.
        if self.files == 0 {
            is_gone(std::fs::remove_file(&self.path))?;
        } else {
            is_gone(std::fs::rename(&self.path, self.aside(1)))?;
        }
        open.file = append(&self.path)?;
        (open.written, open.is_torn) = (0, false);
        Ok(())
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// Good, too, where there is no such file.
fn is_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The id of a request: the client's own if it has a sensible one, else a new one.
pub(crate) fn id(headers: &HeaderMap) -> String {
    let told = headers.get("audit-id").and_then(|value| value.to_str().ok());
    match told {
        Some(id) if (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) => id.to_owned(),
        _ => crate::registry::uid(),
    }
}

/// An event in the making.
pub(crate) struct Record(Map<String, Value>);

impl Record {
    /// What is known when a request comes.
    pub(crate) fn begin(request: &Parts, id: &str, from: SocketAddr) -> Record {
        let agent = request.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
        let uri = request.uri.path_and_query().map_or_else(|| request.uri.path(), |path| path.as_str());
        let event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": id,
            "requestURI": uri,
            "verb": request.method.as_str().to_ascii_lowercase(),
            "user": {},
            "sourceIPs": [from.ip().to_string()],
            "userAgent": agent.unwrap_or_default(),
            "requestReceivedTimestamp": now(),
        });
        match event {
            Value::Object(map) => Record(map),
            _ => Record(Map::new()),
        }
    }

    /// With who asks, and as whom.
    pub(crate) fn of(mut self, asker: &Asker, real: Option<&Asker>) -> Record {
        self.0.insert("user".to_owned(), real.unwrap_or(asker).to_value());
        if real.is_some() {
            self.0.insert("impersonatedUser".to_owned(), asker.to_value());
        }
        self
    }

    /// With what was decided.
    pub(crate) fn decided(mut self, attributes: &Attributes, decision: &Decision) -> Record {
        let verb = match attributes {
            Attributes::Resource(what) => what.verb.clone(),
            Attributes::Path { verb, .. } => verb.clone(),
        };
        self.0.insert("verb".to_owned(), verb.into());
        let word = if decision.is_allowed() { "allow" } else { "forbid" };
        let annotations = json!({
            "authorization.k8s.io/decision": word,
            "authorization.k8s.io/reason": decision.reason(),
        });
        self.0.insert("annotations".to_owned(), annotations);
        self
    }

    /// With what admission noted of it.
    pub(crate) fn noted(mut self, notes: BTreeMap<String, String>) -> Record {
        if let Some(Value::Object(annotations)) = self.0.get_mut("annotations") {
            annotations.extend(notes.into_iter().map(|(key, text)| (key, text.into())));
        }
        self
    }

    /// The event of an answer, or of a request whose client went before it had one.
    pub(crate) fn event(mut self, attributes: Option<&Attributes>, code: Option<u16>) -> Value {
        self.0.insert("stage".to_owned(), "ResponseComplete".into());
        if let Some(code) = code {
            self.0.insert("responseStatus".to_owned(), json!({"metadata": {}, "code": code}));
        }
        self.0.insert("stageTimestamp".to_owned(), now().into());
        if let Some(Attributes::Resource(what)) = attributes {
            let mut told = Map::new();
            for (name, value) in [
                ("resource", &what.resource),
                ("namespace", &what.namespace),
                ("name", &what.name),
                ("apiGroup", &what.group),
                ("apiVersion", &what.version),
                ("subresource", &what.subresource),
            ] {
                if !value.is_empty() {
                    told.insert(name.to_owned(), value.as_str().into());
                }
            }
            self.0.insert("objectRef".to_owned(), told.into());
        }
        Value::Object(self.0)
    }
}

/// Now, with microseconds.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let audit = Audit::open(&path, 40, 2).unwrap();
        for number in 0..7 {
            audit.write(json!({"number": number, "fill": "0123456789"}));
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("audit.log").contains("\"number\":6"));
        assert!(read("audit.log.1").contains("\"number\":5"));
        assert!(read("audit.log.2").contains("\"number\":4"));
        assert!(!dir.path().join("audit.log.3").exists());
        drop(audit);
        let again = Audit::open(&path, 40, 2).unwrap();
        again.write(json!({"number": 7, "fill": "0123456789"}));
        assert!(read("audit.log.1").contains("\"number\":6"));
    }

    #[test]
    fn a_log_that_was_moved_away_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let audit = Audit::open(&path, 40, 1).unwrap();
        audit.write(json!({"number": 0, "fill": "0123456789"}));
        std::fs::rename(&path, dir.path().join("taken")).unwrap();
        audit.write(json!({"number": 1, "fill": "0123456789"}));
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"number\":1"));
        // What cannot be put aside is written to all the same.
        std::fs::create_dir_all(dir.path().join("audit.log.1/in the way")).unwrap();
        audit.write(json!({"number": 2, "fill": "0123456789"}));
        let all = std::fs::read_to_string(&path).unwrap();
        assert_eq!(all.lines().count(), 2, "{all}");
    }

    #[test]
    fn an_event_says_who_did_what() {
        let request = http::Request::builder()
            .uri("/api/v1/pods?limit=1")
            .header("user-agent", "kubectl")
            .body(())
            .unwrap();
        let (request, ()) = request.into_parts();
        let jane = Asker { user: "jane".to_owned(), ..Asker::default() };
        let bob = Asker { user: "bob".to_owned(), ..Asker::default() };
        let attributes = Attributes::Resource(super::super::ResourceAttributes {
            verb: "list".to_owned(),
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
            ..Default::default()
        });
        let event = Record::begin(&request, "id", "127.0.0.1:1".parse().unwrap())
            .of(&bob, Some(&jane))
            .decided(&attributes, &Decision::Allow("because".to_owned()))
            .noted(BTreeMap::from([("policy/seen".to_owned(), "yes".to_owned())]))
            .event(Some(&attributes), Some(200));
        assert_eq!(event["user"]["username"], "jane");
        assert_eq!(event["impersonatedUser"]["username"], "bob");
        assert_eq!(event["verb"], "list");
        assert_eq!(event["objectRef"], json!({"resource": "pods", "apiVersion": "v1"}));
        assert_eq!(event["responseStatus"]["code"], 200);
        assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow");
        assert_eq!(event["annotations"]["policy/seen"], "yes");
    }
}
