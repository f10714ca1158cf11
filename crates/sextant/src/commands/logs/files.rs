//! The files of one log, read as one: the current one, and those that were rotated away from its path.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Lines of a log, oldest first, whatever file they are in. Whoever rotates renames the file to its name with something
/// behind (`0.log.20260131-120000`), and the writer makes another.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// The file that is read.
    reading: Option<BufReader<File>>,
    /// The one before it: held, so that its number on disk is nobody else's.
    before: Option<File>,
    /// Those to be read next.
    waiting: VecDeque<File>,
    /// The beginning of a line that is still being written.
    rest: Vec<u8>,
}

impl Files {
    /// The log at `path`. It need not be there yet.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut files = Self {
            path: path.to_owned(),
            reading: None,
            before: None,
            waiting: VecDeque::new(),
            rest: Vec::new(),
        };
        files.find_more()?;
        Ok(files)
    }

    /// The next line, without its end; none for now if no whole one is there.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.read()? {
                return Ok(Some(line));
            }
            if self.waiting.is_empty() && !self.find_more()? {
                return Ok(None);
            }
            // What was written to it until it was left.
            if let Some(line) = self.read()? {
                return Ok(Some(line));
            }
            let last = std::mem::take(&mut self.rest);
            self.before = self.reading.take().map(BufReader::into_inner);
            self.reading = self.waiting.pop_front().map(BufReader::new);
            if !last.is_empty() {
                return Ok(Some(last));
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        reading.read_until(b'\n', &mut self.rest)?;
        Ok(self.rest.pop_if(|byte| *byte == b'\n').map(|_| std::mem::take(&mut self.rest)))
    }

    /// Finds what was written since the file that is read was left, if it was; whether there is something.
    fn find_more(&mut self) -> io::Result<bool> {
        // First the current one: if it is rotated away in this moment it is found twice, and not never.
        let current = open(&self.path)?;
        let held = |file: Option<&File>| file.map(File::metadata).transpose();
        let reading = held(self.reading.as_ref().map(BufReader::get_ref))?;
        let before = held(self.before.as_ref())?;
        let Some((current, identity)) = current else {
            // Between the rename and the new file nobody knows what comes; at the beginning all there is counts.
            if reading.is_none() {
                self.waiting.extend(self.rotated(|_| true)?);
            }
            return Ok(!self.waiting.is_empty());
        };
        let known = [reading.as_ref(), before.as_ref(), Some(&identity)];
        if reading.as_ref().is_some_and(|reading| is_same(reading, &identity)) {
            return Ok(false);
        }
        let more = self.rotated(|file| {
            let is_known = known.iter().flatten().any(|known| is_same(known, file));
            !is_known && reading.as_ref().is_none_or(|reading| written(file) >= written(reading))
        })?;
        self.waiting.extend(more);
        self.waiting.push_back(current);
        Ok(true)
    }

    /// Files that were rotated away, those that were written to last at the end. Compressed ones cannot be read.
    fn rotated(&self, wanted: impl Fn(&Metadata) -> bool) -> io::Result<Vec<File>> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(Vec::new());
        };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut all = Vec::new();
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with(&prefix) || name.ends_with(".gz") || name.ends_with(".tmp") {
                continue;
            }
            // It may be compressed or removed in this moment.
            let Some((file, metadata)) = open(&dir.join(&name))? else { continue };
            if metadata.is_file() && wanted(&metadata) {
                all.push((written(&metadata), name, file));
            }
        }
        all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Ok(all.into_iter().map(|(.., file)| file).collect())
    }
}

fn open(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.and_then(|file| file.metadata().map(|metadata| Some((file, metadata)))),
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn written(file: &Metadata) -> (i64, i64) {
    (file.mtime(), file.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn add(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        // A kernel's clock may tick only a few hundred times a second.
        std::thread::sleep(std::time::Duration::from_millis(12));
    }

    fn all(files: &mut Files) -> Vec<String> {
        std::iter::from_fn(|| files.line().unwrap()).map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn rotated_files_come_first_and_compressed_ones_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        assert_eq!(all(&mut Files::open(&log).unwrap()), Vec::<String>::new());
        for (name, text) in
            [("0.log.b", "one\n"), ("0.log.a", "two\n"), ("0.log.c.gz", "?"), ("1.log.x", "?\n")]
        {
            add(&dir.path().join(name), text);
        }
        assert_eq!(all(&mut Files::open(&log).unwrap()), ["one", "two"], "the new file is not there yet");
        add(&log, "three\nhalf");
        let mut files = Files::open(&log).unwrap();
        assert_eq!(all(&mut files), ["one", "two", "three"]);
        add(&log, " whole\n");
        assert_eq!(all(&mut files), ["half whole"]);
    }

    #[test]
    fn what_is_rotated_away_while_it_is_read_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (log, rotated) = (dir.path().join("0.log"), |name: &str| dir.path().join(name));
        add(&log, "1\n");
        let mut files = Files::open(&log).unwrap();
        assert_eq!(all(&mut files), ["1"]);
        add(&log, "2\n");
        fs::rename(&log, rotated("0.log.a")).unwrap();
        assert_eq!(all(&mut files), ["2"], "the new one is not there yet");
        add(&rotated("0.log.a"), "3\n");
        add(&log, "4\n");
        // Twice between two looks.
        fs::rename(&log, rotated("0.log.b")).unwrap();
        add(&log, "5\n");
        assert_eq!(all(&mut files), ["3", "4", "5"]);
        fs::remove_file(rotated("0.log.a")).unwrap();
        fs::rename(&log, rotated("0.log.c")).unwrap();
        add(&log, "6\n");
        assert_eq!(all(&mut files), ["6"]);
    }
}
