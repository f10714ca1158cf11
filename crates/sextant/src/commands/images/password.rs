//! Asking a person on the terminal, for a password without showing it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::{Context, Failure, Result};

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: [u8; 2] = [8, 127];

/// The terminal this program was started from, wherever its standard input comes from.
fn terminal() -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .context(|| "ask, there is no terminal: use --username and --password-stdin".to_owned())
}

/// Asks for a line.
pub(super) fn ask(question: &str) -> Result<String> {
    let mut tty = terminal()?;
    write!(tty, "{question}: ")?;
    let mut line = String::new();
    BufReader::new(tty).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Asks for a password; what is typed is not shown, and the terminal is as before afterwards, Ctrl-C included.
pub(super) fn ask_hidden(question: &str) -> Result<String> {
    let tty = terminal()?;
    let mut prompt = tty.try_clone()?;
    write!(prompt, "{question}: ")?;
    let silent = Silent::new(tty)?;
    let typed = typed(BufReader::new(&silent.tty).bytes());
    drop(silent);
    writeln!(prompt)?;
    typed?.ok_or_else(|| Failure::new("cannot log in: cancelled").with_code(130))
}

/// What the keys come to; `None` after Ctrl-C.
fn typed(keys: impl Iterator<Item = io::Result<u8>>) -> Result<Option<String>> {
    let mut line = Vec::new();
    for key in keys {
        match key? {
            CTRL_C => return Ok(None),
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_U => line.clear(),
            // The bytes of one character go together.
            key if BACKSPACE.contains(&key) => while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {},
            key => line.push(key),
        }
    }
    String::from_utf8(line).map(Some).context(|| "use the password: it is not UTF-8".to_owned())
}

/// A terminal that neither shows nor interprets keys, until this is dropped.
struct Silent {
    tty: File,
    before: Termios,
}

impl Silent {
    fn new(tty: File) -> Result<Self> {
        let before = tcgetattr(&tty)?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(&tty, OptionalActions::Flush, &silent)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        _ = tcsetattr(&self.tty, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        let typed = |keys: &str| typed(keys.bytes().map(Ok)).unwrap();
        assert_eq!(typed("secret\nrest").as_deref(), Some("secret"));
        assert_eq!(typed("sé\u{7f}e\u{8}\u{8}x\r").as_deref(), Some("x"));
        assert_eq!(typed("wrong\u{15}right\n").as_deref(), Some("right"));
        assert_eq!(typed("sec\u{3}\n"), None);
        assert_eq!(typed("").as_deref(), Some(""));
    }
}
