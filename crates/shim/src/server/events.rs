//! Telling what happens to containers.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::Server;
use super::container::{Container, nanoseconds};
use super::process::{Process, StreamRef};
use super::timers::Timer;
use super::waiting::Source;
use crate::protocol::task::event::TaskOnly;
use crate::protocol::{ContainerEvent, Happened};

/// v1 tells of a kill before it counts it.
const COUNTED: Duration = Duration::from_millis(20);

impl Server {
    /// Opens a stream of events, which begins with what is.
    pub(super) fn watch(&mut self, to: StreamRef) {
        let mut events: Vec<_> = self.containers.values().map(|c| self.present(c)).collect();
        events.push(ContainerEvent { at: nanoseconds(), ..ContainerEvent::default() });
        self.watchers.push(to);
        if let Some(connection) = self.connections.get_mut(&to.connection) {
            events.iter().for_each(|event| connection.data(to.stream, event));
        }
    }

    fn present(&self, container: &Container) -> ContainerEvent {
        let process = self.processes.get(&container.own);
        let exited = process.and_then(|p| p.exited.clone()).filter(|_| container.ended);
        let happened = match (&exited, container.ever_started) {
            (Some(_), _) => Happened::Exited,
            (None, true) => Happened::Started,
            (None, false) => Happened::Created,
        };
        ContainerEvent {
            container: container.request.id.clone(),
            happened: happened as i32,
            pid: process.map_or(0, Process::pid),
            at: exited.as_ref().map_or(container.started_at, |e| e.at),
            exited,
        }
    }

    /// Tells everybody who listens; `fill` adds to the event what belongs to it.
    pub(super) fn tell(&mut self, id: &str, happened: Happened, fill: impl FnOnce(&mut ContainerEvent)) {
        if self.watchers.is_empty() {
            return;
        }
        let mut event = ContainerEvent {
            container: id.to_owned(),
            happened: happened as i32,
            at: nanoseconds(),
            ..ContainerEvent::default()
        };
        fill(&mut event);
        self.tell_all(&event);
    }

    /// Who does not read is cut off: by connecting again it hears how things are.
    pub(super) fn tell_all(&mut self, event: &ContainerEvent) {
        let mut behind = Vec::new();
        for watcher in &self.watchers {
            match self.connections.get_mut(&watcher.connection) {
                Some(connection) if !connection.is_full() => connection.data(watcher.stream, event),
                _ => behind.push(watcher.connection),
            }
        }
        behind.into_iter().for_each(|id| self.drop_connection(id));
    }

    pub(super) fn listen_for_oom(&mut self, id: &str) -> io::Result<()> {
        let Some(watch) = self.containers.get(id).and_then(|c| c.oom_watch.as_ref()) else { return Ok(()) };
        let flags = if watch.is_urgent() { EventFlags::PRI } else { EventFlags::IN };
        self.listen_for(Source::Oom(id.to_owned()), flags)
    }

    /// A container ran out of memory, or its cgroup is gone.
    pub(super) fn notice_oom(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Some(watch) = &container.oom_watch {
            watch.settle();
        }
        if container.count_oom().is_none() {
            container.oom_watch = None;
            return self.forget(&Source::Oom(id.to_owned()));
        }
        self.count_oom(id);
        let timer = Timer::Oom(id.to_owned());
        if self.timers.iter().all(|(_, t)| *t != timer) {
            self.timers.push((Instant::now() + COUNTED, timer));
        }
    }

    /// Tells of what the out-of-memory killer has done since the last time.
    pub(super) fn count_oom(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(kills) = container.count_oom().filter(|&n| n > container.oom_kills) else { return };
        container.oom_kills = kills;
        self.tell(id, Happened::Oom, |_| ());
        self.publish("/tasks/oom", "TaskOOM", &TaskOnly { container_id: id.to_owned() });
    }
}
