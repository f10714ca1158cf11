//! Addresses of buses ("Server Addresses"): `unix:path=/run/user/1000/bus;unix:abstract=...`.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where a bus listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// A file.
    Path(PathBuf),
    /// A name in the network namespace.
    Abstract(Vec<u8>),
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

/// The unix sockets of an address, in their order. Those of other kinds (TCP, a program to run) are left out.
pub fn parse_address(text: &str) -> Vec<Socket> {
    text.split(';').filter_map(parse_one).collect()
}

fn parse_one(text: &str) -> Option<Socket> {
    let keys = text.trim().strip_prefix("unix:")?;
    keys.split(',').find_map(|pair| match pair.split_once('=')? {
        ("path", value) => Some(Socket::Path(PathBuf::from(OsString::from_vec(unescape(value)?)))),
        ("abstract", value) => Some(Socket::Abstract(unescape(value)?)),
        _ => None,
    })
}

/// `%2f` is a slash.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push((digit()? << 4 | digit()?) as u8);
    }
    (!bytes.is_empty() && !bytes.contains(&0)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_sockets() {
        let path = |text: &str| Socket::Path(text.into());
        assert_eq!(parse_address("unix:path=/run/user/1/bus"), [path("/run/user/1/bus")]);
        assert_eq!(
            parse_address("tcp:host=a,port=1;unix:guid=ab,path=/a%20b%2fc;unix:abstract=/tmp/x"),
            [path("/a b/c"), Socket::Abstract(b"/tmp/x".to_vec())]
        );
        for none in
            ["", "unix:", "unix:path=", "unix:path=%", "unix:path=%4", "unix:path=%zz", "unix:path=%00"]
        {
            assert_eq!(parse_address(none), [], "{none}");
        }
    }
}
