//! Pods whose sandboxes somebody has told of before the runtime lists them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni::mesh::{Answer, Question, Sandbox};
use smi::contract::Name;

use super::super::told::{Told, Verdict};
use super::Members;
use crate::failure::{Context, Failure, Result};

/// For so long a sandbox that was told of may not be listed by the runtime: a kubelet gives it as much to come to be.
const AWAITED: Duration = Duration::from_secs(240);
/// The same, while the runtime lists another one of the pod: that may be the one before, or one that came after.
const AWAITED_BESIDE: Duration = Duration::from_secs(60);

/// A sandbox that the runtime has not listed yet.
#[derive(Debug)]
pub(super) struct Awaited {
    since: Instant,
    /// Where its network namespace is for as long as it may come to be.
    netns: PathBuf,
}

impl Members {
    /// What is to be said now to who tells of a sandbox or asks about one; a member's that is told of is captured first.
    ///
    /// # Errors
    /// Nobody serves pods any more.
    pub(in crate::commands::mesh) fn judge(&mut self, told: &Told) -> Result<Verdict> {
        // Nobody is captured before it is known where connections go.
        if !self.known.is_ready() {
            return Ok(Verdict::Unknown);
        }
        let Some(sandbox) = told.question.sandbox() else { return Ok(Verdict::Answer(Answer::Ready)) };
        let name = Name::new(&*sandbox.namespace, &*sandbox.name);
        if !self.wanted.contains_key(&name) {
            let is_outside = self.known.has(&name);
            return Ok(if is_outside { Verdict::Answer(Answer::NotAMember) } else { Verdict::Unknown });
        }
        let failed = |words: &str| Ok(Verdict::Answer(Answer::failed(words)));
        let netns = match namespace(sandbox, told.netns.as_ref()) {
            Ok(netns) => netns,
            Err(failure) => return failed(&failure.to_string()),
        };
        let inode = netns.metadata().map(|file| file.ino()).unwrap_or_default();
        let is_it = |sandbox_id: &str, of: u64| sandbox_id == sandbox.id && of == inode;
        if self.captured.get(&name).is_some_and(|captured| is_it(&captured.sandbox, captured.kept.inode)) {
            // What has failed before is tried again.
            self.guard();
            return Ok(Verdict::Answer(self.guarded(&name)));
        }
        if matches!(told.question, Question::Check(_)) {
            return failed("it is a member of the mesh, and is not captured");
        }
        // Nobody is led here before it can be told who it is: it would reach no other member.
        if !self.is_proved(&name) {
            return Ok(Verdict::Unproved);
        }
        // What is captured under this name is the sandbox before this one.
        self.leave(&name, false)?;
        match self.enter_at(&name, &sandbox.id, &sandbox.netns, netns) {
            Ok(()) => {
                if let Some(captured) = self.captured.get_mut(&name) {
                    captured.awaited = Some(Awaited { since: Instant::now(), netns: sandbox.netns.clone() });
                    captured.links.is_early = true;
                }
                // It may have been closed for want of a certificate.
                self.pass(&name);
                self.troubles.remove(&Some(name.clone()));
                eprintln!("sextant mesh: serves pod {name} before its first container");
                self.guard();
                Ok(Verdict::Answer(self.guarded(&name)))
            }
            Err(failure) => {
                let text = format!("pod {name} is not served: {failure}");
                self.trouble(Some(name), text);
                failed(&failure.to_string())
            }
        }
    }

    /// What is to be said of a pod that is captured: its first container is not to begin while it is open to whom policies keep out.
    fn guarded(&self, name: &Name) -> Answer {
        let Some(captured) = self.captured.get(name) else { return Answer::failed("it is not captured") };
        if let Some(words) = captured.datagrams.failing() {
            return Answer::failed(words);
        }
        if !self.is_guarded(name) || captured.is_closed == Some(true) {
            return Answer::Captured;
        }
        let words = self.troubles.get(&Some(name.clone())).map(String::as_str);
        Answer::failed(words.unwrap_or("it is not closed to others for when nobody serves it"))
    }

    /// Takes note of what the runtime lists now: what it lists is not awaited any more, and neither is what does not come to be.
    pub(super) fn listed(&mut self, there: &BTreeMap<Name, String>) {
        for (name, captured) in &mut self.captured {
            let Some(awaited) = &captured.awaited else { continue };
            let listed = there.get(name);
            let within = if listed.is_some() { AWAITED_BESIDE } else { AWAITED };
            let is_there = fs::metadata(&awaited.netns).is_ok_and(|file| file.ino() == captured.kept.inode);
            if listed == Some(&captured.sandbox) || !is_there || awaited.since.elapsed() >= within {
                captured.awaited = None;
            }
        }
    }
}

/// The network namespace that came along, if it is the one at the path: what is made in it is recorded by that.
fn namespace(sandbox: &Sandbox, given: Option<&File>) -> Result<File> {
    let given = given.ok_or_else(|| Failure::new("no network namespace came with the question"))?;
    let say = || format!("look at its network namespace {}", sandbox.netns.display());
    let (ours, theirs) = (given.metadata().context(say)?, fs::metadata(&sandbox.netns).context(say)?);
    if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
        let path = sandbox.netns.display();
        return Err(Failure::new(format!("at {path} is something else than what came with the question")));
    }
    given.try_clone().context(say)
}
