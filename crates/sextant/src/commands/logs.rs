use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::time::Duration;

use crate::cli::{Lines, LogsArgs};
use crate::container::{self, Record};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::output::since;

/// One entry of a log in CRI's format.
struct Entry<'a> {
    time: &'a str,
    stderr: bool,
    partial: bool,
    text: &'a str,
}

fn parse(line: &str) -> Option<Entry<'_>> {
    let mut fields = line.splitn(4, ' ');
    let (time, stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Entry {
        time,
        stderr: stream == "stderr",
        partial: tag == "P",
        text: fields.next().unwrap_or_default(),
    })
}

pub(super) fn run(instance: &Instance, args: &LogsArgs) -> Result<()> {
    let record = container::find(instance, &args.container)?;
    let since = match &args.since {
        None => None,
        Some(text) => Some(since(text).ok_or_else(|| {
            Failure::new(format!(
                "cannot use --since {text:?}: give an age such as 10m, or a time such as 2026-01-31T12:00:00Z"
            ))
        })?),
    };
    let path = record.log(instance);
    let file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.context(|| format!("open {}", path.display()))?,
    };
    let mut reader = BufReader::new(file);
    let show = |line: &str| -> io::Result<()> {
        match parse(line) {
            Some(entry) if since.as_deref().is_none_or(|s| entry.time >= s) => print(&entry, args.timestamps),
            _ => Ok(()),
        }
    };
    let done = read_to_end(&mut reader, args.tail, &show).and_then(|rest| {
        if args.follow { follow(instance, &record, &mut reader, rest, &show) } else { Ok(()) }
    });
    match done {
        // `| head` has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context(|| format!("show {}", path.display())),
    }
}

/// Shows what is there now; the beginning of an entry that is still being written is returned.
fn read_to_end(
    reader: &mut BufReader<File>,
    tail: Lines,
    show: &dyn Fn(&str) -> io::Result<()>,
) -> io::Result<String> {
    // Each is one line of the program's, in as many entries as it took.
    let mut last: VecDeque<Vec<String>> = VecDeque::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        let whole = line.pop_if(|b| *b == b'\n').is_some();
        let line = String::from_utf8_lossy(&line).into_owned();
        if !whole {
            last.iter().flatten().try_for_each(|line| show(line))?;
            return Ok(line);
        }
        match tail {
            Lines::All => show(&line)?,
            Lines::Last(0) => {}
            Lines::Last(lines) => {
                let goes_on = |entry: &String| parse(entry).is_some_and(|e| e.partial);
                match last.back_mut().filter(|entries| entries.last().is_some_and(goes_on)) {
                    Some(entries) => entries.push(line),
                    None => last.push_back(vec![line]),
                }
                if last.len() > lines {
                    last.pop_front();
                }
            }
        }
    }
}

/// Shows what is written from now on, until the container has ended.
fn follow(
    instance: &Instance,
    record: &Record,
    reader: &mut BufReader<File>,
    mut rest: String,
    show: &dyn Fn(&str) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        // Asked before reading, so that what was written until the end is still shown.
        let active = container::state_of(instance, record).is_active();
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let whole = line.pop_if(|b| *b == b'\n').is_some();
            rest += &String::from_utf8_lossy(&line);
            line.clear();
            if whole {
                show(&std::mem::take(&mut rest))?;
            }
        }
        if !active {
            return Ok(());
        }
        // The file tells nobody that it grew; a person does not notice a tenth of a second.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn print(entry: &Entry<'_>, timestamps: bool) -> io::Result<()> {
    let mut out: Box<dyn Write> =
        if entry.stderr { Box::new(io::stderr().lock()) } else { Box::new(io::stdout().lock()) };
    if timestamps {
        write!(out, "{} ", entry.time)?;
    }
    write!(out, "{}{}", entry.text, if entry.partial { "" } else { "\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_nonsense_is_not() {
        let entry = parse("2026-11-23T10:00:00.000000000Z stderr P some text").unwrap();
        assert!(entry.stderr && entry.partial && entry.text == "some text");
        assert!(parse("2026 stdout F").is_some_and(|e| e.text.is_empty()));
        assert!(parse("nonsense").is_none());
    }
}
