//! The container's log in CRI's format: `TIME STREAM P|F TEXT`, one entry a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::timestamp;

/// Text longer than this is cut into entries tagged `P` (partial), as other runtimes cut it.
const LONGEST: usize = 16 << 10;

const NAMES: [&str; 2] = ["stdout", "stderr"];

/// The tags: a whole line, or the end of one; and a piece that the next entry of the stream goes on with.
const FULL: u8 = b'F';
const PARTIAL: u8 = b'P';

/// Writes whole entries only, so that a reader or a rotation never sees half of one.
///
/// A log that cannot be written (a full disk, a broken one) holds nobody up: entries are counted instead, and the log
/// tells how many are missing as soon as it can.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// What has come of a line that is not over, for each stream.
    rest: [Vec<u8>; 2],
    /// How many entries could not be written.
    lost: u64,
    /// Those among them that the log does not tell of yet, and why the last one was.
    untold: Option<(u64, io::Error)>,
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self { path: path.to_path_buf(), file, rest: [Vec::new(), Vec::new()], lost: 0, untold: None })
    }

    /// Goes on in a new file at the same path.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// How many entries could not be written so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes what came on a stream (0 is standard output, 1 standard error).
    pub(super) fn write(&mut self, stream: usize, mut data: &[u8]) {
        let rest = &mut self.rest[stream & 1];
        let now = timestamp(SystemTime::now());
        let mut out = Vec::with_capacity(data.len() + 64);
        while !data.is_empty() {
            let room = LONGEST - rest.len();
            let end = data.iter().take(room).position(|&b| b == b'\n');
            let (text, tag, used) = match end {
                Some(end) => (&data[..end], FULL, end + 1),
                None if data.len() >= room => (&data[..room], PARTIAL, room),
                None => {
                    rest.extend(data);
                    break;
                }
            };
            entry(&mut out, &now, stream, tag, &[&std::mem::take(rest), text]);
            data = &data[used..];
        }
        // One write: entries of the two streams, and of a log that is being rotated, do not mix.
        self.append(&out);
    }

    /// Writes what is left of a stream whose last line had no end: it is a part, and no line.
    pub(super) fn finish(&mut self, stream: usize) {
        let rest = std::mem::take(&mut self.rest[stream & 1]);
        if !rest.is_empty() {
            let mut out = Vec::with_capacity(rest.len() + 64);
            entry(&mut out, &timestamp(SystemTime::now()), stream, PARTIAL, &[&rest]);
            self.append(&out);
        }
    }

    fn append(&mut self, entries: &[u8]) {
        if entries.is_empty() {
            return;
        }
        if let Some((count, cause)) = &self.untold {
            let text = format!("sextant-shim: {count} entries of this log are lost: {cause}");
            let mut note = Vec::with_capacity(text.len() + 64);
            entry(&mut note, &timestamp(SystemTime::now()), 1, FULL, &[text.as_bytes()]);
            match append_whole(&mut self.file, &note) {
                Ok(()) => self.untold = None,
                Err((_, cause)) => return self.lose(entries, cause),
            }
        }
        if let Err((written, cause)) = append_whole(&mut self.file, entries) {
            self.lose(&entries[written..], cause);
        }
    }

    fn lose(&mut self, entries: &[u8], cause: io::Error) {
        let count = entries.iter().filter(|&&b| b == b'\n').count() as u64;
        if self.lost == 0 {
            crate::complain(&format!("cannot write the log {}: {cause}", self.path.display()));
        }
        self.lost += count;
        let before = self.untold.take().map_or(0, |(n, _)| n);
        self.untold = Some((before + count, cause));
    }
}

fn entry(out: &mut Vec<u8>, time: &str, stream: usize, tag: u8, text: &[&[u8]]) {
    out.extend(time.as_bytes());
    out.push(b' ');
    out.extend(NAMES[stream & 1].as_bytes());
    out.extend([b' ', tag, b' ']);
    text.iter().for_each(|part| out.extend(*part));
    out.push(b'\n');
}

/// Writes all of `entries`; or as many whole ones as can be: then how many bytes, and why not more.
fn append_whole(file: &mut File, entries: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    let cause = loop {
        match file.write(&entries[written..]) {
            Ok(0) => break io::ErrorKind::WriteZero.into(),
            Ok(n) if written + n == entries.len() => return Ok(()),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break e,
        }
    };
    let whole = entries[..written].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    if whole < written {
        // The piece of an entry goes again. If it cannot, the next begins in its line: nothing better can be done.
        let length = file.metadata().map(|m| m.len().saturating_sub((written - whole) as u64));
        drop(length.and_then(|length| file.set_len(length)));
    }
    Err((whole, cause))
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
        log.write(0, b"one\ntw");
        log.write(1, b"error\n");
        log.write(0, b"o\n\n");
        log.write(0, b"no end");
        log.finish(0);
        log.finish(1);
        let text = std::fs::read_to_string(&path).unwrap();
        let entries: Vec<_> = text.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        assert_eq!(
            entries,
            ["stdout F one", "stderr F error", "stdout F two", "stdout F ", "stdout P no end"]
        );
    }

    #[test]
    fn a_long_line_is_cut_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
        let line: Vec<u8> = (0..LONGEST * 2 + 5).map(|n| b'a' + (n % 26) as u8).collect();
        line.chunks(1000).for_each(|piece| log.write(0, piece));
        log.write(0, b"\n");
        let text = std::fs::read_to_string(&path).unwrap();
        let fields: Vec<_> = text.lines().map(|l| l.splitn(4, ' ').collect::<Vec<_>>()).collect();
        assert_eq!(fields.iter().map(|f| f[2]).collect::<String>(), "PPF");
        assert_eq!(fields.iter().map(|f| f[3]).collect::<String>().into_bytes(), line);
    }

    #[test]
    fn a_log_that_cannot_be_written_counts_and_tells() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
        log.write(0, b"before\n");
        // Every write to it says ENOSPC.
        log.file = File::options().append(true).open("/dev/full").unwrap();
        log.write(0, b"one\ntwo\n");
        log.write(1, b"three\n");
        assert_eq!(log.lost(), 3);
        log.reopen().unwrap();
        log.write(0, b"after\n");
        let text = std::fs::read_to_string(&path).unwrap();
        let entries: Vec<_> = text.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        assert_eq!(entries[0], "stdout F before");
        assert!(entries[1].starts_with("stderr F sextant-shim: 3 entries of this log are lost: "), "{text}");
        assert_eq!(entries[2..], ["stdout F after"]);
        assert_eq!(log.lost(), 3);
    }

    #[test]
    fn a_disk_that_fills_up_in_the_middle_leaves_whole_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = open(&path).unwrap();
        append_whole(&mut file, b"time stdout F one\n").unwrap();
        // The limit on a file's size is a disk's end for this process; the signal that goes with it is ignored.
        let mut pipe = std::process::Command::new("/bin/sh");
        pipe.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap());
        pipe.args(["--exact", "server::log::tests::fills_up", "--ignored"]).env("LOG", &path);
        assert!(pipe.output().unwrap().status.success());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n') && text.len() > 400, "{text:?}");
        assert!(text.lines().skip(1).all(|line| line.len() == 100), "{text:?}");
    }

    #[test]
    #[ignore = "the part of another test that runs with a limit on files' sizes"]
    fn fills_up() {
        let Some(path) = std::env::var_os("LOG") else { return };
        let mut file = open(Path::new(&path)).unwrap();
        let line = format!("{}\n", "x".repeat(100));
        let (written, error) = append_whole(&mut file, line.repeat(20).as_bytes()).unwrap_err();
        assert!(written % 101 == 0 && written > 0, "{written}");
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    }
}
