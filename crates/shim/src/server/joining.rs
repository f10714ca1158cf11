//! Processes on their way into the container: a process there may stop one for ever, and nobody else waits for it.

use super::connection::Refusal;
use super::process::{Process, Running, kill_and_reap};
use super::timers::Timer;
use super::waiting::Source;
use super::{Key, Server};
use crate::protocol::{Code, Output, Started};

impl Server {
    /// A process that is still on its way, and whose client has left, is not waited for. One that is frozen is ended once
    /// it is not: until then the v1 freezer would have this process wait for that.
    pub(super) fn drop_abandoned_joins(&mut self) {
        let frozen = |p: &Process| self.containers.get(&p.container).is_some_and(|c| c.paused);
        let alone =
            |p: &Process| p.joining.is_some() && p.attached.is_empty() && p.streams.is_none() && !frozen(p);
        let keys: Vec<Key> = self.processes.iter().filter(|(_, p)| alone(p)).map(|(key, _)| *key).collect();
        let left = Refusal::new(Code::NotFound, "the process is gone: its client left before it ran");
        keys.into_iter().for_each(|key| self.give_up(key, &left));
    }

    /// A process that is not to run is ended, if it has begun, and forgotten.
    pub(super) fn give_up(&mut self, key: Key, refusal: &Refusal) {
        self.forget_process(key);
        let Some(process) = self.processes.remove(&key) else { return };
        self.turn_away(&process, refusal);
        self.runtime.abandon(&process);
        process.child().into_iter().for_each(kill_and_reap);
    }

    /// Answers all who wait for a process that is not to run: who is attached to it, who waits for its end, and who
    /// started it.
    pub(super) fn turn_away(&mut self, process: &Process, refusal: &Refusal) {
        let starter = process.streams.as_ref().and_then(|s| s.starter);
        for to in process.attached.iter().chain(&process.waiters).copied().chain(starter) {
            self.answer(to, Err(refusal.clone()));
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
            Ok(true) => match joining.take_console().map(|console| process.set_console(console)) {
                Some(Err(e)) => Err(Refusal::internal(e)),
                _ => joining.into_running(),
            },
            Err(refusal) => {
                // Whoever gives it up ends what has begun of it.
                process.joining = Some(joining);
                Err(refusal)
            }
        };
        self.forget(&Source::Join(key));
        self.timers.retain(|(_, timer)| *timer != Timer::Join(key));
        let outcome = started.and_then(|(running, warnings)| self.joined(key, running, warnings));
        if let Err(refusal) = outcome {
            self.give_up(key, &refusal);
        }
    }

    pub(super) fn joined(
        &mut self,
        key: Key,
        running: Running,
        warnings: Vec<String>,
    ) -> Result<(), Refusal> {
        let Some(process) = self.processes.get_mut(&key) else { return Ok(()) };
        let pid = running.pid();
        let started =
            Output { started: Some(Started { pid, warnings, ..Started::default() }), ..Output::default() };
        process.running = Some(running);
        if let Some(to) = process.attached.first()
            && let Some(connection) = self.connections.get_mut(&to.connection)
        {
            connection.data(to.stream, &started);
        }
        let watched = self.watch_end(key).and_then(|()| self.watch_streams(key));
        watched.map_err(Refusal::internal).and_then(|()| self.exec_started(key, pid))
    }
}
