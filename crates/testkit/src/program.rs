//! Programs of others, run in the foreground.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{Error, Result};

/// Runs a command to its end and returns what it printed; one that fails is an error with its last words.
pub fn run(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Fail {
        command: shown(command),
        status: output.status.to_string(),
        output: tail(&String::from_utf8_lossy(&said), 30),
    })
}

/// Runs a command to its end, whatever comes of it.
pub(crate) fn finish(command: &mut Command) -> Result<Output> {
    let run = command.stdin(Stdio::null()).output();
    run.map_err(|source| Error::Start { command: shown(command), source })
}

/// The command as it would be typed.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// Where `program` is, in `PATH` or where only root looks.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system).map(|dir| dir.join(program));
    places.find(|place| place.is_file()).ok_or_else(|| {
        Error::refuse("find", program, "it is in no directory of PATH; `cargo xtask test` installs it")
    })
}

/// Makes a directory and its parents.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| Error::access("create", path, e))
}

/// Reads a whole text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::access("read", path, e))
}
