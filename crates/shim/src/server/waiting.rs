//! What the shim waits for: every descriptor in the epoll, and what is asked of each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::connection::Connection;
use super::process::Process;
use super::publish::Publisher;
use super::{CONNECTIONS, Key, Server};

/// Something that a descriptor stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Connection(u64),
    End(Key),
    Output(Key, usize),
    Input(Key),
    /// A process that is being brought in.
    Join(Key),
    /// A container's memory.
    Oom(String),
    /// The first process of the pod's PID namespace.
    Init,
    /// Children have ended.
    Children,
    /// A shim of others that runs the containers, and what it complains of.
    Foreign,
    ForeignLog,
    /// Its end.
    ForeignEnd,
    /// Where the input of a terminal comes from, and where its output goes, with the Task API.
    Feed(Key),
    Sink(Key),
    /// A program that takes output, until it ends.
    Logger(Key),
    /// Where containerd hears of events.
    Publisher,
}

#[derive(Debug)]
pub(super) struct Registered {
    pub(super) source: Source,
    flags: EventFlags,
}

impl Server {
    pub(super) fn listen_for(&mut self, source: Source, flags: EventFlags) -> io::Result<()> {
        self.next += 1;
        if let Some(fd) = self.descriptor(&source) {
            epoll::add(&self.epoll, fd, EventData::new_u64(self.next), flags)?;
            self.sources.insert(self.next, Registered { source, flags });
        }
        Ok(())
    }

    pub(super) fn descriptor(&self, source: &Source) -> Option<BorrowedFd<'_>> {
        match source {
            Source::Listener => self.listener.as_ref().map(AsFd::as_fd),
            Source::Connection(id) => self.connections.get(id).map(Connection::fd),
            Source::End(key) => self.processes.get(key)?.child().map(|c| c.pidfd.as_fd()),
            Source::Output(key, index) => self.processes.get(key)?.output(*index),
            Source::Input(key) => self.processes.get(key)?.input(),
            Source::Join(key) => self.processes.get(key)?.joining.as_ref()?.descriptor(),
            Source::Oom(container) => self.containers.get(container)?.oom_watch.as_ref().map(AsFd::as_fd),
            Source::Feed(key) => self.processes.get(key)?.streams.as_ref()?.feed(),
            Source::Sink(key) => self.processes.get(key)?.streams.as_ref()?.sink(),
            Source::Logger(key) => self.loggers.get(key).map(|logger| logger.pidfd.as_fd()),
            Source::Publisher => self.tasks.as_ref()?.publisher.as_ref()?.fd(),
            Source::Children => self.children.as_ref().map(AsFd::as_fd),
            Source::Foreign => self.runtime.foreign()?.fd(),
            Source::ForeignLog => self.runtime.foreign()?.log(),
            Source::ForeignEnd => self.runtime.foreign()?.process(),
            Source::Init => self.pod.as_ref()?.init.as_ref().map(|c| c.pidfd.as_fd()),
        }
    }

    pub(super) fn is_heard(&self, source: &Source) -> bool {
        self.sources.values().any(|r| r.source == *source)
    }

    /// A closed descriptor leaves the epoll by itself; its entry here must follow.
    pub(super) fn forget(&mut self, source: &Source) {
        self.sources.retain(|_, r| r.source != *source);
    }

    /// Forgets the streams of a process that is no more.
    pub(super) fn forget_streams(&mut self, key: Key) {
        let of = |source: &Source| match source {
            Source::Output(k, _) | Source::Input(k) | Source::Feed(k) => *k == key,
            _ => false,
        };
        self.sources.retain(|_, r| !of(&r.source));
    }

    /// Forgets a process altogether.
    pub(super) fn forget_process(&mut self, key: Key) {
        self.forget_streams(key);
        for source in [Source::Sink(key), Source::End(key), Source::Join(key)] {
            self.forget(&source);
        }
    }

    /// Tells the kernel what this process can take now: no output of a process whose reader is behind, no input from a
    /// client whose process is behind.
    pub(super) fn update_interests(&mut self) -> io::Result<()> {
        let wanted = self.sources.iter().filter_map(|(token, r)| Some((*token, self.wanted(r)?)));
        let changes: Vec<_> = wanted.filter(|(token, flags)| self.sources[token].flags != *flags).collect();
        for (token, flags) in changes {
            let Some(registered) = self.sources.get(&token) else { continue };
            if let Some(fd) = self.descriptor(&registered.source) {
                epoll::modify(&self.epoll, fd, EventData::new_u64(token), flags)?;
            }
            if let Some(registered) = self.sources.get_mut(&token) {
                registered.flags = flags;
            }
        }
        Ok(())
    }

    fn wanted(&self, registered: &Registered) -> Option<EventFlags> {
        Some(match &registered.source {
            Source::Connection(id) => {
                let connection = self.connections.get(id)?;
                let feeds = |p: &Process| p.attached.iter().any(|a| a.input && a.connection == *id);
                let full = self.processes.values().any(|p| p.input_is_full() && feeds(p));
                // One who asks and does not read the answers is asked to wait, too.
                let full = full || connection.is_full();
                let flags = if full { EventFlags::empty() } else { EventFlags::IN };
                if connection.wants_to_write() { flags | EventFlags::OUT } else { flags }
            }
            Source::Output(key, index) => {
                let process = self.processes.get(key)?;
                let behind = |id: &u64| self.connections.get(id).is_some_and(Connection::is_full);
                let held = process.attached.iter().any(|a| behind(&a.connection))
                    || process.streams.as_ref().is_some_and(|s| s.is_behind());
                let flags = if held { EventFlags::empty() } else { EventFlags::IN };
                // A terminal is one descriptor for both ways.
                let both = *index == 0 && process.has_console() && process.has_pending_input();
                if both { flags | EventFlags::OUT } else { flags }
            }
            Source::Input(key) => {
                let pending = self.processes.get(key).is_some_and(Process::has_pending_input);
                if pending { EventFlags::OUT } else { EventFlags::empty() }
            }
            Source::Listener if self.deaf || self.connections.len() >= CONNECTIONS => EventFlags::empty(),
            Source::Listener | Source::Init | Source::Children => EventFlags::IN,
            Source::ForeignLog | Source::ForeignEnd => EventFlags::IN,
            Source::Foreign => {
                let writes = self.runtime.foreign().is_some_and(|foreign| foreign.wants_to_write());
                if writes { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
            }
            Source::End(_) | Source::Join(_) | Source::Logger(_) => EventFlags::IN,
            Source::Oom(_) => registered.flags,
            Source::Feed(key) => {
                let full = self.processes.get(key).is_none_or(Process::input_is_full);
                if full { EventFlags::empty() } else { EventFlags::IN }
            }
            Source::Sink(key) => {
                let streams = self.processes.get(key).and_then(|p| p.streams.as_ref());
                if streams.is_some_and(|s| s.is_behind()) { EventFlags::OUT } else { EventFlags::empty() }
            }
            Source::Publisher => {
                let publisher = self.tasks.as_ref().and_then(|t| t.publisher.as_ref());
                let writes = publisher.is_some_and(Publisher::wants_to_write);
                if writes { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
            }
        })
    }

    /// Does what is to be done about `source`, which is ready; `broken` if its other side is gone.
    pub(super) fn handle(&mut self, source: &Source, broken: bool) {
        match source {
            Source::Listener => self.take_connection(),
            Source::Connection(id) => self.read_connection(*id),
            Source::End(key) => self.reap(*key),
            Source::Output(key, index) => {
                if let Some(process) = self.processes.get_mut(key).filter(|p| p.has_console()) {
                    process.flush();
                }
                self.read_output(*key, *index);
            }
            Source::Input(key) => {
                if let Some(process) = self.processes.get_mut(key) {
                    process.flush();
                    if broken {
                        process.drop_input();
                        self.forget(source);
                    }
                }
            }
            Source::Join(key) => self.advance_join(*key),
            Source::Oom(container) => self.notice_oom(container),
            Source::Init => self.init_ended(),
            Source::Children => self.reap_children(),
            Source::Foreign => self.hear_foreign(),
            Source::ForeignEnd => self.foreign_ended(),
            Source::ForeignLog => {
                if let Some(foreign) = self.runtime.foreign() {
                    foreign.read_log();
                }
            }
            Source::Feed(key) => self.read_feed(*key),
            Source::Sink(key) => self.flush_sink(*key, broken),
            Source::Logger(key) => self.reap_logger(*key),
            Source::Publisher => self.hear_publisher(),
        }
    }
}
