//! Where messages go: a file of lines that callers parse (`--log`), or standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::SystemTime;

use super::failure::Failure;
use super::name::name;
use crate::Created;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// The log of one command.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

impl Log {
    /// Opens the log; without a file messages go to standard error.
    pub(crate) fn open(file: Option<&str>, format: Option<&str>, debug: bool) -> Result<Self, Failure> {
        let format = match format {
            None | Some("text" | "") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                return Err(Failure::usage(format!("cannot use --log-format {other:?}: give text or json")));
            }
        };
        let file = file.filter(|path| !path.is_empty()).map(|path| {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|e| Failure::usage(format!("cannot open the log {path:?}: {e}")))
        });
        Ok(Self { file: file.transpose()?, format, debug })
    }

    /// The command has failed: into the log, and in any case onto standard error.
    pub(crate) fn error(&self, command: &str, failure: &Failure) {
        let (whole, said) = (failure.to_string(), failure.said(name(), command));
        match (&self.file, self.format) {
            (None, Format::Json) => return self.line("error", &whole),
            // Said in fewer words, it is not to be lost.
            (None, Format::Text) if !said.ends_with(&whole) => self.debug(|| whole),
            (None, Format::Text) => {}
            (Some(_), _) => self.line("error", &whole),
        }
        eprintln!("{said}");
    }

    pub(crate) fn warn(&self, message: &str) {
        self.line("warning", message);
    }

    /// A process is in its container and waits for its program. The stages have runc's names: people look for them.
    pub(crate) fn inside(&self, created: &Created) {
        self.debug(|| format!("child process in init(): process {} waits for its program", created.pid()));
        created.details().into_iter().for_each(|text| self.debug(|| text));
    }

    /// Only with `--debug`.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.line("debug", &message());
        }
    }

    fn line(&self, level: &str, message: &str) {
        let line = match (self.format, &self.file) {
            (Format::Json, _) => {
                let time = crate::timestamp(SystemTime::now());
                serde_json::json!({"level": level, "msg": message, "time": time}).to_string() + "\n"
            }
            // As its readers know it; what a person reads on a terminal is shorter.
            (Format::Text, file) if file.is_some() || level == "debug" => {
                let time = crate::timestamp(SystemTime::now());
                format!("time={time:?} level={level} msg={message:?}\n")
            }
            (Format::Text, _) => format!("{}: {level}: {message}\n", name()),
        };
        // There is nowhere left to complain to.
        let _ = match &self.file {
            Some(file) => {
                let mut file: &File = file;
                file.write_all(line.as_bytes())
            }
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}
