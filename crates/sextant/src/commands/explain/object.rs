//! A pod of the API: what its server knows of it.

use serde_json::{Value, json};

use super::why::{self, Claim, Facts, Reason};
use crate::cli::{Cli, ExplainArgs};
use crate::commands::objects::events;
use crate::failure::Result;
use crate::objects::pod::Pod;
use crate::objects::{Server, list, shown, text};

/// How it is, and why it is no better.
#[derive(Debug)]
pub(super) struct Told {
    /// NAMESPACE/NAME, as runtimes have it too.
    pub(super) name: String,
    state: String,
    reasons: Vec<Reason>,
}

/// The pod, where an API is that has it: the one that was named, or this instance's own.
///
/// # Errors
/// One was named, and it has no such pod; or it did not answer.
pub(super) fn find(cli: &Cli, args: &ExplainArgs) -> Result<Option<Told>> {
    let (namespace, name) = match args.pod.split_once('/') {
        Some(("pod" | "pods" | "po", name)) => (None, name),
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, args.pod.as_str()),
    };
    let namespace = args.namespace.as_deref().or(namespace);
    let is_asked = args.namespace.is_some() || args.server.kubeconfig.is_some();
    let pod = if is_asked {
        Some(Pod::find(Server::find(&cli.data_dir, &args.server, namespace)?, &format!("pod/{name}"))?)
    } else if args.cri.cri.is_some() {
        None
    } else {
        Server::own(&cli.data_dir).and_then(|mut server| {
            if let Some(namespace) = namespace {
                namespace.clone_into(&mut server.namespace);
            }
            Pod::if_there(server, name)
        })
    };
    pod.map(|pod| tell(&pod)).transpose()
}

fn tell(pod: &Pod) -> Result<Told> {
    let facts = facts(pod)?;
    Ok(Told {
        name: format!("{}/{}", pod.namespace(), pod.name()),
        state: why::state(&pod.object),
        reasons: why::reasons(&pod.object, &facts),
    })
}

fn facts(pod: &Pod) -> Result<Facts> {
    let server = &pod.server;
    let mut claims = Vec::new();
    for volume in list(&pod.object, "/spec/volumes") {
        let name = match (text(volume, "/persistentVolumeClaim/claimName"), volume.get("ephemeral")) {
            ("", Some(_)) => format!("{}-{}", pod.name(), text(volume, "/name")),
            ("", None) => continue,
            (name, _) => name.to_owned(),
        };
        let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/{name}", pod.namespace());
        let claim = match server.find_at(&path)? {
            None => None,
            Some(object) => {
                let happened = events(server, "PersistentVolumeClaim", &object)?;
                let last =
                    happened.last().map(|event| text(event, "/message").to_owned()).unwrap_or_default();
                Some(Claim { object, last })
            }
        };
        claims.push((name, claim));
    }
    let node = match text(&pod.object, "/spec/nodeName") {
        "" => None,
        node => server.find_at(&format!("/api/v1/nodes/{node}"))?,
    };
    let nodes = match text(&pod.object, "/spec/nodeName") {
        "" => server.find_at("/api/v1/nodes")?.map(|all| list(&all, "/items").to_vec()).unwrap_or_default(),
        _ => Vec::new(),
    };
    Ok(Facts { events: events(server, "Pod", &pod.object)?, claims, node, nodes })
}

impl Told {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}\n", self.state);
        for reason in &self.reasons {
            out += &format!("\n  why: {}\n", shown(&reason.what));
            if !reason.todo.is_empty() {
                out += &format!("   do: {}\n", shown(&reason.todo));
            }
        }
        out
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        let reasons: Vec<Value> =
            self.reasons.iter().map(|one| json!({"what": one.what, "do": one.todo})).collect();
        json!({"pod": self.name, "state": self.state, "reasons": reasons})
    }
}
