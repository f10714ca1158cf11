//! The pod: its namespaces, which this process holds, and its end.

mod init;
mod namespaces;
mod sysctl;

use std::os::fd::OwnedFd;
use std::path::Path;

use kernel::Act;
use kernel::process::Child;
use kernel::signal::Signals;
use rustix::event::epoll::EventFlags;
use serde_json::json;

use super::Server;
use super::connection::Refusal;
use super::container::{numbers_of, replace};
use super::process::{StreamRef, kill_and_reap};
use super::runtime::Runtime;
use super::service::{Reply, now};
use super::waiting::Source;
use crate::protocol::{Code, Empty, SandboxReply, SandboxRequest};

/// What makes a shim a pod's.
#[derive(Debug, Default)]
pub(super) struct Pod {
    /// The first process of its PID namespace, which it ends with.
    pub(super) init: Option<Child>,
    /// Namespaces that live by these descriptors alone.
    _held: Vec<OwnedFd>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(init) = self.init.take() {
            kill_and_reap(&init);
        }
    }
}

impl Server {
    /// Makes the pod. A failure leaves a shim that is good for nothing but to end.
    pub(super) fn sandbox(&mut self, request: SandboxRequest) -> Result<Reply, Refusal> {
        if self.pod.is_some() || !self.containers.is_empty() {
            return Err(Refusal::new(Code::AlreadyExists, "this shim has a pod or a container already"));
        }
        check(&request)?;
        self.runtime = Runtime::of(request.runtime.as_ref(), Path::new(&request.directory))?;
        if !self.runtime.is_built_in() {
            self.take_over_children().map_err(Refusal::internal)?;
        }
        let mut warnings = Vec::new();
        if let Some(score) = request.oom_score_adj
            && let Err(e) = std::fs::write("/proc/self/oom_score_adj", score.to_string())
        {
            warnings.push(format!("cannot set oom_score_adj of the shim to {score}: {e}"));
        }
        let made = namespaces::make(&request)?;
        let directory = Path::new(&request.directory);
        let numbers = json!({
            "shim": numbers_of(std::process::id() as i32),
            "init": made.init.as_ref().map(|init| numbers_of(init.pid)),
        });
        let pid = made.init.as_ref().map_or(0, |init| init.pid);
        self.pod = Some(Pod { init: made.init, _held: made.held });
        let written = replace(&directory.join("shim.json"), numbers.to_string().as_bytes())
            .and_then(|()| self.listen(&directory.join("shim.sock")))
            .and_then(|()| self.listen_for(Source::Init, EventFlags::IN));
        if let Err(e) = written {
            self.pod = None;
            return Err(Refusal::internal(format!("cannot listen in {}: {e}", directory.display())));
        }
        now(&SandboxReply { namespaces: made.named, pid, warnings })
    }

    /// What a command leaves behind when it ends becomes a child of this process.
    fn take_over_children(&mut self) -> kernel::Result<()> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .act("become", || "the subreaper of what runs the pod's containers")?;
        self.children = Some(Signals::receive(&[libc::SIGCHLD])?);
        self.listen_for(Source::Children, EventFlags::IN).act("wait for", || "the ends of children")
    }

    /// Of a pod: ends all that is left but this process. Of another: the caller takes care of what is left.
    /// `to` may have to wait for that.
    pub(super) fn shut_down(&mut self, to: Option<StreamRef>) -> Result<Reply, Refusal> {
        if self.pod.is_none() {
            self.shutdown = true;
            return now(&Empty {});
        }
        if let Some((id, _)) =
            self.containers.iter().find(|(id, c)| c.ever_started && !c.ended && !self.is_foreign_sandbox(id))
        {
            let message = format!("container {id:?} is running (stop it first)");
            return Err(Refusal::new(Code::FailedPrecondition, message));
        }
        if self.end_foreign(to) {
            return Ok(Reply::Later);
        }
        self.finish_pod();
        now(&Empty {})
    }

    /// Nothing of the pod is left but this process, which goes.
    pub(super) fn finish_pod(&mut self) {
        // What never started ends here, and what was brought in.
        self.end_pod();
        self.loggers.clear();
        let told = |s: &Source| matches!(s, Source::Listener | Source::Connection(_) | Source::Publisher);
        self.sources.retain(|_, r| told(&r.source));
        self.shutdown = true;
        self.leave();
    }

    /// Ends all processes, and after them the first of the pod's PID namespace: it does not end before each of that
    /// namespace is reaped, and those that are this process's children nobody else reaps.
    pub(super) fn end_pod(&mut self) {
        self.thaw_all();
        let ended = Refusal::new(Code::NotFound, "the pod was shut down");
        for process in std::mem::take(&mut self.processes).into_values() {
            self.turn_away(&process, &ended);
            process.child().into_iter().for_each(kill_and_reap);
        }
        self.leave_foreign_altogether();
        match self.runtime.foreign() {
            Some(foreign) => foreign.end(),
            None => self.containers.values().for_each(|container| self.runtime.forget(container)),
        }
        if let Some(init) = self.pod.as_mut().and_then(|pod| pod.init.take()) {
            kill_and_reap(&init);
        }
    }
}

fn check(request: &SandboxRequest) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(Code::InvalidArgument, message));
    if !request.hostname.is_empty() && !request.uts {
        return invalid(format!(
            "hostname {:?} needs a UTS namespace of the pod's own (set uts)",
            request.hostname
        ));
    }
    if request.network && request.user.is_none() {
        return invalid(
            "network without user: the caller makes the network namespace of a pod without a user namespace"
                .into(),
        );
    }
    if let Some(user) = &request.user {
        for (field, mappings) in
            [("user.uid_mappings", &user.uid_mappings), ("user.gid_mappings", &user.gid_mappings)]
        {
            if !mappings.iter().any(|m| m.container_id == 0 && m.size > 0) {
                return invalid(format!("{field} maps nobody to 0 inside (add a range that begins there)"));
            }
        }
    }
    sysctl::check(request)
}
