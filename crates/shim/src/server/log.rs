//! The container's log in CRI's format: `TIME STREAM P|F TEXT`, one entry a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::timestamp;

/// Text longer than this is cut into entries tagged `P` (partial), as other runtimes cut it.
const LONGEST: usize = 16 << 10;

const NAMES: [&str; 2] = ["stdout", "stderr"];

/// Writes whole entries only, so that a reader or a rotation never sees half of one.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// What has come of a line that is not over, for each stream.
    rest: [Vec<u8>; 2],
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), file: open(path)?, rest: [Vec::new(), Vec::new()] })
    }

    /// Goes on in a new file at the same path.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Takes what came on a stream (0 is standard output, 1 standard error).
    pub(super) fn write(&mut self, stream: usize, mut data: &[u8]) -> io::Result<()> {
        let rest = &mut self.rest[stream & 1];
        let now = timestamp(SystemTime::now());
        let mut out = Vec::with_capacity(data.len() + 64);
        while !data.is_empty() {
            let room = LONGEST - rest.len();
            let end = data.iter().take(room).position(|&b| b == b'\n');
            let (text, tag, used) = match end {
                Some(end) => (&data[..end], 'F', end + 1),
                None if data.len() >= room => (&data[..room], 'P', room),
                None => {
                    rest.extend(data);
                    break;
                }
            };
            write!(out, "{now} {} {tag} ", NAMES[stream & 1])?;
            out.append(rest);
            out.extend(text);
            out.push(b'\n');
            data = &data[used..];
        }
        // One write: entries of the two streams, and of a log that is being rotated, do not mix.
        self.file.write_all(&out)
    }

    /// Writes what is left of a stream whose last line had no end.
    pub(super) fn finish(&mut self, stream: usize) -> io::Result<()> {
        if self.rest[stream & 1].is_empty() { Ok(()) } else { self.write(stream, b"\n") }
    }
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_entries_however_they_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
        log.write(0, b"one\ntw").unwrap();
        log.write(1, b"error\n").unwrap();
        log.write(0, b"o\n\n").unwrap();
        log.write(0, b"no end").unwrap();
        log.finish(0).unwrap();
        log.finish(1).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let entries: Vec<_> = text.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        assert_eq!(
            entries,
            ["stdout F one", "stderr F error", "stdout F two", "stdout F ", "stdout F no end"]
        );
    }

    #[test]
    fn a_long_line_is_cut_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
        let line: Vec<u8> = (0..LONGEST * 2 + 5).map(|n| b'a' + (n % 26) as u8).collect();
        line.chunks(1000).for_each(|piece| log.write(0, piece).unwrap());
        log.write(0, b"\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let fields: Vec<_> = text.lines().map(|l| l.splitn(4, ' ').collect::<Vec<_>>()).collect();
        assert_eq!(fields.iter().map(|f| f[2]).collect::<String>(), "PPF");
        assert_eq!(fields.iter().map(|f| f[3]).collect::<String>().into_bytes(), line);
    }
}
