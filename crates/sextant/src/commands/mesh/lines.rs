//! The access log, and those who look on: lines of single requests, from the thread that serves to whoever wants them.
//!
//! The proxy puts lines into a channel that has a bound and never waits. A thread of its own takes them out twenty times a second, so that
//! the proxy has nobody to wake, either, and writes them; a disk that is slow loses lines, and holds no request up.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder, JoinHandle, Thread};
use std::time::Duration;

use mesh::telemetry::Line;
use tokio::sync::mpsc;

use super::known::Known;
use super::wire::{Event, Filter};
use crate::cli::LogFormat;
use crate::failure::{Context, Result};

/// So many lines may wait to be written.
const RING: usize = 4096;
/// How often they are.
const OFTEN: Duration = Duration::from_millis(50);
/// So many may wait for one who looks on.
const TAP: usize = 1024;
/// So many may look on at once.
const TAPS: usize = 64;

/// Takes and writes lines until it is told to end.
#[derive(Debug)]
pub(super) struct Lines {
    shared: Arc<Shared>,
    taker: Thread,
    joined: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    taps: Mutex<Vec<Tap>>,
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Tap {
    filter: Filter,
    events: mpsc::Sender<Event>,
}

/// Who may read the log, if it is made here: it tells who asks whom for what.
const MODE: u32 = 0o640;

/// Where the log goes, and in which form.
pub(super) struct Log {
    out: Box<dyn Write + Send>,
    format: LogFormat,
    /// What was said about it, and is not over.
    failing: bool,
}

impl Log {
    /// At a path, behind what is there; `-` is standard output.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(path: &Path, format: LogFormat) -> Result<Self> {
        let out: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let file = File::options().create(true).append(true).mode(MODE).open(path);
            Box::new(file.context(|| format!("open the access log {} (--access-log)", path.display()))?)
        };
        Ok(Self { out: Box::new(BufWriter::new(out)), format, failing: false })
    }

    fn write(&mut self, event: &Event) {
        let line = match self.format {
            LogFormat::Text => event.text(),
            // A line of plain fields can be written.
            LogFormat::Json => serde_json::to_string(event).unwrap_or_default(),
        };
        let written = writeln!(self.out, "{line}");
        self.note(written);
    }

    fn flush(&mut self) {
        let flushed = self.out.flush();
        self.note(flushed);
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && !std::mem::replace(&mut self.failing, true)
        {
            eprintln!(
                "sextant mesh: warning: cannot write to the access log, and some lines are lost: {error}"
            );
        }
    }
}

impl Lines {
    /// Begins to. Without a log nothing is told by the proxy before somebody looks on.
    ///
    /// # Errors
    /// The kernel's: there is no thread.
    pub(super) fn start(known: Known, log: Option<Log>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let taken = shared.clone();
        let work = move || take(&known, log, &taken);
        let thread = Builder::new().name("mesh-lines".into()).spawn(work)?;
        Ok(Self { shared, taker: thread.thread().clone(), joined: Mutex::new(Some(thread)) })
    }

    /// What ends from now on, of what `filter` has. What is not taken in time is left out.
    ///
    /// # Errors
    /// There are as many as may be.
    pub(super) fn tap(&self, filter: Filter) -> Result<mpsc::Receiver<Event>, String> {
        let (events, received) = mpsc::channel(TAP);
        let mut taps = self.shared.taps.lock().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|tap| !tap.events.is_closed());
        if taps.len() >= TAPS {
            return Err(format!("{TAPS} look on already: end one of them"));
        }
        taps.push(Tap { filter, events });
        drop(taps);
        self.taker.unpark();
        Ok(received)
    }

    /// Writes what there is, and nothing more.
    pub(super) fn end(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.taker.unpark();
        if let Some(thread) = self.joined.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end();
    }
}

fn take(known: &Known, mut log: Option<Log>, shared: &Shared) {
    // A megabyte, which is there only while somebody wants lines.
    let mut received = None;
    loop {
        let is_over = shared.is_over.load(Ordering::Relaxed);
        if let Some(received) = &received {
            pass(known, received, &mut log, shared);
        }
        if is_over {
            return;
        }
        let is_wanted = log.is_some() || {
            let mut taps = shared.taps.lock().unwrap_or_else(PoisonError::into_inner);
            taps.retain(|tap| !tap.events.is_closed());
            !taps.is_empty()
        };
        if is_wanted != received.is_some() {
            let (lines, taken) = if is_wanted { both() } else { (None, None) };
            if known.looker().watch(lines).is_err() {
                // Nobody serves any more.
                return;
            }
            received = taken;
        }
        if received.is_some() { thread::sleep(OFTEN) } else { thread::park() }
    }
}

/// Both ends of a new channel.
fn both() -> (Option<SyncSender<Line>>, Option<Receiver<Line>>) {
    let (lines, received) = sync_channel(RING);
    (Some(lines), Some(received))
}

/// Passes on what there is.
fn pass(known: &Known, received: &Receiver<Line>, log: &mut Option<Log>, shared: &Shared) {
    let mut some = false;
    // As many as there may be: who is faster than this thread must not keep it from looking at anything else.
    for line in received.try_iter().take(RING) {
        let event = known.event(line);
        if let Some(log) = log {
            log.write(&event);
        }
        let mut taps = shared.taps.lock().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|tap| {
            // Who is slow misses some.
            !tap.filter.has(&event)
                || !matches!(tap.events.try_send(event.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
        some = true;
    }
    if let Some(log) = log.as_mut().filter(|_| some) {
        log.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_log_is_not_everybodys_to_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("access.log");
        drop(Log::open(&path, LogFormat::Json).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }
}
