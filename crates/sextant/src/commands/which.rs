//! The container that a person means: one of `sextant run`, or a pod's.

use cri::contract::v1::Container;

use crate::cli::{Cli, OfPod};
use crate::container::{self, Record};
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::pods::{self, Runtime};

/// One of both kinds, and where it lives.
pub(super) enum Which {
    /// Of `sextant run`.
    Own(Box<Instance>, Box<Record>),
    /// A pod's, of the node or another runtime.
    OfPod(Runtime, Box<Container>),
}

/// A pod's container if a pod is named; otherwise what `text` means among our own, and then among those of pods.
pub(super) fn find(cli: &Cli, text: Option<&str>, of: &OfPod, previous: bool) -> Result<Which> {
    if let Some(pod) = &of.pod {
        let runtime = Runtime::connect(&cli.run_dir, &of.cri)?;
        let container = runtime.container_of(pod, of.name.as_deref(), previous)?;
        return Ok(Which::OfPod(runtime, Box::new(container)));
    }
    let text = text.unwrap_or_default();
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
