use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{Code, Error};

/// What is attached to what: one interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The container's id.
    pub container_id: String,
    /// The interface's name inside.
    pub ifname: String,
    /// The container's network namespace; none if it is gone.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// Values for the capabilities that plugins declare, such as `portMappings`.
    pub capability_args: Map<String, Value>,
}

impl Attachment {
    /// Checks the names; no arguments yet.
    pub fn new(
        container_id: impl Into<String>,
        ifname: impl Into<String>,
        netns: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let (container_id, ifname) = (container_id.into(), ifname.into());
        check_container_id(&container_id)?;
        check_ifname(&ifname)?;
        Ok(Self { container_id, ifname, netns, args: Vec::new(), capability_args: Map::new() })
    }

    /// `CNI_ARGS` as one text: `K=V;K=V`.
    pub fn args_text(&self) -> String {
        let pairs: Vec<_> = self.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(";")
    }

    /// The value of an argument.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The network namespace, which ADD and CHECK cannot do without.
    pub fn netns(&self) -> Result<&PathBuf, Error> {
        self.netns.as_ref().ok_or_else(|| {
            Error::new(
                Code::InvalidEnvironment,
                "cannot attach without a network namespace: CNI_NETNS is missing",
            )
        })
    }
}

/// Reads `CNI_ARGS`.
pub fn parse_args(text: &str) -> Result<Vec<(String, String)>, Error> {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::new(
            Code::InvalidEnvironment,
            format!("cannot read CNI_ARGS: {pair:?} is not of the form KEY=VALUE"),
        )),
    };
    text.split(';').filter(|part| !part.is_empty()).map(pair).collect()
}

/// The specification's rule for container ids and network names: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn check_container_id(id: &str) -> Result<(), Error> {
    if is_name(id) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidEnvironment,
        format!(
            "cannot use container id {id:?} (CNI_CONTAINERID): it must start with a letter or digit, and have only \
             letters, digits, '_', '.' and '-'"
        ),
    ))
}

fn check_ifname(name: &str) -> Result<(), Error> {
    let rule = match name {
        "" => "it is empty",
        "." | ".." => "it is a directory's name",
        _ if name.len() > 15 => "it is longer than 15 bytes",
        _ if name.contains(['/', ':']) => "it has an invalid character, '/' or ':'",
        _ if name.contains(|c: char| c.is_whitespace() || c.is_control()) => "it has a space",
        _ => return Ok(()),
    };
    Err(Error::new(
        Code::InvalidEnvironment,
        format!("cannot use interface name {name:?} (CNI_IFNAME): {rule}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (id, ifname) in
            [("", "eth0"), ("a b", "eth0"), ("-a", "eth0"), ("../a", "eth0"), ("a", ""), ("a", "..")]
        {
            assert!(Attachment::new(id, ifname, None).is_err(), "{id:?} {ifname:?}");
        }
        for ifname in ["a/b", "a:b", "a b", "sixteen-letters-"] {
            assert!(Attachment::new("a", ifname, None).is_err(), "{ifname:?}");
        }
        assert!(Attachment::new("pod-1.2_3", "fifteen-letters", None).is_ok());
    }

    #[test]
    fn args() {
        assert_eq!(parse_args("A=1;B=x=y;").unwrap(), [("A".into(), "1".into()), ("B".into(), "x=y".into())]);
        assert!(parse_args("A").is_err() && parse_args("=1").is_err());
    }
}
