//! Where makers of sandboxes tell of them before the first container of one starts: a node, or a CNI plugin in its chain ([`cni::mesh`]).
//!
//! Whether a pod is a member is the API's to say, and it may say it a moment later: who tells waits so long.

use std::fs::File;
use std::future::pending;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use cni::mesh::{Answer, LONGEST, Question, SOCKET};
use grpc::{Bound, listen};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::geteuid;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::accept::each;
use super::members::Members;
use crate::failure::Result;

/// How long who tells may take to say it, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take until there is an answer, whatever this process does meanwhile: nobody waits so long ([`cni::mesh::PATIENCE`]).
const LATEST: Duration = Duration::from_secs(15);
/// How long it is waited until it is known whether a pod is a member.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// How long it is waited until a member can prove who it is.
const PROVED_WITHIN: Duration = Duration::from_secs(5);
/// So many are heard at the same time; others wait in the socket's queue.
const MANY: usize = 64;

/// A question, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) question: Question,
    /// The network namespace that came with it.
    pub(super) netns: Option<File>,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// What can be said to a question now.
#[derive(Debug)]
pub(super) enum Verdict {
    Answer(Answer),
    /// Not whether the pod is a member.
    Unknown,
    /// It is one, and cannot prove yet who it is.
    Unproved,
}

/// The socket. It goes with this.
#[derive(Debug)]
pub(super) struct Listening {
    accepting: JoinHandle<()>,
    _bound: Bound,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listening {
    /// Listens in the run directory of an instance; what is told comes to the receiver.
    pub(super) async fn start(run: &Path) -> Result<(Self, Receiver<Told>)> {
        let path = run.join(SOCKET);
        let taken = format!("cannot listen on {}: somebody else answers there already", path.display());
        let (listener, bound) = listen(&path, &taken).await?;
        let (tell, told) = channel(MANY);
        Ok((Self { accepting: tokio::spawn(serve(listener, tell)), _bound: bound }, told))
    }
}

async fn serve(listener: UnixListener, tell: Sender<Told>) {
    let hear = move |stream| {
        let tell = tell.clone();
        async move { hear(stream, &tell).await }
    };
    each(listener, MANY, hear).await;
}

async fn hear(mut stream: UnixStream, tell: &Sender<Told>) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    // The socket's mode says so, too.
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let (line, netns) = timeout(PATIENCE, receive(&stream)).await??;
    let answer = match Question::parse(&line) {
        Err(error) => Answer::failed(&error.to_string()),
        Ok(question) => {
            let (answer, answered) = oneshot::channel();
            let told = Told { question, netns, since: Instant::now(), answer };
            // At the end nobody answers any more: the connection's end says so.
            let asked = async {
                tell.send(told).await.ok()?;
                answered.await.ok()
            };
            let Some(answer) = timeout(LATEST, asked).await? else { return Ok(()) };
            answer
        }
    };
    let line = answer.to_line().map_err(io::Error::other)?;
    timeout(PATIENCE, stream.write_all(&line)).await?
}

/// A line, and the last descriptor that came with it. Nothing may come behind the line.
async fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<File>)> {
    let (mut line, mut netns) = (Vec::new(), None);
    loop {
        let came = stream.async_io(Interest::READABLE, || take(stream, &mut line, &mut netns)).await?;
        match line.iter().position(|byte| *byte == b'\n') {
            Some(end) if end + 1 == line.len() => {
                line.truncate(end);
                return Ok((line, netns));
            }
            None if came == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            None if line.len() <= LONGEST => {}
            _ => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// Takes what has come; how many bytes.
fn take(stream: &UnixStream, line: &mut Vec<u8>, netns: &mut Option<File>) -> io::Result<usize> {
    let mut part = [0_u8; 4096];
    // For more than one there is no place: the kernel closes them.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let came = recvmsg(stream, &mut [IoSliceMut::new(&mut part)], &mut control, flags)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                *netns = Some(File::from(fd));
            }
        }
    }
    line.extend_from_slice(part.get(..came).unwrap_or_default());
    Ok(came)
}

/// Those who wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Each with when it is answered at the latest.
    waiting: Vec<(Instant, Told)>,
}

impl Early {
    /// Somebody has told of something.
    pub(super) fn enter(&mut self, told: Told) {
        self.waiting.push((told.since + KNOWN_WITHIN, told));
    }

    /// Waits until somebody is not to wait any longer.
    pub(super) async fn due(&self) {
        match self.waiting.iter().map(|(until, _)| *until).min() {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
    }

    /// Answers whom something can be said to, or who has waited long enough.
    ///
    /// # Errors
    /// Nobody serves pods any more.
    pub(super) fn serve(&mut self, members: &mut Members) -> Result<()> {
        for (_, told) in std::mem::take(&mut self.waiting) {
            // Nobody waits any more.
            if told.answer.is_closed() {
                continue;
            }
            let (within, answer) = match members.judge(&told)? {
                Verdict::Answer(answer) => (Duration::ZERO, answer),
                Verdict::Unknown => (KNOWN_WITHIN, Answer::Unknown),
                Verdict::Unproved => {
                    let words = "it is a member, and has no certificate yet";
                    (PROVED_WITHIN, Answer::failed(words))
                }
            };
            let until = told.since + within;
            if until <= Instant::now() {
                let _gone = told.answer.send(answer);
            } else {
                self.waiting.push((until, told));
            }
        }
        Ok(())
    }
}
