//! The container that a person means: one of `sextant run`, or a pod's.

use cri::contract::v1::Container;

use crate::cli::{Cli, OfPod, Within};
use crate::container::{self, Record};
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::objects::Server;
use crate::objects::pod::Pod;
use crate::pods::{self, Runtime};

/// One of both kinds, and where it lives.
pub(super) enum Which {
    /// Of `sextant run`.
    Own(Box<Instance>, Box<Record>),
    /// A pod's, of the node or another runtime.
    OfPod(Runtime, Box<Container>),
}

/// The same, or a pod of an API server.
pub(super) enum Any {
    Here(Which),
    OfApi(Box<Pod>),
}

/// As [`find`], for a command that also takes pods of an API server. What only such a pod has (a namespace, a kubeconfig, TYPE/NAME) is looked
/// for nowhere else; a bare name is looked for among our own containers first.
pub(super) fn find_any(
    cli: &Cli,
    text: Option<&str>,
    within: &Within,
    of: &OfPod,
    previous: bool,
) -> Result<Any> {
    let word = text.unwrap_or_default();
    // Which runtime is meant may stand in the environment for good: it does not hide what no runtime has.
    let is_elsewhere = within.namespace.is_some() || within.server.kubeconfig.is_some() || word.contains('/');
    if of.pod.is_some() || of.cri.cri.is_some() && !is_elsewhere {
        return find(cli, text, of, previous).map(Any::Here);
    }
    if is_elsewhere {
        let server = Server::find(&cli.data_dir, &within.server, within.namespace.as_deref())?;
        return Ok(Any::OfApi(Box::new(Pod::find(server, word)?)));
    }
    let is_own = container::search(&Instance::open(&cli.data_dir, &cli.run_dir)?, word)?.is_some();
    if !is_own && let Some(pod) = Server::own(&cli.data_dir).and_then(|server| Pod::if_there(server, word)) {
        return Ok(Any::OfApi(Box::new(pod)));
    }
    find(cli, text, of, previous).map(Any::Here)
}

/// A pod's container if a pod is named; otherwise what `text` means among our own, and then among those of pods.
pub(super) fn find(cli: &Cli, text: Option<&str>, of: &OfPod, previous: bool) -> Result<Which> {
    if let Some(pod) = &of.pod {
        let runtime = Runtime::connect(&cli.run_dir, &of.cri)?;
        let container = runtime.container_of(pod, of.name.as_deref(), previous)?;
        return Ok(Which::OfPod(runtime, Box::new(container)));
    }
    let text = text.unwrap_or_default();
    if let Some(name) = &of.name {
        return Err(Failure::new(format!(
            "cannot look for container {name:?} in {text:?}: no pod is called so, and --pod says no other"
        )));
    }
    let instance = Instance::open(&cli.data_dir, &cli.run_dir)?;
    if let Some(record) = container::search(&instance, text)? {
        if previous {
            return Err(Failure::new(format!(
                "cannot show a previous container of {}: containers of `sextant run` keep one log for all their starts",
                record.name
            )));
        }
        return Ok(Which::Own(Box::new(instance), Box::new(record)));
    }
    let runtime = Runtime::connect(&cli.run_dir, &of.cri).map_err(|failure| match of.cri.cri {
        Some(_) => failure,
        None => Failure::new(format!(
            "no container {text:?} is here (see `sextant ps -a`), and no pods were looked through: nobody serves CRI on \
             {} (is `sextant node` running? --cri names another runtime)",
            pods::socket(&cli.run_dir, &of.cri).display()
        )),
    })?;
    let container = runtime.container(text, previous)?;
    Ok(Which::OfPod(runtime, Box::new(container)))
}
