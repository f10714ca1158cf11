//! Runtime handlers: by which name which runtime runs a pod, and what that can do.

mod features;

use std::collections::BTreeMap;

use oci_runtime::contract::Spec;
use shim::protocol::{OtherRuntime, RuntimeKind};

use super::config::{Config, Handler};
use super::pod::Record;
use crate::contract::Error;
use crate::contract::v1::{ContainerConfig, NamespaceMode, NamespaceOption, RuntimeHandlerFeatures};

/// What the built-in runtime can do.
const BUILT_IN: RuntimeHandlerFeatures =
    RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: true };

/// The version of configurations for programs of others: some refuse what is newer than they are, instead of what they do
/// not know in it, and all take this one.
const OLD_VERSION: &str = "1.0.2";

/// The handlers by name; the empty name is the default.
#[derive(Debug)]
pub(crate) struct Handlers {
    by_name: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    handler: Handler,
    features: RuntimeHandlerFeatures,
}

impl Handlers {
    /// Those of the configuration, and the built-in one under the names `` and `sextant`. Programs of others are asked what
    /// they can do; what is wrong with one is told to `log`, for it may be installed later.
    ///
    /// # Errors
    /// A handler cannot be one: a node that learned it from its first pod would learn it late.
    pub(crate) fn new(config: &Config, log: &dyn Fn(&str)) -> Result<Self, Error> {
        let mut by_name = BTreeMap::new();
        for (name, handler) in &config.runtime.handlers {
            let field = |key: &str| format!("runtime.handlers.{name}.{key}");
            let features = match handler {
                Handler::BuiltIn => BUILT_IN,
                Handler::Oci { program, .. } | Handler::Shim { program, .. } if !program.is_absolute() => {
                    let message = format!("{:?} is no absolute path: start it with /", program.display());
                    return Err(Error::invalid(field("program"), message));
                }
                Handler::Oci { program, .. } => features::of_runtime(program).unwrap_or_else(|problem| {
                    log(&format!("handler {name}: {problem}: it is taken to have no features"));
                    RuntimeHandlerFeatures::default()
                }),
                Handler::Shim { options: Some(options), .. } if !options.is_absolute() => {
                    let message = format!("{:?} is no absolute path: start it with /", options.display());
                    return Err(Error::invalid(field("options"), message));
                }
                Handler::Shim { program, .. } => features::of_shim(program).unwrap_or_else(|problem| {
                    log(&format!("handler {name}: {problem}: it is taken to have no features"));
                    RuntimeHandlerFeatures::default()
                }),
            };
            by_name.insert(name.clone(), Known { handler: handler.clone(), features });
        }
        for name in ["", "sextant"] {
            by_name.entry(name.to_owned()).or_insert(Known { handler: Handler::BuiltIn, features: BUILT_IN });
        }
        Ok(Self { by_name })
    }

    fn get(&self, name: &str) -> Result<&Known, Error> {
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> =
                self.by_name.keys().map(String::as_str).filter(|n| !n.is_empty()).collect();
            let hint = format!("configured are: {}", known.join(", "));
            Error::invalid("runtime_handler", format!("{name:?} is no handler of this node: {hint}"))
        })
    }

    /// Whether `name` is one of them.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        self.get(name).map(drop)
    }

    /// What the shim of a pod is told of the handler called `name`.
    pub(crate) fn runtime(&self, name: &str) -> Result<Option<OtherRuntime>, Error> {
        Ok(match &self.get(name)?.handler {
            Handler::BuiltIn => None,
            Handler::Shim { program, options, options_type, .. } => Some(OtherRuntime {
                handler: name.to_owned(),
                program: program.display().to_string(),
                kind: RuntimeKind::Shim.into(),
                options_file: options.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
                options_type: options_type.clone(),
                ..OtherRuntime::default()
            }),
            Handler::Oci { program, arguments } => Some(OtherRuntime {
                handler: name.to_owned(),
                program: program.display().to_string(),
                kind: RuntimeKind::Oci.into(),
                arguments: arguments.clone(),
                ..OtherRuntime::default()
            }),
        })
    }

    /// Whether the handler called `name` can do what a pod wants.
    pub(crate) fn check_pod(&self, name: &str, wanted: &NamespaceOption) -> Result<(), Error> {
        let user = wanted.userns_options.as_ref().is_some_and(|user| user.mode() == NamespaceMode::Pod);
        if user && !self.get(name)?.features.user_namespaces {
            let field = "config.linux.security_context.namespace_options.userns_options";
            return Err(Error::invalid(field, cannot(name, "give pods user namespaces")));
        }
        Ok(())
    }

    /// Whether the handler called `name` can do what a container wants.
    pub(crate) fn check_container(&self, name: &str, wanted: &ContainerConfig) -> Result<(), Error> {
        let Some(index) = wanted.mounts.iter().position(|mount| mount.recursive_read_only) else {
            return Ok(());
        };
        if self.by_name.get(name).is_some_and(|known| !known.features.recursive_read_only_mounts) {
            let field = format!("config.mounts[{index}].recursive_read_only");
            return Err(Error::invalid(field, cannot(name, "make mounts read-only recursively")));
        }
        Ok(())
    }

    /// Whether pods of the handler called `name` are run by a shim of others, which wants a sandbox container and mounts
    /// roots where everybody sees them.
    pub(crate) fn is_shim(&self, name: &str) -> bool {
        matches!(self.by_name.get(name), Some(Known { handler: Handler::Shim { .. }, .. }))
    }

    /// Makes a configuration one that the handler of a pod takes.
    pub(crate) fn suit(&self, pod: &Record, spec: &mut Spec) {
        match self.by_name.get(&pod.handler).map(|known| &known.handler) {
            None | Some(Handler::BuiltIn) => return,
            Some(Handler::Oci { .. }) => {}
            Some(Handler::Shim { annotations, .. }) => {
                let wanted = |key: &str| annotations.iter().any(|pattern| matches(pattern, key));
                let handed_on = pod.config.annotations.iter().filter(|(key, _)| wanted(key));
                spec.annotations.extend(handed_on.map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        spec.oci_version = OLD_VERSION.to_owned();
    }

    /// What each of them can do, by name.
    pub(crate) fn features(&self) -> impl Iterator<Item = (&str, RuntimeHandlerFeatures)> {
        self.by_name.iter().map(|(name, known)| (name.as_str(), known.features))
    }
}

/// Whether `key` is the one that `pattern` is, or begins as it does up to its star.
fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == pattern,
    }
}

fn cannot(handler: &str, what: &str) -> String {
    format!("handler {handler} cannot {what}: leave it out, or use another RuntimeClass")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::{Mount, UserNamespace};

    fn with(name: &str, handler: Handler) -> Result<Handlers, Error> {
        let mut config = Config::default();
        config.runtime.handlers.insert(name.into(), handler);
        Handlers::new(&config, &|_| ())
    }

    fn oci(program: &str) -> Handler {
        Handler::Oci { program: program.into(), arguments: vec!["--debug".into()] }
    }

    #[test]
    fn what_cannot_be_a_handler_is_refused_by_name() {
        let error = with("other", oci("crun")).unwrap_err().to_string();
        for part in ["runtime.handlers.other.program", "crun", "absolute"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_built_in_runtime_has_its_names_and_further_ones() {
        let handlers = with("small", Handler::BuiltIn).unwrap();
        let names: Vec<_> = handlers.features().collect();
        assert_eq!(names, [("", BUILT_IN), ("sextant", BUILT_IN), ("small", BUILT_IN)]);
        assert_eq!(handlers.runtime("small").unwrap(), None);
        let error = handlers.check("kata").unwrap_err().to_string();
        assert!(error.contains("runtime_handler") && error.contains("sextant, small"), "{error}");
    }

    #[test]
    fn annotations_are_handed_on_by_their_keys() {
        assert!(matches("io.kata.*", "io.kata.cpus") && matches("a", "a"));
        assert!(!matches("io.kata.*", "io.other") && !matches("a", "ab"));
    }

    #[test]
    fn a_shim_is_told_where_its_configuration_is() {
        let shim = |options: &str| Handler::Shim {
            program: "/nonexistent/containerd-shim-x-v2".into(),
            options: Some(options.into()),
            options_type: "x.options".into(),
            annotations: Vec::new(),
        };
        let handlers = with("x", shim("/etc/x.toml")).unwrap();
        let told = handlers.runtime("x").unwrap().unwrap();
        assert_eq!((told.kind(), told.options_file.as_str()), (RuntimeKind::Shim, "/etc/x.toml"));
        assert!(handlers.is_shim("x") && !handlers.is_shim(""));
        let error = with("x", shim("x.toml")).unwrap_err().to_string();
        assert!(error.contains("runtime.handlers.x.options"), "{error}");
    }

    #[test]
    fn what_a_runtime_cannot_do_is_refused_by_field_and_handler() {
        let handlers = with("r", oci("/nonexistent/r")).unwrap();
        let runtime = handlers.runtime("r").unwrap().unwrap();
        assert_eq!((runtime.handler.as_str(), runtime.program.as_str()), ("r", "/nonexistent/r"));
        let users = UserNamespace { mode: NamespaceMode::Pod.into(), ..UserNamespace::default() };
        let pod = NamespaceOption { userns_options: Some(users), ..NamespaceOption::default() };
        let mount = Mount { recursive_read_only: true, ..Mount::default() };
        let container =
            ContainerConfig { mounts: vec![Mount::default(), mount], ..ContainerConfig::default() };
        for (error, field) in [
            (handlers.check_pod("r", &pod), "userns_options"),
            (handlers.check_container("r", &container), "config.mounts[1].recursive_read_only"),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("handler r"), "{error}");
        }
        handlers.check_pod("", &pod).unwrap();
        handlers.check_container("", &container).unwrap();
        handlers.check_container("r", &ContainerConfig::default()).unwrap();
    }
}
