use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::attachment::is_name;
use super::{Code, Error, Keys, Version, json};

/// A configuration list: the plugins that make one network, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// The version spoken with all its plugins.
    pub version: Version,
    /// The network's name.
    pub name: String,
    /// CHECK is not to be called.
    pub disable_check: bool,
    /// GC is not to be called.
    pub disable_gc: bool,
    /// The plugins' own configurations, never empty, each with the `name` and `cniVersion` of the list.
    pub plugins: Vec<PluginConf>,
    /// The list as it was read.
    pub source: Value,
    encoded: Encoded,
}

/// The list as the cache keeps it. Of two lists that are the same it may be there in one alone.
#[derive(Debug, Clone, Default)]
struct Encoded(OnceLock<String>);

impl PartialEq for Encoded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A plugin's configuration. Keys that nobody here knows are passed on unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConf {
    /// Its `type`: the name of the program, or of the built-in plugin.
    pub kind: String,
    /// All its keys, `type` included.
    pub keys: Map<String, Value>,
}

/// How errors call it.
const OF: &str = "the network configuration";

impl NetworkList {
    /// Reads a configuration list, or a single plugin's configuration as a list of one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let value = json::configuration(bytes)
            .map_err(|e| Error::because("cannot read a network configuration", e).code(Code::Decode))?;
        Self::from_value(value)
    }

    /// `loadOnlyInlinedPlugins`: the list's own plugins are all of them. Else those in the folder of its name beside it
    /// come after.
    pub fn wants_inlined_alone(source: &Value) -> Result<bool, Error> {
        let object = source.as_object();
        object.map_or(Ok(false), |o| Keys::new(o, OF).lenient_boolean("loadOnlyInlinedPlugins"))
    }

    /// The specification's rule for names of networks.
    pub fn is_name(text: &str) -> bool {
        is_name(text)
    }

    /// What can be used of the configuration of the network `name`, by which something was attached, and what is wrong with
    /// the rest: it may have been written by another version, or damaged since. It may have no plugin at all.
    pub fn salvage(bytes: &[u8], name: &str) -> (Self, Option<Error>) {
        let wrong = match Self::parse(bytes) {
            Ok(list) => return (list, None),
            Err(e) => e,
        };
        let source = json::configuration(bytes).unwrap_or_default();
        let none = Map::new();
        let keys = Keys::new(source.as_object().unwrap_or(&none), OF);
        let alone = std::slice::from_ref(&source);
        let entries =
            keys.get("plugins").map_or(alone, |plugins| plugins.as_array().map_or(&[], Vec::as_slice));
        let list = Self {
            version: version(&keys).unwrap_or(Version::LATEST),
            name: name.to_owned(),
            disable_check: false,
            disable_gc: false,
            plugins: entries.iter().filter_map(PluginConf::salvage).collect(),
            source,
            encoded: Encoded::default(),
        };
        (list.with_names(), Some(wrong))
    }

    /// Adds the plugins of `other` whose type this has none of, where `other` has them.
    pub(crate) fn complete(&mut self, other: &Self) {
        let missing = |plugin: &&PluginConf| self.plugins.iter().all(|known| known.kind != plugin.kind);
        let missing: Vec<PluginConf> = other.plugins.iter().filter(missing).cloned().collect();
        self.plugins.extend(missing);
    }

    /// Reads a configuration that has been decoded.
    pub fn from_value(source: Value) -> Result<Self, Error> {
        let Some(object) = source.as_object() else {
            return Err(Error::new(
                Code::Decode,
                "cannot read a network configuration: it is not a JSON object",
            ));
        };
        let keys = Keys::new(object, OF);
        let name = keys.text("name")?.unwrap_or_default().to_owned();
        check_network_name(&keys)?;
        let plugins = match keys.get("plugins") {
            Some(_) => {
                keys.list("plugins")?.iter().map(PluginConf::from_value).collect::<Result<Vec<_>, _>>()?
            }
            None if object.contains_key("type") => vec![PluginConf::from_value(&source)?],
            None => return Err(keys.refuse("plugins", "a list of plugins")),
        };
        if plugins.is_empty() {
            return Err(keys.refuse("plugins", "a list of one plugin or more"));
        }
        let list = Self {
            version: version(&keys)?,
            name,
            disable_check: keys.lenient_boolean("disableCheck")?,
            disable_gc: keys.lenient_boolean("disableGC")?,
            plugins,
            source,
            encoded: Encoded::default(),
        };
        Ok(list.with_names())
    }

    /// Each plugin is told the network's name and version.
    fn with_names(mut self) -> Self {
        for plugin in &mut self.plugins {
            plugin.keys.insert("name".into(), self.name.as_str().into());
            plugin.keys.insert("cniVersion".into(), self.version.as_str().into());
        }
        self
    }

    /// The list as it was read, in base64: every attachment's entry in the cache has it.
    pub(crate) fn encoded(&self) -> &str {
        self.encoded.0.get_or_init(|| STANDARD.encode(self.source.to_string()))
    }
}

/// `cniVersion`, or the highest one of `cniVersions` that is known here.
fn version(keys: &Keys<'_>) -> Result<Version, Error> {
    let single = keys.text("cniVersion")?;
    let many: Option<Vec<String>> = keys.decode("cniVersions")?;
    let highest = many.iter().flatten().filter_map(|text| text.parse::<Version>().ok()).max();
    match (single, highest) {
        (_, Some(highest)) => {
            Ok(single.and_then(|s| s.parse().ok()).map_or(highest, |s: Version| s.max(highest)))
        }
        (single, None) => single.unwrap_or_default().parse(),
    }
}

impl PluginConf {
    /// Reads a plugin object.
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        let Some(object) = value.as_object() else {
            return Err(Error::new(
                Code::InvalidConfig,
                "cannot use \"plugins\" of the network configuration: an entry is not an object",
            ));
        };
        let keys = Keys::new(object, "a plugin's configuration");
        let kind = keys.text("type")?.unwrap_or_default();
        check_type(kind).map_err(|wanted| keys.refuse("type", wanted))?;
        for reserved in ["runtimeConfig", "args"] {
            keys.object(reserved)?;
        }
        Ok(Self { kind: kind.to_owned(), keys: object.clone() })
    }

    /// A plugin object without the keys that no plugin could be given.
    fn salvage(value: &Value) -> Option<Self> {
        let mut value = value.clone();
        let object = value.as_object_mut()?;
        for reserved in ["runtimeConfig", "args"] {
            if !object.get(reserved).is_none_or(Value::is_object) {
                object.remove(reserved);
            }
        }
        Self::from_value(&value).ok()
    }

    /// Its `ipam` object's `type`, if it delegates addresses.
    pub fn ipam_type(&self) -> Result<Option<&str>, Error> {
        let Some(ipam) = Keys::new(&self.keys, &self.kind).object("ipam")? else { return Ok(None) };
        let keys = Keys::new(ipam, "\"ipam\"");
        let Some(kind) = keys.text("type")?.filter(|kind| !kind.is_empty()) else { return Ok(None) };
        check_type(kind).map_err(|wanted| keys.refuse("type", wanted))?;
        Ok(Some(kind))
    }
}

/// The specification's rule for the `name` of a network.
pub fn check_network_name(keys: &Keys<'_>) -> Result<(), Error> {
    if is_name(keys.text("name")?.unwrap_or_default()) {
        return Ok(());
    }
    Err(keys.refuse(
        "name",
        "a name that starts with a letter or digit and has only letters, digits, '_', '.' and '-'",
    ))
}

/// A plugin's type becomes part of a path.
fn check_type(kind: &str) -> Result<(), &'static str> {
    match kind {
        "" => Err("the name of a plugin"),
        "." | ".." => Err("a plain name"),
        _ if kind.contains(['/', '\\', '\0']) => Err("a name without path separators"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Code, String) {
        let error = NetworkList::parse(text.as_bytes()).unwrap_err();
        (error.code, error.to_string())
    }

    #[test]
    fn bad_configurations_name_the_key() {
        for (text, code, words) in [
            ("", Code::Decode, "cannot read a network configuration"),
            ("[]", Code::Decode, "not a JSON object"),
            ("{}", Code::InvalidConfig, "\"name\""),
            (r#"{"name":"a/b","plugins":[]}"#, Code::InvalidConfig, "\"name\""),
            (r#"{"name":1}"#, Code::InvalidConfig, "\"name\""),
            (r#"{"name":"n"}"#, Code::InvalidConfig, "\"plugins\""),
            (r#"{"name":"n","plugins":[]}"#, Code::InvalidConfig, "\"plugins\""),
            (r#"{"name":"n","plugins":{}}"#, Code::InvalidConfig, "\"plugins\""),
            (r#"{"name":"n","plugins":[1]}"#, Code::InvalidConfig, "\"plugins\""),
            (r#"{"name":"n","plugins":[{}]}"#, Code::InvalidConfig, "\"type\""),
            (r#"{"name":"n","plugins":[{"type":"../x"}]}"#, Code::InvalidConfig, "\"type\""),
            (r#"{"name":"n","plugins":[{"type":"x","args":1}]}"#, Code::InvalidConfig, "\"args\""),
            (
                r#"{"name":"n","cniVersion":"9.0.0","plugins":[{"type":"x"}]}"#,
                Code::IncompatibleVersion,
                "9.0.0",
            ),
            (
                r#"{"name":"n","disableCheck":3,"plugins":[{"type":"x"}]}"#,
                Code::InvalidConfig,
                "\"disableCheck\"",
            ),
        ] {
            let (got, message) = refused(text);
            assert_eq!(got, code, "{text}: {message}");
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn versions_are_negotiated() {
        let text = r#"{"name":"n","cniVersion":"0.4.0","cniVersions":["1.0.0","9.0.0"],"type":"x"}"#;
        let list = NetworkList::parse(text.as_bytes()).unwrap();
        assert_eq!((list.version, list.plugins.len()), (Version::V1_0_0, 1));
        // Its plugin is told the same.
        let keys = &list.plugins[0].keys;
        assert_eq!((keys["name"].as_str(), keys["cniVersion"].as_str()), (Some("n"), Some("1.0.0")));
    }
}
