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
    ///
    /// # Errors
    /// A handler is of a kind that cannot be run yet: a node that learned it from its first pod would learn it late.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut by_name: BTreeMap<String, Handler> = config.runtime.handlers.clone();
        for (name, handler) in &by_name {
            let (kind, what, path) = match handler {
                Handler::BuiltIn => continue,
                Handler::Oci { path } => ("oci", "another OCI runtime", path),
                Handler::Shim { path } => ("shim", "another shim", path),
            };
            return Err(Error::invalid(
                format!("runtime.handlers.{name}"),
                format!(
                    "kind = {kind:?} ({what}, {}) cannot be run yet: take it out, or make it kind = \"built-in\"",
                    path.display()
                ),
            ));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, handler: Handler) -> Result<Handlers, Error> {
        let mut config = Config::default();
        config.runtime.handlers.insert(name.into(), handler);
        Handlers::new(&config)
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        for (handler, kind) in [
            (Handler::Oci { path: "/usr/bin/crun".into() }, "\"oci\""),
            (Handler::Shim { path: "/usr/bin/crun".into() }, "\"shim\""),
        ] {
            let error = with("other", handler).unwrap_err().to_string();
            for part in ["runtime.handlers.other", kind, "/usr/bin/crun"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn the_built_in_runtime_has_its_names_and_further_ones() {
        let handlers = with("small", Handler::BuiltIn).unwrap();
        assert_eq!(handlers.names().collect::<Vec<_>>(), ["", "sextant", "small"]);
        assert_eq!(handlers.get("small").unwrap(), &Handler::BuiltIn);
        let error = handlers.get("kata").unwrap_err().to_string();
        assert!(error.contains("runtime_handler") && error.contains("sextant, small"), "{error}");
    }
}
