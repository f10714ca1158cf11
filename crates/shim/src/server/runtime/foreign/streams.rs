//! The FIFOs of a process that another shim runs. This process holds both ends of each: nothing depends on who comes and
//! goes at the other.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use super::super::super::process::Process;
use super::super::Files;

/// The names that the other shim is told; empty for a stream that there is not.
#[derive(Debug, Default, Clone)]
pub(super) struct Names {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Makes FIFOs in `dir` whose names begin with `prefix`, and gives their ends to `process`.
pub(super) fn make(process: &mut Process, dir: &Path, prefix: &str, stdin: bool) -> io::Result<Names> {
    let mut files = Files::default();
    let mut fifo = |end: &str| -> io::Result<_> {
        let path = dir.join(format!("{prefix}{end}"));
        drop(std::fs::remove_file(&path));
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        files.0.push(path.clone());
        let fd = open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        Ok((path.display().to_string(), fd))
    };
    let mut names = Names::default();
    let input = match stdin || process.terminal {
        true => {
            let (name, fd) = fifo("stdin")?;
            names.stdin = name;
            Some(fd)
        }
        false => None,
    };
    let (name, output) = fifo("stdout")?;
    names.stdout = name;
    // A terminal has one.
    let errors = match process.terminal {
        true => None,
        false => {
            let (name, fd) = fifo("stderr")?;
            names.stderr = name;
            Some(fd)
        }
    };
    process.set_streams(input, [Some(output), errors]);
    process.files = files;
    Ok(names)
}
