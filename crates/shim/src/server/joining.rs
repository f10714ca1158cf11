//! Processes on their way into the container: a process there may stop one for ever, and nobody else waits for it.

use super::connection::Refusal;
use super::process::Process;
use super::waiting::Source;
use super::{Key, Server, container};
use crate::protocol::{Output, Started};

impl Server {
    /// A process that is still on its way, and whose client has left, is not waited for.
    pub(super) fn drop_abandoned_joins(&mut self) {
        let alone = |p: &Process| p.joining.is_some() && p.attached.is_empty() && p.streams.is_none();
        let keys: Vec<Key> = self.processes.iter().filter(|(_, p)| alone(p)).map(|(key, _)| *key).collect();
        for key in keys {
            self.forget(&Source::Join(key));
            self.processes.remove(&key);
        }
    }

    /// A process that is being brought in has something to say, or has become its program.
    pub(super) fn advance_join(&mut self, key: Key) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Some(mut joining) = process.joining.take() else { return };
        let started = match joining.advance() {
            Ok(false) => {
                process.joining = Some(joining);
                return;
            }
            Ok(true) => match joining.console.take().map(|console| process.set_console(console)) {
                Some(Err(e)) => Err(Refusal::internal(e)),
                _ => joining.into_child().map_err(container::refusal),
            },
            Err(e) => Err(container::refusal(e)),
        };
        self.forget(&Source::Join(key));
        let outcome = started.and_then(|(child, warnings)| self.joined(key, child, warnings));
        if let Err(refusal) = outcome
            && let Some(process) = self.processes.remove(&key)
        {
            self.forget_streams(key);
            let starter = process.streams.as_ref().and_then(|s| s.starter);
            if let Some(to) = process.attached.first().copied().or(starter) {
                self.answer(to, Err(refusal));
            }
        }
    }

    fn joined(
        &mut self,
        key: Key,
        child: kernel::process::Child,
        warnings: Vec<String>,
    ) -> Result<(), Refusal> {
        let Some(process) = self.processes.get_mut(&key) else { return Ok(()) };
        let pid = child.pid;
        let started =
            Output { started: Some(Started { pid, warnings, ..Started::default() }), ..Output::default() };
        process.child = Some(child);
        if let Some(to) = process.attached.first()
            && let Some(connection) = self.connections.get_mut(&to.connection)
        {
            connection.data(to.stream, &started);
        }
        let watched = self.watch_end(key).and_then(|()| self.watch_streams(key));
        let watched = watched.map_err(Refusal::internal).and_then(|()| self.exec_started(key, pid));
        watched.inspect_err(|_| {
            // Without epoll there is no telling when it ends.
            if let Some(process) = self.processes.get(&key) {
                let _ = process.signal(libc::SIGKILL);
            }
        })
    }
}
