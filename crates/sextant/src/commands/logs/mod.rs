//! `sextant logs`: what a container's program wrote, from the files its shim or its runtime keeps.

mod files;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::contract::v1::{Container, ContainerState, ContainerStatusRequest};
use files::Files;

use super::which::{self, Any, Which};
use crate::cli::{Cli, Lines, LogsArgs, Within};
use crate::container;
use crate::failure::{Context, Failure, Result};
use crate::objects::pod::Log;
use crate::output::since;
use crate::pods::Runtime;

/// How often a file is looked at: it tells nobody that it grew, and a person does not notice a tenth of a second.
const PAUSE: Duration = Duration::from_millis(100);

/// Every how many pauses a runtime is asked whether a container still runs.
const ASK_EVERY: u32 = 5;

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

pub(super) fn run(cli: &Cli, args: &LogsArgs) -> Result<()> {
    let since = match &args.since {
        None => None,
        Some(text) => Some(since(text).ok_or_else(|| {
            Failure::new(format!(
                "cannot use --since {text:?}: give an age such as 10m, or a time such as 2026-01-31T12:00:00Z"
            ))
        })?),
    };
    let within = Within { namespace: args.namespace.clone(), server: args.server.clone() };
    let found = which::find_any(cli, args.container.as_deref(), &within, &args.of, args.previous)?;
    let which = match found {
        Any::Here(which) => which,
        Any::OfApi(pod) => {
            let tail = match args.tail {
                Lines::All => None,
                Lines::Last(lines) => Some(lines),
            };
            let (follow, previous, timestamps) = (args.follow, args.previous, args.timestamps);
            return pod.log(args.of.name.as_deref(), &Log { follow, previous, timestamps, tail, since });
        }
    };
    let path = path(&which)?;
    let mut files = Files::open(&path).context(|| format!("open {}", path.display()))?;
    let show = |line: &str| -> io::Result<()> {
        match parse(line) {
            Some(entry) if since.as_deref().is_none_or(|s| entry.time >= s) => print(&entry, args.timestamps),
            _ => Ok(()),
        }
    };
    let done = read_to_end(&mut files, args.tail, &show)
        .and_then(|()| if args.follow { follow(cli, args, which, &mut files, &show) } else { Ok(()) });
    match done {
        // `| head` has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context(|| format!("show {}", path.display())),
    }
}

/// Where the log is.
fn path(which: &Which) -> Result<PathBuf> {
    match which {
        Which::Own(instance, record) => Ok(record.log(instance)),
        Which::OfPod(runtime, container) => {
            let status = runtime.status(&container.id, false)?.status.unwrap_or_default();
            match status.log_path.as_str() {
                "" => Err(Failure::new(format!(
                    "cannot show the log of container {}: it was created without one",
                    status.metadata.unwrap_or_default().name
                ))),
                path => Ok(Path::new(path).to_owned()),
            }
        }
    }
}

/// Shows what is there now.
fn read_to_end(files: &mut Files, tail: Lines, show: &dyn Fn(&str) -> io::Result<()>) -> io::Result<()> {
    let mut last = Last::default();
    while let Some(line) = files.line()? {
        let line = String::from_utf8_lossy(&line).into_owned();
        match tail {
            Lines::All => show(&line)?,
            Lines::Last(lines) => last.push(line, lines),
        }
    }
    match tail {
        Lines::All => Ok(()),
        Lines::Last(lines) => last.take(lines).try_for_each(|line| show(&line)),
    }
}

/// The last lines of a program, each in as many entries as it took.
#[derive(Default)]
struct Last {
    /// Those that have ended, in the order of that.
    lines: VecDeque<Vec<String>>,
    /// The one that goes on, of standard output and of standard error: the streams' entries alternate.
    open: [Vec<String>; 2],
}

impl Last {
    fn push(&mut self, entry: String, most: usize) {
        let (stream, partial) =
            parse(&entry).map_or((0, false), |entry| (usize::from(entry.stderr), entry.partial));
        self.open[stream].push(entry);
        if !partial {
            let line = std::mem::take(&mut self.open[stream]);
            self.end(line, most);
        }
    }

    fn end(&mut self, line: Vec<String>, most: usize) {
        self.lines.push_back(line);
        if self.lines.len() > most {
            self.lines.pop_front();
        }
    }

    /// All of them: what goes on still is the last.
    fn take(mut self, most: usize) -> impl Iterator<Item = String> {
        for line in std::mem::take(&mut self.open).into_iter().filter(|line| !line.is_empty()) {
            self.end(line, most);
        }
        self.lines.into_iter().flatten()
    }
}

/// Shows what is written from now on, until the container has ended.
fn follow(
    cli: &Cli,
    args: &LogsArgs,
    mut which: Which,
    files: &mut Files,
    show: &dyn Fn(&str) -> io::Result<()>,
) -> io::Result<()> {
    for round in 0.. {
        // Asked before reading, so that what was written until the end is still shown.
        let goes_on = match &mut which {
            Which::Own(instance, record) => container::state_of(instance, record).is_active(),
            Which::OfPod(..) if round % ASK_EVERY > 0 => true,
            Which::OfPod(runtime, container) => runs(cli, args, runtime, container),
        };
        while let Some(line) = files.line()? {
            show(&String::from_utf8_lossy(&line))?;
        }
        if !goes_on {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether a pod's container may still write. Its runtime may be restarted meanwhile: the log goes on.
fn runs(cli: &Cli, args: &LogsArgs, runtime: &mut Runtime, container: &Container) -> bool {
    let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
    match runtime.wait(async |client| client.container_status(request).await) {
        Ok(answer) => matches!(
            answer.status.unwrap_or_default().state(),
            ContainerState::ContainerCreated | ContainerState::ContainerRunning
        ),
        Err(error) if error.code() == grpc::Code::Unavailable => {
            if let Ok(anew) = Runtime::connect(&cli.run_dir, &args.of.cri) {
                *runtime = anew;
            }
            true
        }
        Err(_) => false,
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
    fn the_last_lines_are_whole_when_streams_alternate() {
        let entries = ["o F a", "o P b", "e F x", "o P c", "e P y", "o F d", "e F z", "nonsense", "o P g"];
        for (most, expected) in
            [(0, &[][..]), (1, &["g"]), (3, &["e", "", "g"]), (9, &["a", "x", "bcd", "yz", "", "g"])]
        {
            let mut last = Last::default();
            for entry in entries {
                let (stream, rest) = entry.split_once(' ').unwrap_or((entry, ""));
                let stream = if stream == "e" { "stderr" } else { "stdout" };
                last.push(format!("2026 {stream} {rest}"), most);
            }
            let text = |entry: String| entry.rsplit(' ').next().unwrap().to_owned();
            let shown: Vec<String> = last.take(most).map(text).collect();
            assert_eq!(shown.concat(), expected.concat().replace('e', "yz"), "{most}");
        }
    }

    #[test]
    fn entries_are_read_and_nonsense_is_not() {
        let entry = parse("2026-11-23T10:00:00.000000000Z stderr P some text").unwrap();
        assert!(entry.stderr && entry.partial && entry.text == "some text");
        assert!(parse("2026 stdout F").is_some_and(|e| e.text.is_empty()));
        assert!(parse("nonsense").is_none());
    }
}
