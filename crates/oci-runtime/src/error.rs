use std::io;

use crate::contract;

/// Why a container could not be made, started or joined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not one.
    #[error(transparent)]
    Config(#[from] contract::Error),
    /// The configuration asks for what this runtime does not do.
    #[error("cannot set {field}: {value:?} is not supported ({hint})")]
    Unsupported {
        /// The field, as a path into the configuration.
        field: String,
        /// Its value.
        value: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// The system call filter cannot be compiled.
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::Error),
    /// systemd refused, or could not be reached.
    #[error(transparent)]
    Systemd(#[from] crate::systemd::Error),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A step inside the container failed, after the clone and before the program ran.
    #[error("cannot {act}: {source}{hint}")]
    Inside {
        /// What was attempted, with its object.
        act: String,
        /// The kernel's answer.
        source: io::Error,
        /// What the operator can do, from " (" to ")", or nothing.
        hint: &'static str,
        /// Whether it was one of the mounts.
        mounting: bool,
    },
    /// The program could not be executed.
    #[error("cannot execute {program:?}: {}{hint}", refused(.program, .source))]
    Exec {
        /// As the configuration names it.
        program: String,
        /// The kernel's answer.
        source: io::Error,
        /// What the operator can do, from " (" to ")", or nothing.
        hint: &'static str,
    },
    /// A hook failed, or took too long.
    #[error("cannot run hooks.{kind}[{index}] ({path}): error running {kind} hook #{index}: {why}")]
    Hook {
        /// Its list, as the configuration names it.
        kind: &'static str,
        /// Which of the list.
        index: usize,
        /// Its program.
        path: String,
        /// What went wrong.
        why: String,
    },
    /// The container's process vanished before its program ran.
    #[error("cannot start the container: its process ended before its program ran{}", ended(*.code))]
    Vanished {
        /// Its exit code, 128 + the signal if it was killed; negative if nobody knows.
        code: i32,
    },
}

/// In the words that callers of runc look for.
fn refused(program: &str, source: &io::Error) -> String {
    let said = source.to_string().to_ascii_lowercase();
    let said = said.split(" (os error").next().unwrap_or_default();
    if source.kind() == io::ErrorKind::NotFound && !program.contains('/') {
        return format!("exec: {program:?}: executable file not found in $PATH");
    }
    format!("exec {program}: {said}")
}

fn ended(code: i32) -> String {
    if code < 0 { String::new() } else { format!(" (exit code {code})") }
}

impl Error {
    /// Names the program of a failed startContainer hook, which whoever starts a waiting container does not have at
    /// hand.
    pub(crate) fn with_hook(self, hooks: Option<&contract::Hooks>) -> Self {
        match self {
            Self::Hook { kind, index, path, why } if path.is_empty() => {
                let hook = hooks.and_then(|h| h.start_container.get(index));
                Self::Hook { kind, index, path: hook.map(|h| h.path.clone()).unwrap_or_default(), why }
            }
            other => other,
        }
    }

    /// The exit code a command line shows for this: 127 for a program that is not there, 126 for one that cannot be
    /// executed, 125 for the rest.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
            _ => 125,
        }
    }
}

/// The result of an act of the runtime.
pub type Result<T, E = Error> = std::result::Result<T, E>;
