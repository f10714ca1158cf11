//! Fetching one blob: hashed as it comes, taken up again where it was cut.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Error, Options, Progress, Result, Source, SourceError, State,
    body::{Body, End},
    report::{Meter, Meters, Stage},
};
use crate::{
    contract::{Descriptor, Digest, Hasher},
    layer::thread_time,
    store::{Claim, Store},
};

const CHUNK: usize = 128 << 10;
/// How much is written before the kernel is asked to bring it to the disk: what is there when the blob is whole need
/// not be waited for, and its pages are free for the files once they are unpacked.
const WRITE_BACK: u64 = 8 << 20;
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// The longest that a server's `Retry-After` is obeyed; a longer one is an error that says so.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Below so many bytes a second a download does not get on: a byte a minute would keep it busy for years.
const SLOWEST: u64 = 512;

/// What a fetcher works with.
pub(super) struct Fetcher<'a> {
    pub(super) store: &'a Store,
    pub(super) source: &'a dyn Source,
    pub(super) options: &'a Options,
    pub(super) progress: &'a dyn Progress,
    pub(super) meter: &'a Meter,
    /// Whether the pull has failed elsewhere.
    pub(super) stopped: &'a (dyn Fn() -> bool + Sync),
}

/// A whole blob under its partial's name. As long as this lives, other pulls of it wait.
pub(super) struct Whole {
    claim: Claim,
}

impl Whole {
    pub(super) fn path(&self) -> PathBuf {
        self.claim.path().to_owned()
    }
}

impl Fetcher<'_> {
    /// Fetches a blob, telling `body` on the way. `None` if the store has it, or got it from another meanwhile.
    pub(super) fn fetch(&self, descriptor: &Descriptor, body: &Body) -> Result<Option<Whole>> {
        let (start, mut busy) = (thread_time(), Busy::default());
        let result = self.claimed(descriptor, body, &mut busy);
        body.end(match &result {
            Ok(Some(_)) => End::Whole,
            Ok(None) => End::Present,
            Err(_) => End::Failed,
        });
        let spent = thread_time().saturating_sub(start).saturating_sub(busy.hash);
        self.meter.add(Meters {
            fetch: Stage { bytes: busy.fetched, busy: spent },
            hash: Stage { bytes: busy.hashed, busy: busy.hash },
            ..Meters::default()
        });
        result
    }

    fn claimed(&self, descriptor: &Descriptor, body: &Body, busy: &mut Busy) -> Result<Option<Whole>> {
        let digest = &descriptor.digest;
        let mut joined = false;
        let waiting = || {
            if !joined {
                self.progress.state(digest, State::Joined);
                joined = true;
            }
            !(self.stopped)()
        };
        let partial = self.store.partial(digest, waiting).map_err(|e| self.unless_stopped(e.into()))?;
        let Some(partial) = partial else {
            let (file, size) = self.store.open_blob(digest)?;
            self.progress.state(digest, State::Present);
            self.progress.downloaded(digest, size);
            body.begin(Arc::new(file), size);
            return Ok(None);
        };
        let mut kept = partial.length;
        loop {
            match self.download(descriptor, &partial.claim, kept, body, busy) {
                Ok(()) => return Ok(Some(Whole { claim: partial.claim })),
                // What a killed process or a power cut left was wrong: once more, from the first byte.
                Err(Error::Mismatch { .. } | Error::Size { .. }) if kept > 0 => {
                    body.restart();
                    kept = 0;
                }
                Err(e @ (Error::Mismatch { .. } | Error::Size { .. })) => {
                    partial.claim.remove()?;
                    return Err(e);
                }
                Err(e) => {
                    if partial.claim.file.metadata().is_ok_and(|m| m.len() == 0) {
                        partial.claim.remove()?;
                    }
                    return Err(e);
                }
            }
        }
    }

    /// Downloads into the partial file, of which the first `kept` bytes stay.
    fn download(
        &self,
        descriptor: &Descriptor,
        claim: &Claim,
        kept: u64,
        body: &Body,
        busy: &mut Busy,
    ) -> Result<()> {
        let keep = |source| Error::Keep { digest: descriptor.digest.clone(), source };
        let kept = if kept > descriptor.size { 0 } else { kept };
        claim.file.set_len(kept).map_err(keep)?;
        // Opened anew and not duplicated: a duplicate would share the lock and hold it as long as someone reads.
        body.begin(Arc::new(File::open(claim.path()).map_err(keep)?), kept);
        self.progress.state(&descriptor.digest, State::Downloading { from: kept });
        let mut sink = Sink {
            descriptor,
            file: &claim.file,
            hasher: Hasher::new(descriptor.digest.algorithm()),
            length: 0,
            written_back: kept,
            body,
            busy,
        };
        let mut buffer = vec![0; CHUNK];
        sink.rehash(kept, &mut buffer).map_err(keep)?;
        if kept == 0
            && let Some(bytes) = descriptor.embedded()
        {
            sink.append(&bytes)?;
        }
        let mut failures = 0;
        // Since when, and from where on, it has not got on.
        let (mut since, mut from) = (Instant::now(), sink.length);
        while sink.length < descriptor.size {
            let before = sink.length;
            let Err(failure) = self.stream(&mut sink, &mut buffer)? else { continue };
            failures = if sink.length > before { 0 } else { failures + 1 };
            let after = since.elapsed();
            if sink.length - from > SLOWEST * after.as_secs() {
                (since, from) = (Instant::now(), sink.length);
            } else if failure.transient && after >= self.options.progress_within {
                return Err(Error::Stalled { digest: descriptor.digest.clone(), after, source: failure });
            }
            self.pause(&descriptor.digest, failure, failures)?;
        }
        let found = sink.hasher.finish();
        if found != descriptor.digest {
            return Err(Error::Mismatch { what: "blob", expected: descriptor.digest.clone(), found });
        }
        Ok(())
    }

    /// Reads one answer of the source into the sink. The outer error ends the download; the inner one is a cut.
    fn stream(&self, sink: &mut Sink<'_>, buffer: &mut [u8]) -> Result<Result<(), SourceError>> {
        let descriptor = sink.descriptor;
        let mut stream = match self.source.open(descriptor, sink.length) {
            Ok(stream) => stream,
            Err(e) => return Ok(Err(e)),
        };
        loop {
            if (self.stopped)() {
                return Err(Error::Cancelled);
            }
            match stream.read(buffer) {
                Ok(0) if sink.length < descriptor.size => {
                    let text =
                        format!("the connection ended after {} of {} bytes", sink.length, descriptor.size);
                    return Ok(Err(SourceError::transient(text)));
                }
                Ok(0) => return Ok(Ok(())),
                Ok(n) => {
                    sink.append(buffer.get(..n).unwrap_or_default())?;
                    self.progress.downloaded(&descriptor.digest, sink.length);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Ok(Err(SourceError::transient(e))),
            }
        }
    }

    /// Waits before the next try, or gives up.
    fn pause(&self, digest: &Digest, failure: SourceError, failures: u32) -> Result<()> {
        let too_long = failure.retry_after.is_some_and(|asked| asked > LONGEST_WAIT);
        if !failure.transient || too_long || failures >= self.options.attempts {
            return Err(Error::Download { digest: digest.clone(), source: failure });
        }
        let doubled = self.options.backoff.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF);
        let after = failure.retry_after.unwrap_or(doubled);
        self.progress.state(digest, State::Retrying { reason: failure.to_string(), after });
        let until = Instant::now() + after;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
            if (self.stopped)() {
                return Err(Error::Cancelled);
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    fn unless_stopped(&self, error: Error) -> Error {
        if (self.stopped)() { Error::Cancelled } else { error }
    }
}

#[derive(Default)]
struct Busy {
    fetched: u64,
    hashed: u64,
    hash: Duration,
}

/// Where the bytes go: the hash, the file, and whoever follows it.
struct Sink<'a> {
    descriptor: &'a Descriptor,
    file: &'a File,
    hasher: Hasher,
    length: u64,
    written_back: u64,
    body: &'a Body,
    busy: &'a mut Busy,
}

impl Sink<'_> {
    fn hash(&mut self, bytes: &[u8]) {
        let start = thread_time();
        self.hasher.update(bytes);
        self.busy.hash += thread_time().saturating_sub(start);
        self.busy.hashed += bytes.len() as u64;
    }

    /// Hashes what an earlier try left.
    fn rehash(&mut self, kept: u64, buffer: &mut [u8]) -> io::Result<()> {
        while self.length < kept {
            let wanted = usize::try_from(kept - self.length).unwrap_or(usize::MAX).min(buffer.len());
            let n = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.length)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.hash(buffer.get(..n).unwrap_or_default());
            self.length += n as u64;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let length = self.length + bytes.len() as u64;
        if length > self.descriptor.size {
            let (digest, expected) = (self.descriptor.digest.clone(), self.descriptor.size);
            return Err(Error::Size { what: "blob", digest, expected, found: length });
        }
        self.hash(bytes);
        self.file
            .write_all_at(bytes, self.length)
            .map_err(|source| Error::Keep { digest: self.descriptor.digest.clone(), source })?;
        self.length = length;
        self.busy.fetched += bytes.len() as u64;
        self.body.grow(length);
        let behind = length - self.written_back;
        if behind >= WRITE_BACK {
            // A filesystem that will not is none the worse for it.
            let _ = kernel::cache::begin_write_back(self.file, self.written_back, behind);
            self.written_back = length;
        }
        Ok(())
    }
}

/// Fetches a small blob into memory. At most its announced size is read, and one byte more to tell.
pub(super) fn small(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let fail = |source| Error::Download { digest: descriptor.digest.clone(), source };
    let mut last = None;
    for _ in 0..3 {
        let mut bytes = Vec::new();
        let stream = match source.open(descriptor, 0) {
            Err(e) if !e.transient => return Err(fail(e)),
            Err(e) => Err(e),
            Ok(stream) => {
                stream.take(descriptor.size + 1).read_to_end(&mut bytes).map_err(SourceError::transient)
            }
        };
        match stream {
            Ok(n) if n as u64 >= descriptor.size => return Ok(bytes),
            Ok(n) => last = Some(SourceError::transient(format!("the connection ended after {n} bytes"))),
            Err(e) => last = Some(e),
        }
    }
    Err(fail(last.unwrap_or_else(|| SourceError::transient("no answer"))))
}
