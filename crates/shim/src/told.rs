//! What programs of others tell: bytes from outside, read with suspicion.

use std::path::PathBuf;

use serde::Deserialize;

use crate::protocol::task::TASK_SERVICES;

/// The longest message that is taken over from a program, bytes.
const LONGEST: usize = 4096;

/// One line of what an OCI runtime writes with `--log-format json`.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// Why an OCI runtime has failed, from what it wrote: its last error, or, where it has not come to write one, its last
/// line. Control characters do not come through.
pub fn failure(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let said = |line: &str| {
        let line: Line = serde_json::from_str(line).ok()?;
        (matches!(line.level.as_str(), "error" | "fatal" | "panic") && !line.msg.trim().is_empty())
            .then_some(line.msg)
    };
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    let last = || lines().find(|line| serde_json::from_str::<Line>(line).is_err()).map(str::to_owned);
    Some(plain(&lines().find_map(said).or_else(last)?))
}

/// A message in one line of bounded length.
fn plain(message: &str) -> String {
    let mut plain: String =
        message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    plain.truncate(plain.floor_char_boundary(LONGEST));
    plain
}

/// What a shim's `start` tells: where it listens, and what it speaks there.
#[derive(Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The socket.
    pub socket: PathBuf,
    /// The version of containerd's Task API: 2 or 3.
    pub version: u32,
}

impl Bootstrap {
    /// The service's name.
    pub fn service(&self) -> &'static str {
        TASK_SERVICES[usize::from(self.version >= 3)]
    }
}

/// The JSON of shims that speak of versions; older ones tell the address alone.
#[derive(Deserialize)]
struct Told {
    version: u32,
    address: String,
    #[serde(default)]
    protocol: String,
}

/// Reads what `start` has printed.
///
/// # Errors
/// It is not what containerd could read, or not what can be spoken here: why.
pub fn bootstrap(said: &[u8]) -> Result<Bootstrap, String> {
    let text = std::str::from_utf8(said).map_err(|_| "its answer is no text".to_owned())?.trim();
    let told = match text.starts_with('{') {
        true => serde_json::from_str(text)
            .map_err(|e| format!("cannot read its answer: {}", plain(&e.to_string())))?,
        false => Told { version: 2, address: text.to_owned(), protocol: String::new() },
    };
    if !(2..=3).contains(&told.version) {
        return Err(format!("it speaks version {} of the Task API (2 and 3 can be spoken)", told.version));
    }
    if !matches!(told.protocol.as_str(), "" | "ttrpc") {
        return Err(format!("it speaks {:?} (ttrpc can be spoken)", plain(&told.protocol)));
    }
    let path = told.address.strip_prefix("unix://").unwrap_or(&told.address);
    if !path.starts_with('/') || path.contains(|c: char| c.is_control()) {
        return Err(format!("its address {:?} is no path of a socket", plain(&told.address)));
    }
    Ok(Bootstrap { socket: path.into(), version: told.version })
}

/// The number in a file that was asked for by `--pid-file`.
pub fn pid(file: &[u8]) -> Option<i32> {
    std::str::from_utf8(file).ok()?.trim().parse().ok().filter(|&pid| pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_the_failure() {
        let log = concat!(
            r#"{"level":"warning","msg":"something","time":"2026-01-01T00:00:00Z"}"#,
            "\n",
            r#"{"level":"error","msg":"exec: \"x\": not\nfound","time":"2026-01-01T00:00:00Z"}"#,
            "\n",
        );
        assert_eq!(failure(log.as_bytes()).unwrap(), "exec: \"x\": not found");
        assert_eq!(
            failure(b"flag provided but not defined: -x\n\n").unwrap(),
            "flag provided but not defined: -x"
        );
        assert_eq!(failure(br#"{"level":"info","msg":"all is well"}"#), None);
        assert_eq!(failure(b""), None);
        assert_eq!(failure(&[b'x'; 9000]).unwrap().len(), LONGEST);
    }

    #[test]
    fn a_shim_tells_where_it_listens() {
        let of = |text: &str| bootstrap(text.as_bytes()).map(|b| (b.socket.display().to_string(), b.version));
        assert_eq!(of("unix:///run/s/1\n"), Ok(("/run/s/1".into(), 2)));
        let json = r#"{"version":3,"address":"unix:///run/s/2","protocol":"ttrpc","more":1}"#;
        assert_eq!(of(json), Ok(("/run/s/2".into(), 3)));
        assert_eq!(bootstrap(json.as_bytes()).unwrap().service(), "containerd.task.v3.Task");
        for (text, named) in [
            (r#"{"version":4,"address":"unix:///s"}"#, "version 4"),
            (r#"{"version":3,"address":"unix:///s","protocol":"grpc"}"#, "grpc"),
            (r#"{"version":2,"address":"vsock://3:1024"}"#, "vsock"),
            ("", "no path"),
            ("{", "cannot read"),
        ] {
            assert!(of(text).unwrap_err().contains(named), "{text}");
        }
    }

    #[test]
    fn a_pid_is_a_number_of_a_process() {
        assert_eq!((pid(b"42"), pid(b"42\n")), (Some(42), Some(42)));
        for none in [&b""[..], b"0", b"-1", b"x", b"99999999999", b"4 2", b"\xff"] {
            assert_eq!(pid(none), None, "{none:?}");
        }
    }
}
