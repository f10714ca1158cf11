//! Ends: of processes, and of containers, which may be started again.

use super::process::{Process, StreamRef};
use super::timers::Timer;
use super::waiting::Source;
use super::{FIRST, Key, Server, container};
use crate::protocol::{ContainerEvent, Exited, Happened};

impl Server {
    /// A process has ended: what it wrote last is delivered, then everybody who waits hears of it.
    pub(super) fn reap(&mut self, key: Key) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Some(Ok(Some(exit))) = process.child().map(kernel::process::Child::try_wait) else {
            return;
        };
        let (id, first) = (process.container.clone(), process.exec_id == FIRST);
        self.forget(&Source::End(key));
        if first && let Some(container) = self.containers.get(&id) {
            container::kill_rest(container);
        }
        self.process_ended(key, &container::exited(exit.code(), false));
    }

    /// The same for one that is no child of this process any more, or never was.
    pub(super) fn process_ended(&mut self, key: Key, exited: &Exited) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.note_pid();
        process.running = None;
        let (id, first) = (process.container.clone(), process.exec_id == FIRST);
        self.read_last(key);
        self.forget_streams(key);
        if !first {
            return self.announce(key, exited);
        }
        self.count_oom(&id);
        if let Some(container) = self.containers.get_mut(&id) {
            // With its cgroup's files gone it would never be quiet.
            container.oom_watch = None;
            self.sources.retain(|_, r| r.source != Source::Oom(id.clone()));
        }
        let oom = self.containers.get(&id).is_some_and(|c| c.oom_kills > 0) && exited.code != 0;
        self.container_ended(&id, &Exited { oom, ..exited.clone() });
    }

    /// Answers all who wait for the process.
    pub(super) fn announce(&mut self, key: Key, exited: &Exited) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.exited = Some(exited.clone());
        let waiting: Vec<StreamRef> = process.attached.drain(..).chain(process.waiters.drain(..)).collect();
        let first = process.exec_id == FIRST;
        for waiter in waiting {
            self.answer_end(waiter, exited);
        }
        self.task_ended(key, exited);
        let kept = self.processes.get(&key).is_some_and(|p| p.streams.is_some());
        if !first && !kept {
            self.processes.remove(&key);
        }
    }

    fn container_ended(&mut self, id: &str, exited: &Exited) {
        let Some(container) = self.containers.get_mut(id) else { return };
        // Whatever froze it has no hold on the next run.
        container.paused = false;
        let (again, own) = (container.restart_at(exited.code), container.own);
        self.stop_timers(id);
        self.deaf = false;
        if let Some(at) = again {
            self.timers.push((at, Timer::Restart(id.to_owned())));
            if let Some(process) = self.processes.get_mut(&own) {
                process.exited = Some(exited.clone());
            }
            return;
        }
        self.end(id, exited);
    }

    /// The end for good.
    pub(super) fn end(&mut self, id: &str, exited: &Exited) {
        let Some(container) = self.containers.get_mut(id) else { return };
        // Without the file the container is still seen as ended, with an unknown code.
        let _ = container.write_exit(exited);
        container.ended = true;
        container.release();
        let (own, stoppers) = (container.own, std::mem::take(&mut container.stoppers));
        self.announce(own, exited);
        if let Some(container) = self.containers.get(id) {
            self.runtime.ended(container);
        }
        // Whoever asked for the end takes care of what is left, as the creator does.
        let cared_for = !stoppers.is_empty() || self.connections.values().any(|c| c.creator);
        for stopper in stoppers {
            self.answer_end(stopper, exited);
        }
        self.tell(id, Happened::Exited, |event| event.exited = Some(exited.clone()));
        if self.pod.is_none() {
            self.leave();
            if !cared_for {
                self.tell_on_exit();
            }
        }
    }

    pub(super) fn tell_on_exit(&mut self) {
        if let (Some(file), Some(container)) = (self.on_exit.take(), self.containers.values().next())
            && !container.request.on_exit.is_empty()
        {
            // If it cannot be started, the next command finds the container ended and does the same.
            let _ = container::run_on_exit(&file, &container.request.on_exit);
        }
    }

    pub(super) fn start_again(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let old = self.processes.remove(&container.own);
        let mut process = Process::of(id, FIRST);
        let runtime = &self.runtime;
        let created = container.renew_cgroup().and_then(|()| runtime.create(container, &mut process, ""));
        let started = created.and_then(|created| {
            let (running, _) = runtime.start(id, created.made)?;
            container.write_numbers(running.pid())?;
            Ok(running)
        });
        if let Some(old) = old {
            (process.attached, process.waiters) = (old.attached, old.waiters);
        }
        let key = self.new_key();
        if let Some(container) = self.containers.get_mut(id) {
            container.own = key;
        }
        match started {
            Ok(running) => {
                process.running = Some(running);
                self.processes.insert(key, process);
                self.has_started(id, key);
                // Without epoll there is no telling when it ends: then it ends now.
                if self.watch_streams(key).and_then(|()| self.watch_end(key)).is_err()
                    && let Some(process) = self.processes.get(&key)
                {
                    let _ = process.signal(libc::SIGKILL);
                }
            }
            Err(refusal) => {
                self.processes.insert(key, process);
                if let Some(log) = self.log_of(key) {
                    log.write(1, format!("{}\n", refusal.message).as_bytes());
                }
                self.container_ended(id, &container::exited(125, false));
            }
        }
    }

    /// The container's program runs.
    pub(super) fn has_started(&mut self, id: &str, key: Key) {
        if let Some(container) = self.containers.get_mut(id) {
            container.note_start();
            container.watch_oom();
        }
        // Without it the count at the end tells.
        let _ = self.listen_for_oom(id);
        let pid = self.processes.get(&key).map_or(0, Process::pid);
        self.tell(id, Happened::Started, |event| event.pid = pid);
    }

    /// A container that was asked to stop has not.
    pub(super) fn kill_late(&mut self, id: &str) {
        if let Some(process) = self.containers.get(id).and_then(|c| self.processes.get(&c.own)) {
            let _ = self.runtime.signal(process, libc::SIGKILL);
        }
        self.thaw_killed(id);
    }

    /// The v1 freezer holds even a process that was killed.
    pub(super) fn thaw_killed(&mut self, id: &str) {
        if let Some(container) = self.containers.get_mut(id).filter(|c| c.paused)
            && let Some(cgroup) = container.place.cgroup()
            && cgroup.freeze(false).is_ok()
        {
            container.paused = false;
        }
    }

    /// Before this process ends what it has, and waits for that.
    pub(super) fn thaw_all(&mut self) {
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        ids.iter().for_each(|id| self.thaw_killed(id));
    }

    /// Children have ended: of those that this process knows each is told of by its own descriptor, the others were left
    /// to it, and are reaped.
    pub(super) fn reap_children(&mut self) {
        while self.children.as_ref().and_then(kernel::signal::Signals::next).is_some() {}
        while let Some(pid) = kernel::process::ended_child() {
            match self.source_of(pid) {
                Some(source) => {
                    self.handle(&source, false);
                    if kernel::process::ended_child() == Some(pid) {
                        return;
                    }
                }
                // It may be one that a command is about to tell of: its end comes with that command's.
                None if self.processes.values().any(|p| p.joining.is_some()) => return,
                None => kernel::process::reap(pid),
            }
        }
    }

    /// What tells of the end of a child that is known.
    fn source_of(&self, pid: i32) -> Option<Source> {
        let init = self.pod.as_ref().and_then(|pod| pod.init.as_ref());
        if init.is_some_and(|init| init.pid == pid) {
            return Some(Source::Init);
        }
        let (key, process) = self.processes.iter().find(|(_, p)| p.has_child(pid))?;
        Some(if process.joining.is_some() { Source::Join(*key) } else { Source::End(*key) })
    }

    /// The first process of the pod's PID namespace has ended; the kernel ends all others in it.
    pub(super) fn init_ended(&mut self) {
        let Some(init) = self.pod.as_mut().and_then(|pod| pod.init.take()) else { return };
        self.forget(&Source::Init);
        let code = init.wait().map_or(255, kernel::process::Exit::code);
        let exited = container::exited(code, false);
        let event = ContainerEvent {
            happened: Happened::PodEnded as i32,
            at: exited.at,
            exited: Some(exited),
            ..ContainerEvent::default()
        };
        self.tell_all(&event);
    }
}
