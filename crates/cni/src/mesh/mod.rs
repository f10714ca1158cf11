//! How a node's mesh is told of a pod's sandbox before the first container starts: over a unix socket, by whoever makes the sandbox's network.
//!
//! One connection is one question, a line of JSON of [`LONGEST`] bytes at most, with the network namespace's descriptor beside its first byte where
//! the question is about a sandbox; then one answer, a line of JSON. See docs/adr/0033-told-of-sandboxes-before-their-first-container.md.

mod message;

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};

pub use message::{Answer, LONGEST, Question, Sandbox};

use crate::contract::{Code, Error};

/// The socket's name in the run directory of the instance whose mesh it is.
pub const SOCKET: &str = "mesh-pods.sock";
/// Where the mesh of the usual instance listens.
pub const USUAL: &str = "/run/sextant/mesh-pods.sock";
/// The annotation by which a kubelet says where a pod comes from.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// How long one question may take, from the first to the last: longer than the mesh waits for what it has to know.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a pod with this [`SOURCE`] is of a file on the node, or of an address that the node asks: such pods are no pods of the mesh, which does not
/// take in what a node alone says.
#[must_use]
pub fn is_static(source: Option<&str>) -> bool {
    matches!(source, Some("file" | "http"))
}

/// Asks the mesh that listens at `socket`, and waits for its answer, for [`PATIENCE`] at most. `netns` is the network namespace of the sandbox that the
/// question is about, if it is about one.
///
/// # Errors
/// Code 11 (try again): nobody listens there, or does not answer in time or in words of this version. Code 7: the question cannot be asked.
pub fn ask(socket: &Path, question: &Question, netns: Option<BorrowedFd<'_>>) -> Result<Answer, Error> {
    let line = question.to_line()?;
    let failed = |e: io::Error| {
        Error::because(format!("cannot ask the mesh at {}", socket.display()), e)
            .code(Code::TryAgain)
            .hint("`sextant mesh` listens there")
    };
    let answer = converse(socket, &line, netns, Instant::now() + PATIENCE).map_err(failed)?;
    Answer::parse(&answer)
}

fn converse(socket: &Path, line: &[u8], netns: Option<BorrowedFd<'_>>, end: Instant) -> io::Result<Vec<u8>> {
    let mut stream = reach(socket, end)?;
    let sent = send(&stream, line, netns)?;
    stream.write_all(line.get(sent..).unwrap_or_default())?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut part) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
            // Whether time is over is looked at above.
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(e) => return Err(e),
        }
        if let Some(whole) = answer.iter().position(|byte| *byte == b'\n') {
            answer.truncate(whole);
            return Ok(answer);
        }
        if answer.len() > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

fn reach(path: &Path, end: Instant) -> io::Result<UnixStream> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // So long the kernel waits for a place in a queue that is full, too.
    set_socket_timeout(&fd, Timeout::Send, Some(left(end)?))?;
    let address = SocketAddrUnix::new(path)?;
    retry_on_intr(|| connect(&fd, &address))?;
    Ok(UnixStream::from(fd))
}

/// Sends the beginning of `line`, with the descriptor; how much of it.
fn send(stream: &UnixStream, line: &[u8], netns: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let fds = netns.map(|fd| [fd]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fds) = &fds
        && !control.push(SendAncillaryMessage::ScmRights(fds))
    {
        return Err(io::Error::other("a descriptor has no place in a message"));
    }
    let sent = retry_on_intr(|| sendmsg(stream, &[IoSlice::new(line)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(sent)
}

/// The time until `end`.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::IoSliceMut;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    fn sandbox() -> Sandbox {
        Sandbox {
            namespace: "shop".into(),
            name: "web-0".into(),
            uid: "7e1f".into(),
            id: "c0ffee".into(),
            netns: "/run/netns/blue".into(),
        }
    }

    /// Answers one question with these bytes; the question, and the descriptor that came with it.
    fn answering(
        listener: UnixListener,
        answer: &'static [u8],
    ) -> thread::JoinHandle<(Vec<u8>, Option<OwnedFd>)> {
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = vec![0_u8; LONGEST];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
            let fd = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            stream.write_all(answer).unwrap();
            bytes.truncate(got);
            (bytes, fd)
        })
    }

    #[test]
    fn a_question_goes_with_the_namespace_and_comes_back_as_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        let other = answering(UnixListener::bind(&path).unwrap(), b"\"captured\"\n");
        let netns = File::open("/proc/thread-self/ns/net").unwrap();
        let question = Question::Made(sandbox());
        assert_eq!(ask(&path, &question, Some(netns.as_fd())).unwrap(), Answer::Captured);
        let (line, fd) = other.join().unwrap();
        assert_eq!(Question::parse(line.strip_suffix(b"\n").unwrap()).unwrap(), question);
        let came = File::from(fd.unwrap()).metadata().unwrap();
        let went = netns.metadata().unwrap();
        assert_eq!((came.dev(), came.ino()), (went.dev(), went.ino()));
    }

    #[test]
    fn who_is_away_or_says_something_else_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        let away = ask(&path, &Question::Ready, None).unwrap_err();
        assert_eq!(away.code, Code::TryAgain);
        assert!(away.to_string().contains(SOCKET), "{away}");
        for (answer, words) in [(&b""[..], "end of file"), (b"\"who?\"\n", "who?"), (b"{}\n", "answer")] {
            let _ = std::fs::remove_file(&path);
            let other = answering(UnixListener::bind(&path).unwrap(), answer);
            let error = ask(&path, &Question::Ready, None).unwrap_err();
            assert_eq!(error.code, Code::TryAgain, "{error}");
            assert!(error.to_string().contains(words), "{error}");
            let (line, fd) = other.join().unwrap();
            assert_eq!((line.as_slice(), fd.is_none()), (&b"\"ready\"\n"[..], true));
        }
    }
}
