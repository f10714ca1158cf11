//! Who runs, and what is asked of them.

use std::process::{Command, Stdio};

use serde::Serialize;

use super::bundle::{Bundle, text};
use crate::Result;
use crate::program::{quiet, shown};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// `run` of `true`.
    Run,
    /// `create`, `start`, `delete --force` of a program that writes a file and stays.
    Life,
    /// `exec` of `true` in a running container.
    Exec,
}

impl Deed {
    pub(super) const ALL: [Self; 3] = [Self::Run, Self::Life, Self::Exec];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Life => "create + start + delete",
            Self::Exec => "exec",
        }
    }
}

/// What one round cost, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cost {
    pub(super) cpu: f64,
    pub(super) wall: f64,
    /// Of each command.
    pub(super) walls: Vec<f64>,
}

/// A runtime, or the bound.
pub(super) struct Side {
    /// For the table.
    pub(super) name: String,
    program: String,
    bare: bool,
    /// Whether it keeps a cache that the promise is about when it is cold.
    cold: bool,
}

impl Side {
    /// Ours first.
    pub(super) fn all(bundle: &Bundle) -> Result<Vec<Self>> {
        let peer = |program: &str| -> Result<Self> {
            let said = quiet(Command::new(program).arg("--version"))?;
            let name = said.lines().next().unwrap_or(program).replace(" version", "");
            Ok(Self { name, program: program.to_owned(), bare: false, cold: false })
        };
        let ours = |name: &str, program, bare, cold| Self { name: name.to_owned(), program, bare, cold };
        Ok(vec![
            ours("sextant-oci", text(&bundle.ours), false, false),
            ours("sextant-oci, cold", text(&bundle.ours), false, true),
            peer("crun")?,
            peer("runc")?,
            ours("bare bound", text(&bundle.bare), true, false),
        ])
    }

    fn key(&self) -> String {
        self.name.chars().filter(char::is_ascii_alphanumeric).collect()
    }

    fn command(&self, bundle: &Bundle, args: &[&str]) -> Vec<String> {
        let state = bundle.state(&self.key());
        if self.cold {
            // What it may have kept from earlier runs goes; what is running must not.
            let _ = std::fs::remove_dir_all(state.join(".cache"));
        }
        let mut command = vec![self.program.clone(), "--root".to_owned(), text(&state)];
        command.extend(args.iter().map(|&arg| arg.to_owned()));
        command
    }

    /// The commands of a deed; `None` where there is no such thing.
    pub(super) fn commands(&self, deed: Deed, bundle: &Bundle) -> Option<Vec<Vec<String>>> {
        let id = format!("bench-{}", self.key());
        if self.bare {
            let run = |name: &str, program: &[&str]| {
                let mut command = vec![
                    self.program.clone(),
                    "run".to_owned(),
                    text(&bundle.path(name)),
                    format!("sextant-{id}"),
                ];
                command.extend(program.iter().map(|&arg| arg.to_owned()));
                vec![command]
            };
            return match deed {
                Deed::Run => Some(run("true", &["/bin/true"])),
                Deed::Life => Some(run("work", &["/bin/sh", "-c", "echo done > /tmp/work"])),
                Deed::Exec => None,
            };
        }
        let at = |args: &[&str]| self.command(bundle, args);
        Some(match deed {
            Deed::Run => vec![at(&["run", "--bundle", &text(&bundle.path("true")), &id])],
            Deed::Life => vec![
                at(&["create", "--bundle", &text(&bundle.path("work")), &id]),
                at(&["start", &id]),
                at(&["delete", "--force", &id]),
            ],
            Deed::Exec => vec![at(&["exec", &self.staying(), "/bin/true"])],
        })
    }

    fn staying(&self) -> String {
        format!("bench-{}-stays", self.key())
    }

    /// Starts the container that `exec` goes into.
    pub(super) fn begin(&self, bundle: &Bundle) -> Result<()> {
        if self.bare {
            return Ok(());
        }
        let stay = text(&bundle.path("stay"));
        let command = self.command(bundle, &["run", "--detach", "--bundle", &stay, &self.staying()]);
        let [program, args @ ..] = command.as_slice() else { return Ok(()) };
        let mut run = Command::new(program);
        // The container inherits these: a pipe would stay open with it.
        let words = bundle.path("words");
        let file = std::fs::File::create(&words)?;
        run.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let status = run.status()?;
        if status.success() {
            return Ok(());
        }
        let words = std::fs::read_to_string(&words)?;
        Err(format!("{} failed: {status}\n{}", shown(&run), words.trim_end()).into())
    }

    /// Ends it.
    pub(super) fn end(&self, bundle: &Bundle) {
        if self.bare {
            return;
        }
        let command = self.command(bundle, &["delete", "--force", &self.staying()]);
        if let [program, args @ ..] = command.as_slice()
            && let Err(e) = quiet(Command::new(program).args(args))
        {
            eprintln!("warning: {e}");
        }
    }

    /// The most that one process of a `run` had resident, in KiB.
    pub(super) fn memory(&self, bundle: &Bundle) -> Result<u64> {
        let commands = self.commands(Deed::Run, bundle).unwrap_or_default();
        commands.first().map_or(Ok(0), |command| bundle.resident(command))
    }
}
