use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::socket::{Protocol, Socket};
use crate::{Act, Error, Result};

/// A file of a namespace, and the socket that was opened there.
type Outcome = (File, Result<Socket>);

/// A thread that goes into other network namespaces, opens sockets there, and comes home. It does nothing else, so that no
/// work ever finds itself in the wrong namespace; if it cannot come home it ends. It also ends with this handle.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Taken by [`Drop`] alone.
    ask: Option<Sender<(Protocol, File)>>,
    answer: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Visitor {
    /// Starts one whose home is the caller's network namespace.
    pub(super) fn start() -> Result<Self> {
        let path = "/proc/thread-self/ns/net";
        let home = File::open(path).act("open", || path)?;
        let (ask, asked) = channel::<(Protocol, File)>();
        let (tell, answer) = channel();
        let visit = move || {
            while let Ok((protocol, netns)) = asked.recv() {
                let opened = enter(&netns).and_then(|()| Socket::open(protocol));
                let back = enter(&home);
                let told = tell.send((netns, opened));
                if back.is_err() || told.is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("visitor".into())
            .spawn(visit)
            .act("start", || "a thread for namespaces")?;
        Ok(Self { ask: Some(ask), answer, thread: Some(thread) })
    }

    /// Opens a socket in `netns`. An error means that the thread has ended.
    pub(super) fn open(&self, protocol: Protocol, netns: File) -> Result<Outcome> {
        let ended = || {
            let error = IoError::new(ErrorKind::BrokenPipe, "the thread that goes there has ended");
            Error::new("enter", "a network namespace", error)
        };
        let asked = self.ask.as_ref().is_some_and(|ask| ask.send((protocol, netns)).is_ok());
        if asked { self.answer.recv().map_err(|_| ended()) } else { Err(ended()) }
    }
}

fn enter(netns: &File) -> Result<()> {
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .act("enter", || "a network namespace")
}

impl Drop for Visitor {
    fn drop(&mut self) {
        drop(self.ask.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
