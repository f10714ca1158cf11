//! The command line, as Go's flag package has it: one dash or two, a value after `=` or in the next word.

use std::ffi::OsString;
use std::io;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) namespace: String,
    pub(super) id: String,
    /// containerd's.
    pub(super) address: String,
    pub(super) bundle: String,
    /// The socket that a server listens on already.
    pub(super) socket: String,
    pub(super) info: bool,
    pub(super) version: bool,
    /// `start`, `delete`, or nothing: then it serves.
    pub(super) action: String,
}

impl Arguments {
    pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let mut parsed = Self::default();
        let mut words = args.into_iter().skip(1).map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                parsed.action = word;
                return Ok(parsed);
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let on = |value: &Option<String>| !matches!(value.as_deref(), Some("false" | "0" | "f"));
            match name {
                "debug" => continue,
                "info" => parsed.info = on(&value),
                "v" | "version" => parsed.version = on(&value),
                _ => {
                    let missing = || io::Error::other(format!("flag needs an argument: -{name}"));
                    let value = value.or_else(|| words.next()).ok_or_else(missing)?;
                    match name {
                        "namespace" => parsed.namespace = value,
                        "id" => parsed.id = value,
                        "address" => parsed.address = value,
                        "bundle" => parsed.bundle = value,
                        "socket" => parsed.socket = value,
                        // Events go over TTRPC_ADDRESS.
                        "publish-binary" | "debug-socket" => {}
                        _ => return Err(io::Error::other(format!("no flag -{name} is known"))),
                    }
                }
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> io::Result<Arguments> {
        Arguments::parse(std::iter::once("shim").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn flags_as_containerd_gives_them() {
        let words = ["-namespace", "k8s.io", "-address=/a", "--id", "x", "-debug", "-bundle", "/b", "delete"];
        let parsed = parse(&words).unwrap();
        assert_eq!((parsed.namespace.as_str(), parsed.id.as_str()), ("k8s.io", "x"));
        assert_eq!((parsed.address.as_str(), parsed.bundle.as_str()), ("/a", "/b"));
        assert_eq!((parsed.action.as_str(), parsed.info), ("delete", false));
        assert!(parse(&["-info"]).unwrap().info);
        assert!(parse(&["-nothing", "x"]).unwrap_err().to_string().contains("-nothing"));
        assert!(parse(&["-id"]).unwrap_err().to_string().contains("needs an argument"));
    }
}
