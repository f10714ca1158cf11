use std::io;
use std::path::PathBuf;

use crate::{Effect, OwnerId};

/// What can go wrong with records and inverses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The boot id tells the records of this boot from history; without it nothing can be trusted.
    #[error("cannot read the boot id from {path}: {source}")]
    ReadBootId {
        /// Where the kernel shows it.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A crash variable that is set, but not to a number.
    #[error("cannot read SEXTANT_CRASH_AT={value:?}: not a number; unset it or give the step to die at")]
    ReadCrashStep {
        /// What it was set to.
        value: String,
    },
    /// A name that cannot be a folder of the ledger.
    #[error("cannot name an owner {name:?}: {why}")]
    NameOwner {
        /// The name offered.
        name: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A folder or file of the ledger cannot be made, opened, listed or removed.
    #[error("cannot {verb} {path}: {source}{hint}", hint = hint(source))]
    Access {
        /// The act.
        verb: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An owner whose folder is locked by a live process.
    #[error("cannot lock the records of {owner}: another process holds them")]
    Busy {
        /// Whose records.
        owner: OwnerId,
    },
    /// An effect that has no safe inverse is never written down.
    #[error("cannot record {effect:?}: {why}")]
    RefuseEffect {
        /// The effect offered.
        effect: Box<Effect>,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The record did not reach its file; the effect must not happen.
    #[error("cannot write a record to {path}: {source}{hint}", hint = hint(source))]
    WriteRecord {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A record that a newer Sextant wrote: its inverse is unknown here, so it is kept.
    #[error("cannot undo {record} of {path}: it was recorded by a newer version; run that version once more")]
    UndoUnknown {
        /// The file.
        path: PathBuf,
        /// The line as it stands there.
        record: String,
    },
    /// A line that is no JSON (a power cut left it so). It is reported once and dropped.
    #[error("cannot read line {line} of {path}: it is damaged, and what it recorded may be left over")]
    ReadRecord {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
    },
    /// An inverse failed; its record stays, so that it is tried again.
    #[error("cannot undo {effect:?}: {source}")]
    Undo {
        /// The effect that is still there.
        effect: Box<Effect>,
        /// The cause.
        source: kernel::Error,
    },
    /// The shared effect could not be made; what was made of it has been undone.
    #[error("cannot make the shared {name}: {source}")]
    MakeShared {
        /// The shared name.
        name: String,
        /// What `make` returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A shared effect without users could not be taken back completely.
    #[error("cannot undo the shared {name}: {}", join(errors))]
    UndoShared {
        /// The shared name.
        name: String,
        /// Every inverse that failed.
        errors: Vec<Error>,
    },
    /// What a shared effect uses cannot use another itself: locks would nest without an order.
    #[error(
        "cannot share {name} while making the shared {within}: another uses that one; join both from the owner instead"
    )]
    NestShare {
        /// The name asked for.
        name: String,
        /// The name being made.
        within: String,
    },
}

impl Error {
    pub(crate) fn access(verb: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Access { verb, path: path.into(), source: source.into() }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => " (are you root?)",
        io::ErrorKind::StorageFull => " (free some space first)",
        _ => "",
    }
}

fn join(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
