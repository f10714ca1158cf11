//! Logs of containers, as runtimes write them: `TIME STREAM F|P TEXT`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::query::Query;
use cri::contract::v1::ContainerStatusRequest;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use tokio::sync::mpsc;

use super::{Reply, streams, text};
use crate::agent::Agent;
use crate::observed::is_running;
use crate::pod::containers;
use crate::volumes;

/// How much is sent at once.
const PIECE: usize = 32 << 10;
/// After so long without a word it is looked whether the container runs still.
const QUIET: Duration = Duration::from_secs(1);

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
struct Wish {
    follow: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<usize>,
    /// One stream alone.
    stream: Option<&'static str>,
}

impl Wish {
    fn of(query: &Query) -> Result<Self, String> {
        let since = match (query.get("sinceTime"), query.number("sinceSeconds")) {
            (Some(time), _) => {
                Some(time.parse().map_err(|e| format!("sinceTime: {time:?} is no time: {e}"))?)
            }
            (None, Some(seconds)) => Timestamp::now().checked_sub(Duration::from_secs(seconds)).ok(),
            (None, None) => None,
        };
        Ok(Self {
            follow: query.is("follow"),
            timestamps: query.is("timestamps"),
            tail: query.number("tailLines").and_then(|lines| usize::try_from(lines).ok()),
            limit: query.number("limitBytes").and_then(|bytes| usize::try_from(bytes).ok()),
            stream: match query.get("stream") {
                Some("Stdout") => Some("stdout"),
                Some("Stderr") => Some("stderr"),
                _ => None,
            },
            since,
        })
    }

    /// What is sent of a line; `None` for nothing.
    fn take(&self, line: &[u8]) -> Option<Vec<u8>> {
        let (time, rest) = split(line)?;
        let (stream, rest) = split(rest)?;
        let (tag, content) = split(rest).unwrap_or((rest, b""));
        if self.stream.is_some_and(|wanted| wanted.as_bytes() != stream) {
            return None;
        }
        let time = std::str::from_utf8(time).ok()?;
        if let Some(since) = self.since
            && time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return None;
        }
        let mut out = Vec::with_capacity(content.len() + 40);
        if self.timestamps {
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(content);
        // A part of a line goes on in the next.
        if tag.first() != Some(&b'P') {
            out.push(b'\n');
        }
        Some(out)
    }
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    Some((&line[..at], &line[at + 1..]))
}

/// `/containerLogs/NAMESPACE/POD/CONTAINER`
pub(super) async fn answer(
    agent: &Arc<Agent>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Reply {
    let wish = match Wish::of(query) {
        Ok(wish) => wish,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let (key, observed) = match streams::find(agent, namespace, pod).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let previous = query.is("previous");
    let found = if previous { observed.previous(container) } else { observed.container(container) };
    let Some(found) = found else {
        let known = agent.pod(&key).is_some_and(|pod| containers::has(&pod, container));
        let words = match (known, previous) {
            (false, _) => format!("container {container} is not valid for pod {pod}"),
            (true, true) => format!("previous terminated container {container:?} in pod {pod:?} not found"),
            (true, false) => {
                format!("container {container:?} in pod {pod:?} is waiting to start: ContainerCreating")
            }
        };
        return text(StatusCode::BAD_REQUEST, words);
    };
    let (path, id) = (PathBuf::from(&found.log_path), found.id.clone());
    let file = match volumes::open(&path) {
        Ok(file) => file,
        Err(error) => {
            let words = format!("failed to try resolving symlinks in path {:?}: {error}", path.display());
            return text(StatusCode::INTERNAL_SERVER_ERROR, words);
        }
    };
    let (sender, receiver) = mpsc::channel(4);
    let agent = agent.clone();
    tokio::spawn(async move {
        let mut sending = Sending { left: wish.limit.unwrap_or(usize::MAX), sender, wish };
        // Who does not read any more, or a file that cannot be read, ends it.
        let _ = sending.run(&agent, &id, &path, file).await;
    });
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        let piece: Bytes = receiver.recv().await?;
        Some((Ok(Frame::data(piece)), receiver))
    });
    let mut reply = Response::new(StreamBody::new(pieces).boxed_unsync());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    reply
}

struct Sending {
    wish: Wish,
    sender: mpsc::Sender<Bytes>,
    left: usize,
}

impl Sending {
    async fn run(&mut self, agent: &Agent, id: &str, path: &Path, mut file: File) -> io::Result<()> {
        if let Some(lines) = self.wish.tail {
            // All of a long log may be looked through: others do not wait for that.
            let looking = tokio::task::spawn_blocking(move || {
                let at = last_lines(&mut file, lines)?;
                file.seek(SeekFrom::Start(at)).map(|_| file)
            });
            file = looking.await.map_err(io::Error::other)??;
        }
        let mut watching = self.wish.follow.then(|| watch(path)).transpose()?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            let is_over = match &watching {
                None => true,
                Some(_) => !runs(agent, id).await,
            };
            self.rest(&mut reader, &mut line).await?;
            if is_over || self.left == 0 {
                return Ok(());
            }
            let Some(heard) = &watching else { continue };
            if let Some(next) = replaced(reader.get_ref(), path) {
                // What came to the old one before the container wrote to the new one.
                self.rest(&mut reader, &mut line).await?;
                watching = Some(watch(path)?);
                reader = BufReader::new(next);
                continue;
            }
            tokio::select! {
                () = self.sender.closed() => return Ok(()),
                () = changed(heard.clone()) => {}
            }
        }
    }

    /// Sends all whole lines that there are; what is no line yet stays in `line`.
    async fn rest(&mut self, reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<()> {
        let mut piece = Vec::new();
        let mut read = 0;
        while self.left > 0 {
            read += reader.read_until(b'\n', line)?;
            if read >= PIECE {
                read = 0;
                // Lines that nobody wants are many, too.
                tokio::task::yield_now().await;
            }
            if line.last() != Some(&b'\n') {
                break;
            }
            line.pop();
            if let Some(mut text) = self.wish.take(line) {
                text.truncate(self.left);
                self.left -= text.len();
                piece.append(&mut text);
            }
            line.clear();
            if piece.len() >= PIECE {
                self.send(std::mem::take(&mut piece)).await?;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.send(piece).await }
    }

    async fn send(&self, piece: Vec<u8>) -> io::Result<()> {
        self.sender.send(piece.into()).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

async fn runs(agent: &Agent, id: &str) -> bool {
    let asked = async {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        agent.runtime.client().await?.container_status(request).await
    };
    // A runtime that does not answer now may do so soon.
    asked.await.map_or_else(
        |error| error.code() != grpc::Code::NotFound,
        |answer| answer.status.as_ref().is_some_and(is_running),
    )
}

/// The file that is at a log's path now, if it is another one: the log was rotated.
fn replaced(file: &File, path: &Path) -> Option<File> {
    let id = |file: &File| file.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let next = volumes::open(path).ok()?;
    (id(&next)? != id(file)?).then_some(next)
}

/// Hears of what is written to a file.
fn watch(path: &Path) -> io::Result<Arc<OwnedFd>> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF)?;
    Ok(Arc::new(watch))
}

/// Resolves once something was written, or nothing for a while; a thread waits for it.
async fn changed(watch: Arc<OwnedFd>) {
    let waiting = tokio::task::spawn_blocking(move || {
        let quiet = Timespec::try_from(QUIET).ok();
        if poll(&mut [PollFd::new(&*watch, PollFlags::IN)], quiet.as_ref()).is_ok_and(|ready| ready > 0) {
            let mut buffer = [0_u8; 4096];
            while rustix::io::read(&*watch, &mut buffer).is_ok_and(|length| length > 0) {}
        }
    });
    // A thread that cannot be had is as if it was quiet.
    let _ = waiting.await;
}

/// Where the last so many lines of a file begin.
fn last_lines(file: &mut File, lines: usize) -> io::Result<u64> {
    let mut at = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(at);
    }
    let mut found = 0;
    let mut buffer = vec![0; PIECE];
    let size = at;
    while at > 0 {
        let length = at.min(u64::try_from(PIECE).unwrap_or(u64::MAX));
        at -= length;
        file.seek(SeekFrom::Start(at))?;
        let piece = &mut buffer[..usize::try_from(length).unwrap_or(PIECE)];
        file.read_exact(piece)?;
        for (index, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = at + u64::try_from(index).unwrap_or_default() + 1;
            // The last one ends the last line.
            if after < size {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            }
        }
    }
    Ok(0)
}

/// The end of what a container said, so many bytes of its log at most.
pub(crate) fn end(path: &Path, most: usize) -> io::Result<String> {
    let mut file = volumes::open(path)?;
    let at = last_lines(&mut file, 80)?;
    file.seek(SeekFrom::Start(at))?;
    let wish = Wish::default();
    let mut all = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        all.extend(wish.take(&line?).unwrap_or_default());
    }
    let from = all.len().saturating_sub(most);
    Ok(String::from_utf8_lossy(&all[from..]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000001Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n\
                       2026-01-01T00:00:03Z stdout P thr\n2026-01-01T00:00:03Z stdout F ee\n";

    fn said(wish: &Wish) -> String {
        let all = LOG.lines().filter_map(|line| wish.take(line.as_bytes())).flatten().collect();
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn lines_are_what_the_container_wrote() {
        assert_eq!(said(&Wish::default()), "one\ntwo\nthree\n");
        assert_eq!(said(&Wish { stream: Some("stderr"), ..Wish::default() }), "two\n");
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        assert_eq!(said(&Wish { since, ..Wish::default() }), "two\nthree\n");
        let with = said(&Wish { timestamps: true, stream: Some("stderr"), ..Wish::default() });
        assert_eq!(with, "2026-01-01T00:00:02Z two\n");
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(LOG.as_bytes()).unwrap();
        let mut from = |lines| {
            let at = last_lines(&mut file, lines).unwrap();
            LOG[usize::try_from(at).unwrap()..].lines().count()
        };
        assert_eq!([from(0), from(1), from(3), from(4), from(9)], [0, 1, 3, 4, 4]);
    }
}
