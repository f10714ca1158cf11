//! This command's own terminal: raw while a container's program has it, and as it was afterwards.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use shim::protocol::Size;

/// Raw mode, until dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw, if it is a terminal.
    pub(crate) fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Drain, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Drain, &self.before);
    }
}

/// The size of the terminal that output goes to.
pub(crate) fn size() -> Option<Size> {
    let size = tcgetwinsize(std::io::stdout().as_fd()).ok()?;
    Some(Size { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// Whether a person sits at standard input.
pub(crate) fn is_input_terminal() -> bool {
    std::io::stdin().is_terminal()
}
