//! The streams of a process of the Task API. What is no terminal gets its FIFOs as they are, and nothing is copied; this
//! process holds them open, too, so that a containerd that is away ends no program by SIGPIPE.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kernel::process::{CStrings, Child, cstring, spawn_path};
use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::connection::Refusal;
use super::super::process::{Process, StreamRef, kill_and_reap};
use super::super::waiting::Source;
use super::super::{Key, Server};

/// How long a logger may take to say that it is ready.
const LOGGER: Duration = Duration::from_secs(10);
/// Read at once from a person at a terminal.
const PIECE: usize = 4096;

#[derive(Debug, Default)]
pub(in super::super) struct Streams {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// What is to be brought in, until it is.
    pub(super) wanted: Option<oci_runtime::contract::Process>,
    /// Who waits for that.
    pub(in super::super) starter: Option<StreamRef>,
    /// Keeps standard input from ending before its writer has come, which it has when the program starts: from then on
    /// the writer's end is that of the input.
    input: Option<OwnedFd>,
    /// Keeps the outputs' readers.
    outputs: Vec<OwnedFd>,
    /// Where a terminal's input comes from.
    feed: Option<OwnedFd>,
    /// Where a terminal's output goes, and what it did not take yet.
    sink: Option<OwnedFd>,
    pending: Vec<u8>,
    ended: bool,
    /// One that was just started, until it is adopted.
    logger: Option<Child>,
}

impl Streams {
    pub(super) fn new(stdin: &str, stdout: &str, stderr: &str) -> Self {
        Self { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into(), ..Self::default() }
    }

    /// For a process without a terminal.
    pub(in super::super) fn open(&mut self, id: &str, namespace: &str) -> Result<[OwnedFd; 3], Refusal> {
        let stdin = if self.stdin.is_empty() {
            null()?
        } else {
            // Both ends, and neither waits for the other.
            let theirs = open(&self.stdin, OFlags::RDONLY | OFlags::NONBLOCK)?;
            self.input = Some(open(&self.stdin, OFlags::WRONLY)?);
            rustix::io::ioctl_fionbio(&theirs, false).map_err(Refusal::internal)?;
            theirs
        };
        if self.stdout.starts_with("binary://") {
            let [out, err] = self.start_logger(id, namespace)?;
            return Ok([stdin, out, err]);
        }
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        Ok([stdin, self.output(&stdout)?, self.output(&stderr)?])
    }

    fn output(&mut self, name: &str) -> Result<OwnedFd, Refusal> {
        match name.split_once("://") {
            None if name.is_empty() => null(),
            None => {
                self.outputs.push(open(name, OFlags::RDWR)?);
                open(name, OFlags::WRONLY)
            }
            Some(("file", path)) => append(path),
            Some((scheme, _)) => {
                let message =
                    format!("{name}: no output goes to {scheme} (give a FIFO, binary:// or file://)");
                Err(Refusal::new(crate::protocol::Code::InvalidArgument, message))
            }
        }
    }

    /// For a process with a terminal.
    pub(in super::super) fn open_terminal(&mut self, id: &str, namespace: &str) -> Result<(), Refusal> {
        if !self.stdin.is_empty() {
            self.feed = Some(open(&self.stdin, OFlags::RDWR | OFlags::NONBLOCK)?);
        }
        self.sink = match self.stdout.split_once("://") {
            None if self.stdout.is_empty() => None,
            None => Some(open(&self.stdout, OFlags::RDWR | OFlags::NONBLOCK)?),
            Some(("file", path)) => Some(append(path)?),
            Some(_) => {
                let [out, _] = self.start_logger(id, namespace)?;
                rustix::io::ioctl_fionbio(&out, true).map_err(Refusal::internal)?;
                Some(out)
            }
        };
        Ok(())
    }

    /// A program that takes both outputs on 3 and 4, and closes 5 when it is ready: `binary://PATH?KEY=VALUE...`.
    fn start_logger(&mut self, id: &str, namespace: &str) -> Result<[OwnedFd; 2], Refusal> {
        let address = self.stdout.strip_prefix("binary://").ok_or_else(|| {
            Refusal::new(
                crate::protocol::Code::InvalidArgument,
                format!("{}: no logger is known by this (give binary:// or file://)", self.stdout),
            )
        })?;
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let words = query.split('&').filter(|pair| !pair.is_empty()).flat_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            [unescape(key), unescape(value)]
        });
        let args = std::iter::once(path.as_bytes().to_vec()).chain(words.filter(|word| !word.is_empty()));
        let env = [
            format!("CONTAINER_ID={id}"),
            format!("CONTAINER_NAMESPACE={namespace}"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ];
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Refusal::internal);
        let ((out_theirs, out), (err_theirs, err), (ready, ready_theirs)) = (pipe()?, pipe()?, pipe()?);
        let null = null()?;
        let fds: [BorrowedFd<'_>; 6] = [
            null.as_fd(),
            null.as_fd(),
            null.as_fd(),
            out_theirs.as_fd(),
            err_theirs.as_fd(),
            ready_theirs.as_fd(),
        ];
        let (args, env) = (CStrings::new(args), CStrings::new(env));
        let started = args.and_then(|args| Ok((args, env?, cstring(path.as_bytes())?)));
        let (args, env, path) = started.map_err(Refusal::internal)?;
        let logger = spawn_path(&path, &args, &env, &fds).map_err(Refusal::internal)?;
        drop(ready_theirs);
        await_ready(&ready).inspect_err(|_| kill_and_reap(&logger))?;
        self.logger = Some(logger);
        Ok([out, err])
    }

    /// The program runs.
    pub(super) fn started(&mut self) {
        self.input = None;
    }

    pub(super) fn close_input(&mut self) {
        (self.input, self.feed) = (None, None);
    }

    pub(in super::super) fn feed(&self) -> Option<BorrowedFd<'_>> {
        self.feed.as_ref().map(AsFd::as_fd)
    }

    pub(in super::super) fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().map(AsFd::as_fd)
    }

    pub(in super::super) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A terminal's output.
    pub(in super::super) fn take(&mut self, data: &[u8]) {
        if self.sink.is_some() {
            self.pending.extend(data);
            self.flush();
        }
    }

    /// Writes what the reader takes now. Its end is the end of all that is left.
    pub(in super::super) fn flush(&mut self) {
        while let (Some(sink), false) = (&self.sink, self.pending.is_empty()) {
            match rustix::io::write(sink, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
        if self.ended {
            self.sink = None;
        }
    }

    /// The process has ended: readers see the end once they have read all.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.close_input();
        self.outputs.clear();
        self.flush();
    }

    /// Nobody reads any more.
    fn drop_sink(&mut self) {
        self.sink = None;
        self.pending.clear();
    }
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Refusal> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Refusal::internal(format!("cannot open {path}: {}", io::Error::from(e))))
}

fn null() -> Result<OwnedFd, Refusal> {
    open("/dev/null", OFlags::RDWR)
}

fn append(path: &str) -> Result<OwnedFd, Refusal> {
    let say = |e: io::Error| Refusal::internal(format!("cannot open {path}: {e}"));
    if let Some(parent) = Path::new(path).parent() {
        std::fs::create_dir_all(parent).map_err(say)?;
    }
    std::fs::File::options().append(true).create(true).open(path).map(OwnedFd::from).map_err(say)
}

fn await_ready(ready: &OwnedFd) -> Result<(), Refusal> {
    use rustix::event::{PollFd, PollFlags, poll};
    let limit = rustix::time::Timespec { tv_sec: LOGGER.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(ready, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit))) {
        Ok(n) if n > 0 => Ok(()),
        _ => Err(Refusal::internal(format!("the logger is not ready after {} s", LOGGER.as_secs()))),
    }
}

/// `%XX` and `+` of a query.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().iter().copied();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let escaped = bytes.clone().take(2).collect::<Vec<u8>>();
        let escaped = Some(escaped.as_slice())
            .filter(|two| two.len() == 2)
            .and_then(|two| std::str::from_utf8(two).ok());
        match (byte, escaped.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                bytes.nth(1);
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(other),
        }
    }
    out
}

impl Server {
    /// Waits for the end of the logger that was started for a process, whatever becomes of that.
    pub(in super::super) fn adopt_logger(&mut self, process: &mut Process) {
        let Some(logger) = process.streams.as_mut().and_then(|s| s.logger.take()) else { return };
        let key = self.new_key();
        self.loggers.insert(key, logger);
        // Without epoll it is reaped after this process.
        let _ = self.listen_for(Source::Logger(key), EventFlags::IN);
    }

    pub(in super::super) fn reap_logger(&mut self, key: Key) {
        if self.loggers.get(&key).is_some_and(|logger| matches!(logger.try_wait(), Ok(None))) {
            return;
        }
        self.forget(&Source::Logger(key));
        self.loggers.remove(&key);
    }

    /// Connects a terminal with the FIFOs it was given, which are open.
    pub(super) fn carry_terminal(&mut self, key: Key) -> Result<(), Refusal> {
        if !self.processes.get(&key).is_some_and(|p| p.terminal && p.streams.is_some()) {
            return Ok(());
        }
        self.listen_for(Source::Feed(key), EventFlags::IN).map_err(Refusal::internal)?;
        // A file is always ready, and no epoll takes it.
        let _ = self.listen_for(Source::Sink(key), EventFlags::empty());
        Ok(())
    }

    /// Somebody typed.
    pub(in super::super) fn read_feed(&mut self, key: Key) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let mut piece = [0; PIECE];
        let read = process.streams.as_ref().and_then(|s| s.feed()).map(|fd| rustix::io::read(fd, &mut piece));
        match read {
            Some(Ok(n)) if n > 0 => process.write(&piece[..n]),
            Some(Err(Errno::AGAIN | Errno::INTR)) => {}
            _ => self.forget(&Source::Feed(key)),
        }
    }

    /// A reader takes output again; or is gone, if its side is `broken`, and what would be for it is dropped.
    pub(in super::super) fn flush_sink(&mut self, key: Key, broken: bool) {
        let Some(streams) = self.processes.get_mut(&key).and_then(|p| p.streams.as_mut()) else { return };
        if broken {
            streams.drop_sink();
        }
        streams.flush();
        if streams.sink().is_none() {
            self.forget(&Source::Sink(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn queries_are_unescaped() {
        for (text, bytes) in
            [("a%20b", "a b"), ("a+b", "a b"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%2F%3d", "/=")]
        {
            assert_eq!(unescape(text), bytes.as_bytes(), "{text}");
        }
    }
}
