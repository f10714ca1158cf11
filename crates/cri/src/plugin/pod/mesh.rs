//! Tells the node's mesh of a pod's network, so that the pod is captured before its first container starts: what plugin `sextant-mesh` does behind
//! other runtimes.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use cni::contract::Error;
use cni::mesh::{self, Answer, Question, SOURCE, Sandbox, ask};

use super::Record;
use crate::contract::v1::PodSandboxConfig;
use crate::plugin::node::Node;

/// Tells it, and waits for the answer, if the node is to. A pod that it does not capture now starts all the same: the mesh finds it later.
pub(super) fn tell(node: &Node, record: &Record, netns: &Path) {
    let Some(socket) = &node.config.network.mesh_pods else { return };
    if is_static(&record.config) {
        return;
    }
    let late = |why: &dyn std::fmt::Display| {
        let whose = record.config.metadata.clone().unwrap_or_default();
        node.log(&format!(
            "pod {}/{}: if it is in the mesh its first connections go their own way: {why}",
            whose.namespace, whose.name
        ));
    };
    match asked(socket, record, netns) {
        Ok(Answer::Captured | Answer::NotAMember) => {}
        Ok(Answer::Unknown | Answer::Ready) => late(&"the mesh has not heard of it yet"),
        Ok(Answer::Failed(words)) => late(&words),
        Err(error) => late(&error),
    }
}

fn asked(socket: &Path, record: &Record, netns: &Path) -> Result<Answer, Error> {
    let file =
        File::open(netns).map_err(|e| Error::because(format!("cannot open {}", netns.display()), e))?;
    let whose = record.config.metadata.clone().unwrap_or_default();
    let sandbox = Sandbox {
        namespace: whose.namespace,
        name: whose.name,
        uid: whose.uid,
        id: record.id.clone(),
        netns: netns.to_owned(),
    };
    ask(socket, &Question::Made(sandbox), Some(file.as_fd()))
}

/// Whether the pod is of a file on the node.
fn is_static(config: &PodSandboxConfig) -> bool {
    mesh::is_static(config.annotations.get(SOURCE).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_files_are_known_by_their_source() {
        let of = |source: &str| {
            let annotations = [(SOURCE.to_owned(), source.to_owned())].into();
            is_static(&PodSandboxConfig { annotations, ..PodSandboxConfig::default() })
        };
        assert!(of("file") && of("http"));
        assert!(!of("api") && !is_static(&PodSandboxConfig::default()));
    }
}
