//! Who holds a terminal: this command, or whoever listens at `--console-socket`.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::options::Given;

/// The socket of `--console-socket`.
pub(super) fn socket_path(given: &Given) -> Option<PathBuf> {
    given.get("console-socket").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether terminal, detachment and socket go together.
pub(super) fn check(terminal: bool, detached: bool, socket: Option<&Path>) -> Result<(), Failure> {
    match (terminal, detached, socket) {
        (true, true, None) => Err(Failure::usage(
            "cannot allocate tty: nobody would hold the terminal of a detached process (process.terminal is true; \
             give --console-socket)",
        )),
        (false, _, Some(path)) => Err(Failure::usage(format!(
            "cannot use --console-socket {}: the process has no terminal (set process.terminal, or leave it out)",
            path.display()
        ))),
        (true, false, Some(path)) => Err(Failure::usage(format!(
            "cannot use --console-socket {}: this command holds the terminal itself (add --detach, or leave it out)",
            path.display()
        ))),
        _ => Ok(()),
    }
}
