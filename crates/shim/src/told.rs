//! What programs of others tell: bytes from outside, read with suspicion.

use serde::Deserialize;

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
    fn a_pid_is_a_number_of_a_process() {
        assert_eq!((pid(b"42"), pid(b"42\n")), (Some(42), Some(42)));
        for none in [&b""[..], b"0", b"-1", b"x", b"99999999999", b"4 2", b"\xff"] {
            assert_eq!(pid(none), None, "{none:?}");
        }
    }
}
