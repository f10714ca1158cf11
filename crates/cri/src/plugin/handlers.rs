//! Runtime handlers: by which name which runtime runs a pod.

use std::collections::BTreeMap;

use super::config::{Config, Handler};
use crate::contract::Error;

/// The handlers by name; the empty name is the default.
#[derive(Debug)]
pub(crate) struct Handlers {
    by_name: BTreeMap<String, Handler>,
}

impl Handlers {
    /// Those of the configuration, and the built-in one under the names `` and `sextant`.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut by_name: BTreeMap<String, Handler> = config.runtime.handlers.clone();
        for name in ["", "sextant"] {
            by_name.entry(name.to_owned()).or_insert(Handler::BuiltIn);
        }
        Ok(Self { by_name })
    }

    /// The handler called `name`.
    pub(crate) fn get(&self, name: &str) -> Result<&Handler, Error> {
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> =
                self.by_name.keys().map(String::as_str).filter(|n| !n.is_empty()).collect();
            let hint = format!("configured are: {}", known.join(", "));
            Error::invalid("runtime_handler", format!("{name:?} is no handler of this node: {hint}"))
        })
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
