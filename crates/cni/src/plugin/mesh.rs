//! `sextant-mesh`: tells the node's mesh of a pod's network namespace, so that the pod is captured before its first container starts.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use ledger::Record;
use serde_json::Value;

use super::inside::Inside;
use super::interface::{broken, previous};
use crate::contract::{AddResult, Code, Error, Keys, Plugin, Request};
use crate::mesh::{self, Answer, Question, SOURCE, Sandbox, USUAL, ask};

/// The plugin `sextant-mesh`. What captures a pod is the mesh's, and goes with it: nothing is recorded, and DEL has nothing to do.
#[derive(Debug)]
pub(super) struct Mesh;

/// The capability by which a runtime tells a pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

impl Plugin for Mesh {
    fn add(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let previous = previous(request)?;
        let path = request.attachment.netns()?;
        // The mesh listens at loopback, which a runtime may bring up meanwhile or not yet.
        Inside::open(path)?.set_loopback(true)?;
        conf.judge(request, Question::Made)?;
        Ok(previous.clone())
    }

    fn del(&self, _request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        previous(request)?;
        request.attachment.netns()?;
        conf.judge(request, Question::Check)
    }

    /// Whether members are captured now, where pods do not start without that.
    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        if !conf.required {
            return Ok(());
        }
        match ask(&conf.socket, &Question::Ready, None) {
            Ok(Answer::Ready) => Ok(()),
            Ok(_) => {
                let error = "cannot capture members of the mesh: it does not know yet where connections go";
                Err(Error::new(Code::NotAvailable, error))
            }
            Err(error) => Err(error.code(Code::NotAvailable)),
        }
    }
}

/// What the plugin is told.
#[derive(Debug)]
struct Conf {
    /// Where the mesh listens.
    socket: PathBuf,
    /// A pod does not start before the mesh has said that it is captured, or no member.
    required: bool,
    /// The pod is of a file on the node, and never a member.
    is_static: bool,
}

impl Conf {
    fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        let socket = keys.text("socket")?.filter(|path| !path.is_empty()).unwrap_or(USUAL);
        if !socket.starts_with('/') {
            return Err(keys.refuse("socket", "the absolute path of a socket"));
        }
        Ok(Self { socket: socket.into(), required: keys.boolean("required")?, is_static: is_static(&keys)? })
    }

    /// Asks the mesh about the request's pod; success where it may go on.
    fn judge(&self, request: &Request<'_>, question: fn(Sandbox) -> Question) -> Result<(), Error> {
        if self.is_static {
            return Ok(());
        }
        let netns = Inside::file(request.attachment.netns()?)?;
        let sandbox = match Sandbox::of(request.attachment) {
            Ok(Some(sandbox)) => sandbox,
            // No pod's.
            Ok(None) => return Ok(()),
            Err(error) => return if self.required { Err(error) } else { Ok(()) },
        };
        let pod = format!("{}/{}", sandbox.namespace, sandbox.name);
        let question = question(sandbox);
        let is_check = matches!(question, Question::Check(_));
        let error = match ask(&self.socket, &question, Some(netns.as_fd())) {
            Ok(Answer::Captured | Answer::NotAMember) => return Ok(()),
            // That it was not captured in time is made good later, and CHECK is later.
            Ok(Answer::Failed(words)) if is_check => return Err(broken(format!("pod {pod}: {words}"))),
            Ok(Answer::Failed(words)) => {
                Error::new(Code::TryAgain, format!("cannot take pod {pod} into the mesh: {words}"))
            }
            Ok(Answer::Unknown | Answer::Ready) => {
                let error =
                    format!("cannot tell whether pod {pod} is in the mesh: the mesh has not heard of it yet");
                Error::new(Code::TryAgain, error)
            }
            Err(error) => error,
        };
        // Else the mesh finds it later, as it does where nobody tells it of pods.
        if self.required { Err(error) } else { Ok(()) }
    }
}

/// Whether the runtime says that the pod is of a file on the node: it does if the capability is declared.
fn is_static(keys: &Keys<'_>) -> Result<bool, Error> {
    let annotations = keys.object("runtimeConfig")?.and_then(|values| values.get(ANNOTATIONS));
    let source = annotations.and_then(|annotations| annotations.get(SOURCE)).and_then(Value::as_str);
    Ok(mesh::is_static(source))
}
