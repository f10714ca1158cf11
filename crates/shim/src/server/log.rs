//! The container's log in CRI's format: `TIME STREAM P|F TEXT`, one entry a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

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

/// RFC 3339 in UTC with nanoseconds.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The Gregorian date of a day, counted from 1970-01-01. Years are taken to begin in March, so that a leap day is a
/// year's last, and 400 of them to be alike.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era_day = shifted % 146_097;
    let year_of_era = (era_day - era_day / 1460 + era_day / 36_524 - era_day / 146_096) / 365;
    let day_of_year = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + shifted / 146_097 * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |seconds: u64, nanos| timestamp(UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_827_696, 7), "2000-02-29T12:34:56.000000007Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
    }

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
