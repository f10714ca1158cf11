//! Processes that are brought into containers: ExecSync, Exec, Attach.

mod streams;
mod sync;

use std::sync::Arc;

use oci_runtime::contract::{Process, Spec};

use super::container::Container;
use super::node::Node;
use super::shims::Connection;
use crate::contract::Error;

pub(super) use streams::Streams;

/// A connection of its own to the container's shim: a slow reader of a stream holds back only itself.
pub(super) async fn connect(node: &Node, container: &Container) -> Result<Connection, Error> {
    let socket = node.place.pod_run(&container.record.pod).join("shim.sock");
    Ok(Connection::connect(&socket).await?)
}

/// The process that runs `command` as the container's own is run. Reads the disk.
pub(super) fn process(
    node: &Arc<Node>,
    container: &Container,
    command: Vec<String>,
    terminal: bool,
) -> Result<Process, Error> {
    let path = node.place.bundle(container.id()).join("config.json");
    let bytes =
        std::fs::read(&path).map_err(|e| Error::internal(format!("cannot read {}: {e}", path.display())))?;
    let spec: Spec = oci_runtime::contract::parse(&bytes)
        .map_err(|e| Error::internal(format!("cannot read {}: {e}", path.display())))?;
    let mut process = spec.process.unwrap_or_default();
    process.args = command;
    process.terminal = terminal;
    process.console_size = None;
    Ok(process)
}
