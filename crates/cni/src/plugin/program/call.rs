use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::contract::{
    AddResult, Attachment, Code, Error, Keys, PluginConf, Version, check_network_name, parse_args,
};

/// The plugin is asked to work on its own namespace (the reference library's code for it).
const INVALID_NETNS: Code = Code::Other(8);

/// The plugin that has no use for `CNI_ARGS`, whatever is in it.
const READS_NO_ARGS: &str = "loopback";

/// What a plugin is to do (`CNI_COMMAND`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the specification's verbs")]
pub enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Verb {
    const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Status, Self::Gc, Self::Version];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }

    /// As `CNI_COMMAND` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    /// The variables that it cannot do without.
    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Gc => &["CNI_PATH"],
            Self::Status | Self::Version => &[],
        }
    }

    /// The version of the specification that brought it.
    fn since(self) -> Version {
        match self {
            Self::Check => Version::V0_4_0,
            Self::Status | Self::Gc => Version::V1_1_0,
            _ => Version::V0_1_0,
        }
    }
}

/// One call of a plugin's program.
#[derive(Debug)]
pub struct Call {
    /// What to do.
    pub verb: Verb,
    /// For whom; names that no container has where the verb is about none.
    pub attachment: Attachment,
    /// `CNI_ARGS`, which [`Call::read`] puts into the attachment.
    args: String,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// The network's name.
    pub network: String,
    /// The version spoken.
    pub version: Version,
    /// The configuration.
    pub conf: PluginConf,
    /// What the plugins before it made.
    pub previous: Option<AddResult>,
}

impl Call {
    /// Reads the variables; none if there is no `CNI_COMMAND`. All that are missing are named in one error.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Error> {
        let text = |name: &str| -> Result<Option<String>, Error> {
            let Some(value) = variable(name).filter(|value| !value.is_empty()) else { return Ok(None) };
            value.into_string().map(Some).map_err(|value| {
                Error::new(Code::InvalidEnvironment, format!("cannot read {name}: {value:?} is not UTF-8"))
            })
        };
        let Some(command) = text("CNI_COMMAND")? else { return Ok(None) };
        let verb = Verb::parse(&command).ok_or_else(|| {
            Error::new(Code::InvalidEnvironment, format!("cannot serve CNI_COMMAND {command:?}"))
                .hint("known are ADD, DEL, CHECK, STATUS, GC and VERSION")
        })?;
        let missing: Vec<_> = verb
            .required()
            .iter()
            .filter(|name| variable(name).is_none_or(|value| value.is_empty()))
            .copied()
            .collect();
        if !missing.is_empty() {
            let error = format!("cannot serve {command}: missing in the environment: {}", missing.join(", "));
            return Err(Error::new(Code::InvalidEnvironment, error));
        }
        let netns = variable("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut args = String::new();
        let attachment = match verb {
            Verb::Add | Verb::Del | Verb::Check => {
                refuse_own_netns(netns.as_deref(), text("CNI_NETNS_OVERRIDE")?.as_deref())?;
                let id = text("CNI_CONTAINERID")?.unwrap_or_default();
                args = text("CNI_ARGS")?.unwrap_or_default();
                Attachment::new(id, text("CNI_IFNAME")?.unwrap_or_default(), netns)?
            }
            _ => Attachment::new("none", "none", None)?,
        };
        let path = variable("CNI_PATH").unwrap_or_default();
        Ok(Some(Self {
            verb,
            attachment,
            args,
            path: std::env::split_paths(&path).filter(|dir| !dir.as_os_str().is_empty()).collect(),
            network: String::new(),
            version: Version::LATEST,
            conf: PluginConf { kind: String::new(), keys: Map::new() },
            previous: None,
        }))
    }

    /// Reads the configuration of the plugin `kind` from standard input.
    pub fn read(&mut self, kind: &str, input: &[u8]) -> Result<(), Error> {
        let decode =
            |e| Error::because("cannot read the configuration on standard input", e).code(Code::Decode);
        let value: Value = serde_json::from_slice(input).map_err(decode)?;
        let Value::Object(mut keys) = value else {
            let error = "cannot read the configuration on standard input: it is not a JSON object";
            return Err(Error::new(Code::Decode, error));
        };
        self.version = version(&keys)?;
        if self.verb == Verb::Version {
            return Ok(());
        }
        if self.version < self.verb.since() {
            return Err(Error::new(
                Code::IncompatibleVersion,
                // Runtimes know these words of the reference library.
                format!("config version does not allow {}", self.verb.as_str()),
            ));
        }
        if kind != READS_NO_ARGS {
            self.attachment.args = parse_args(&self.args)?;
        }
        let conf = Keys::new(&keys, kind);
        self.network = conf.text("name")?.unwrap_or_default().to_owned();
        check_network_name(&conf)?;
        for reserved in ["runtimeConfig", "args"] {
            conf.object(reserved)?;
        }
        self.previous = previous(&keys, self.version)?;
        keys.remove("prevResult");
        self.conf = PluginConf { kind: kind.to_owned(), keys };
        Ok(())
    }
}

fn version(keys: &Map<String, Value>) -> Result<Version, Error> {
    match keys.get("cniVersion") {
        None | Some(Value::Null) => "".parse(),
        Some(Value::String(text)) => text.parse(),
        Some(other) => {
            Err(Error::new(Code::Decode, format!("cannot read \"cniVersion\": it is {other}, not text")))
        }
    }
}

fn previous(keys: &Map<String, Value>, version: Version) -> Result<Option<AddResult>, Error> {
    let Some(value) = keys.get("prevResult").filter(|value| !value.is_null()) else { return Ok(None) };
    let mut value = value.clone();
    let Some(object) = value.as_object_mut() else {
        return Err(Error::new(Code::Decode, "cannot read \"prevResult\": it is not an object"));
    };
    // A result that does not say is in the configuration's version.
    if object.get("cniVersion").and_then(Value::as_str).unwrap_or_default().is_empty() {
        object.insert("cniVersion".into(), json!(version.as_str()));
    }
    AddResult::from_value(value)
        .map(Some)
        .map_err(|e| Error::because("cannot read \"prevResult\"", e).code(Code::Decode))
}

/// A plugin that was given its own namespace as the container's would take the host's links for the container's.
fn refuse_own_netns(netns: Option<&Path>, override_: Option<&str>) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let allowed = matches!(override_, Some("1" | "t" | "T" | "true" | "TRUE" | "True"));
    let Some(netns) = netns.filter(|_| !allowed) else { return Ok(()) };
    let same = std::fs::metadata(netns)
        .and_then(|theirs| std::fs::metadata("/proc/thread-self/ns/net").map(|ours| (theirs, ours)))
        .is_ok_and(|(theirs, ours)| theirs.dev() == ours.dev() && theirs.ino() == ours.ino());
    if same {
        let error = format!("cannot use CNI_NETNS {}: it is the plugin's own namespace", netns.display());
        return Err(Error::new(INVALID_NETNS, error).hint("CNI_NETNS_OVERRIDE=1 allows it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(variables: &[(&str, &str)], input: &str) -> Result<Call, Error> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
        let mut call = Call::from_environment(variable)?.unwrap();
        call.read("bridge", input.as_bytes())?;
        Ok(call)
    }

    const ADD: &[(&str, &str)] =
        &[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_NETNS", "/x"), ("CNI_IFNAME", "eth0")];

    #[test]
    fn whatever_is_wrong_is_named_with_its_code() {
        let conf = r#"{"cniVersion":"1.1.0","name":"n","type":"bridge"}"#;
        for (variables, input, code, words) in [
            (&[("CNI_COMMAND", "PUT")][..], conf, Code::InvalidEnvironment, "\"PUT\""),
            (
                &[("CNI_COMMAND", "ADD")],
                conf,
                Code::InvalidEnvironment,
                "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME",
            ),
            (&[("CNI_COMMAND", "GC")], conf, Code::InvalidEnvironment, "CNI_PATH"),
            (
                &[&ADD[..2], &[("CNI_NETNS", "/x"), ("CNI_IFNAME", "a/b")]].concat(),
                conf,
                Code::InvalidEnvironment,
                "CNI_IFNAME",
            ),
            (&[ADD, &[("CNI_ARGS", "x")]].concat(), conf, Code::InvalidEnvironment, "CNI_ARGS"),
            (ADD, "", Code::Decode, "standard input"),
            (ADD, "7", Code::Decode, "not a JSON object"),
            (ADD, r#"{"cniVersion":7}"#, Code::Decode, "cniVersion"),
            (ADD, r#"{"cniVersion":"9.9.9"}"#, Code::IncompatibleVersion, "9.9.9"),
            (ADD, r#"{"cniVersion":"1.1.0"}"#, Code::InvalidConfig, "\"name\""),
            (ADD, r#"{"cniVersion":"1.1.0","name":"n","prevResult":7}"#, Code::Decode, "prevResult"),
            (ADD, r#"{"cniVersion":"1.1.0","name":"n","prevResult":{"ips":7}}"#, Code::Decode, "prevResult"),
            (ADD, r#"{"cniVersion":"1.1.0","name":"n","args":7}"#, Code::InvalidConfig, "\"args\""),
            (
                &[("CNI_COMMAND", "STATUS")],
                r#"{"cniVersion":"1.0.0","name":"n"}"#,
                Code::IncompatibleVersion,
                "STATUS",
            ),
        ] {
            let error = call(variables, input).unwrap_err();
            assert_eq!(error.code, code, "{input}: {error}");
            assert!(error.to_string().contains(words), "{input}: {error}");
        }
        let own = [&ADD[..2], &[("CNI_NETNS", "/proc/thread-self/ns/net"), ("CNI_IFNAME", "eth0")]].concat();
        assert_eq!(call(&own, conf).unwrap_err().code, INVALID_NETNS);
        assert!(call(&[&own[..], &[("CNI_NETNS_OVERRIDE", "1")]].concat(), conf).is_ok());
    }

    #[test]
    fn a_call_is_read_whole() {
        let input = r#"{"name":"n","cniVersion":"0.4.0","prevResult":{"ips":[{"version":"4","address":"10.0.0.1/8"}]},"x":1}"#;
        let call = call(&[ADD, &[("CNI_ARGS", "A=1"), ("CNI_PATH", "/a:/b")]].concat(), input).unwrap();
        assert_eq!((call.version, call.network.as_str(), call.path.len()), (Version::V0_4_0, "n", 2));
        assert_eq!(call.previous.unwrap().ips.len(), 1);
        assert_eq!(call.attachment.arg("A"), Some("1"));
        assert_eq!(call.conf.keys.get("x"), Some(&json!(1)));
        assert!(Call::from_environment(|_| None).unwrap().is_none());
    }
}
