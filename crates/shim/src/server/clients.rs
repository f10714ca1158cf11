//! Clients come, ask and leave.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::Server;
use super::connection::Connection;
use super::process::StreamRef;
use super::timers::Timer;
use super::waiting::Source;

/// How long nobody is taken after a failure to.
const DEAF: Duration = Duration::from_millis(100);

impl Server {
    pub(super) fn accept(&mut self, socket: OwnedFd, creator: bool) -> io::Result<()> {
        self.next += 1;
        let id = self.next;
        self.connections.insert(id, Connection::new(socket, creator)?);
        self.listen_for(Source::Connection(id), EventFlags::IN)
    }

    /// No failure here is worth the container: too many descriptors are open, or the client has left again.
    pub(super) fn take_connection(&mut self) {
        let Some(listener) = &self.listener else { return };
        match listener.accept() {
            Ok((socket, _)) => {
                // The mode of the socket file says the same; this holds even if somebody changes it.
                let trusted = rustix::net::sockopt::socket_peercred(&socket)
                    .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
                if trusted {
                    let _ = self.accept(socket.into(), false);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.deaf = true;
                self.timers.push((Instant::now() + DEAF, Timer::Listen));
            }
        }
    }

    pub(super) fn read_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut open = connection.fill().unwrap_or(false);
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            match connection.frame() {
                Ok(Some(frame)) => self.serve(id, frame),
                Ok(None) => break,
                // Nothing sensible can follow.
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        if !open {
            self.drop_connection(id);
        }
    }

    pub(super) fn drop_connection(&mut self, id: u64) {
        let of = |s: &StreamRef| s.connection == id;
        let once = |c: &str, containers: &std::collections::BTreeMap<String, _>| {
            containers.get(c).is_some_and(|c: &super::Container| c.request.stdin_once)
        };
        for process in self.processes.values_mut() {
            // A container that was promised one input has had it.
            let fed = process.exec_id.is_empty() && process.attached.iter().any(|a| a.input && of(a));
            if fed && !process.terminal && once(&process.container, &self.containers) {
                process.close_input();
            }
            process.attached.retain(|a| !of(a));
            process.waiters.retain(|a| !of(a));
        }
        for container in self.containers.values_mut() {
            container.stoppers.retain(|s| !of(s));
        }
        self.watchers.retain(|s| !of(s));
        self.drop_abandoned_joins();
        self.forget(&Source::Connection(id));
        let creator = self.connections.remove(&id).is_some_and(|c| c.creator);
        if creator {
            self.end_unborn();
        }
        if creator && self.has_ended() && !self.shutdown {
            self.tell_on_exit();
        }
    }

    pub(super) fn flush_connections(&mut self) {
        let broken: Vec<u64> =
            self.connections.iter_mut().filter_map(|(id, c)| c.flush().is_err().then_some(*id)).collect();
        broken.into_iter().for_each(|id| self.drop_connection(id));
    }
}
