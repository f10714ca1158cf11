//! A pod of an API server: its log, and programs run in it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use http_body_util::BodyExt as _;
use serde_json::Value;
use streaming::client::Protocol;
use streaming::remote_command::Requested;

use super::call::{Call, encoded};
use super::{Named, Server, list, named, selector, text};
use crate::failure::{Context, Failure, Result};
use crate::pods::{self, Asked};

/// What kubectl takes for the container that is meant where nobody says which.
const DEFAULT: &str = "/metadata/annotations/kubectl.kubernetes.io~1default-container";

/// One pod.
pub(crate) struct Pod {
    pub(crate) server: Server,
    pub(crate) object: Value,
}

/// Which of a log's lines are wanted, and how.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail: Option<usize>,
    /// RFC 3339.
    pub(crate) since: Option<String>,
}

impl Pod {
    /// The pod that `word` means: NAME, pod/NAME, or the first that runs of TYPE/NAME (a Deployment, a Job, ...).
    ///
    /// # Errors
    /// There is none, or the server is not reached.
    pub(crate) fn find(server: Server, word: &str) -> Result<Self> {
        let of_pod = |name: &str| format!("/api/v1/namespaces/{}/pods/{name}", server.namespace);
        let object = match word.split_once('/') {
            None => server.get(&of_pod(word))?,
            Some(("pod" | "pods" | "po", name)) => server.get(&of_pod(name))?,
            Some(_) => of_workload(&server, word)?,
        };
        Ok(Self { server, object })
    }

    /// The pod called so, if this server answers and has it.
    pub(crate) fn if_there(server: Server, name: &str) -> Option<Self> {
        let path = format!("/api/v1/namespaces/{}/pods/{name}", server.namespace);
        let object = server.get(&path).ok()?;
        Some(Self { server, object })
    }

    pub(crate) fn name(&self) -> &str {
        text(&self.object, "/metadata/name")
    }

    pub(crate) fn namespace(&self) -> &str {
        text(&self.object, "/metadata/namespace")
    }

    fn path(&self, below: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{}/{below}", self.namespace(), self.name())
    }

    /// The container called `name`, or else the one that is meant where nobody says which.
    pub(crate) fn container(&self, name: Option<&str>) -> Result<&Value> {
        let all: Vec<&Value> = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"]
            .into_iter()
            .flat_map(|place| list(&self.object, place))
            .collect();
        let wanted = name.unwrap_or_else(|| text(&self.object, DEFAULT));
        let found = all.iter().find(|one| text(one, "/name") == wanted).copied();
        match (found, name) {
            (Some(found), _) => Ok(found),
            (None, None) => all
                .first()
                .copied()
                .ok_or_else(|| Failure::new(format!("pod {} has no containers", self.name()))),
            (None, Some(name)) => {
                let names: Vec<&str> = all.iter().map(|one| text(one, "/name")).collect();
                Err(Failure::new(format!(
                    "pod {} has no container {name:?}: it has {}",
                    self.name(),
                    names.join(", ")
                )))
            }
        }
    }

    /// Shows a container's log, for as long as it goes on if that is wanted.
    pub(crate) fn log(&self, container: Option<&str>, log: &Log) -> Result<()> {
        let container = text(self.container(container)?, "/name");
        let set = |is: bool| if is { "true" } else { "" };
        let path = self.path("log");
        let call = Call::get(&path, "*/*")
            .with("container", container)
            .with("follow", set(log.follow))
            .with("previous", set(log.previous))
            .with("timestamps", set(log.timestamps))
            .with("tailLines", &log.tail.map(|lines| lines.to_string()).unwrap_or_default())
            .with("sinceTime", log.since.as_deref().unwrap_or_default());
        self.server.wait(async {
            let mut body = call.send(&self.server).await?.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| {
                    Failure::new(format!("cannot read more of the log: {}", client::causes(&error)))
                })?;
                let mut out = io::stdout().lock();
                match out.write_all(frame.data_ref().map_or(&[][..], |data| data)).and_then(|()| out.flush())
                {
                    // `| head` has seen enough.
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
                    other => other.context(|| "write the log".into())?,
                }
            }
            Ok(())
        })
    }

    /// Runs a program in a container; the exit code is the program's.
    pub(crate) fn exec(&self, container: Option<&str>, command: &[String], asked: Asked) -> Result<ExitCode> {
        let mut query = format!("container={}", encoded(text(self.container(container)?, "/name")));
        command.iter().for_each(|word| query += &format!("&command={}", encoded(word)));
        self.stream("exec", &query, asked)
    }

    /// Connects to a container's own program.
    pub(crate) fn attach(&self, container: Option<&str>, input: bool) -> Result<ExitCode> {
        let container = self.container(container)?;
        let is = |field: &str| container.get(field) == Some(&Value::Bool(true));
        let tty = is("tty");
        let asked = Asked { stdin: input && is("stdin"), tty, detach_keys: tty };
        self.stream("attach", &format!("container={}", encoded(text(container, "/name"))), asked)
    }

    fn stream(&self, what: &str, query: &str, asked: Asked) -> Result<ExitCode> {
        let requested = Requested::new(asked.stdin, true, !asked.tty, asked.tty)?;
        let path = format!("{}?{query}&{}", self.path(what), requested.to_query(false));
        let target = self.server.target(&path)?;
        self.server.wait(pods::run_at(&target, Protocol::Auto, asked))
    }
}

/// A pod of what selects pods: one that runs, or else the first.
fn of_workload(server: &Server, word: &str) -> Result<Value> {
    let found = named(&server.kinds()?, &[word.to_owned()])?;
    let Some(Named { kind, name: Some(name) }) = found.into_iter().next() else {
        return Err(Failure::new(format!("cannot read {word:?}: give TYPE/NAME")));
    };
    let object = server.get(&format!("{}/{name}", kind.path(Some(&server.namespace))))?;
    let selector = object
        .pointer("/spec/selector")
        .and_then(selector)
        .ok_or_else(|| Failure::new(format!("cannot find pods of {word}: a {} selects none", kind.name)))?;
    let path = format!("/api/v1/namespaces/{}/pods", server.namespace);
    let pods = server.ask(Call::get(&path, super::JSON).with("labelSelector", &selector))?;
    let all = list(&pods, "/items");
    let runs = |pod: &&Value| text(pod, "/status/phase") == "Running";
    let mut pod = all
        .iter()
        .find(runs)
        .or(all.first())
        .cloned()
        .ok_or_else(|| Failure::new(format!("{word} has no pods (see `sextant describe {word}`)")))?;
    // Items of lists do not say what they are.
    pod["kind"] = "Pod".into();
    Ok(pod)
}
