//! Which streams a request asks for.

/// The streams that a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// A combination of streams that no command can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStreams {
    /// Nothing to stream.
    #[error("one of stdin, stdout and stderr must be set")]
    None,
    /// A terminal has one output.
    #[error("tty and stderr cannot both be true: a terminal has one output, ask for stdout alone")]
    TtyWithStderr,
}

impl Requested {
    /// As CRI's ExecRequest and AttachRequest say it; strict, as CRI demands.
    ///
    /// # Errors
    /// A terminal together with stderr, or no stream at all.
    pub fn new(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<Requested, InvalidStreams> {
        if tty && stderr {
            return Err(InvalidStreams::TtyWithStderr);
        }
        if !(stdin || stdout || stderr) {
            return Err(InvalidStreams::None);
        }
        Ok(Requested { stdin, stdout, stderr, tty })
    }

    /// From the query of a kubelet's or an API server's address. A kubelet's keys are `input`, `output`, `error` and
    /// `tty`, with the value 1; an API server's are `stdin`, `stdout`, `stderr` and `tty`, with the value true. Both are
    /// understood. Standard error beside a terminal is quietly left out, as both do.
    ///
    /// # Errors
    /// No stream is asked for.
    pub fn from_query(query: &str) -> Result<Requested, InvalidStreams> {
        let set = |names: [&str; 2]| {
            query.split('&').filter_map(|pair| pair.split_once('=')).any(|(key, value)| {
                names.contains(&key) && matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T")
            })
        };
        let tty = set(["tty", "tty"]);
        let stderr = set(["error", "stderr"]) && !tty;
        Requested::new(set(["input", "stdin"]), set(["output", "stdout"]), stderr, tty)
    }

    /// The same as a query, in an API server's words (`kubelet` false) or a kubelet's.
    #[must_use]
    pub fn to_query(self, kubelet: bool) -> String {
        let keys =
            if kubelet { ["input", "output", "error", "tty"] } else { ["stdin", "stdout", "stderr", "tty"] };
        let value = if kubelet { "1" } else { "true" };
        let set = [self.stdin, self.stdout, self.stderr, self.tty];
        let pairs = keys.iter().zip(set).filter(|(_, set)| *set).map(|(key, _)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Whether input goes to the command.
    #[must_use]
    pub fn stdin(self) -> bool {
        self.stdin
    }

    /// Whether its output is wanted.
    #[must_use]
    pub fn stdout(self) -> bool {
        self.stdout
    }

    /// Whether its standard error is wanted.
    #[must_use]
    pub fn stderr(self) -> bool {
        self.stderr
    }

    /// Whether it gets a terminal.
    #[must_use]
    pub fn tty(self) -> bool {
        self.tty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_kubelet_and_api_server_are_understood() {
        let kubelet = Requested::from_query("command=ls&input=1&output=1&tty=1").expect("streams");
        assert_eq!(kubelet, Requested::new(true, true, false, true).expect("streams"));
        let api = Requested::from_query("container=c&stdout=true&stderr=true&stdin=false").expect("streams");
        assert_eq!(api, Requested::new(false, true, true, false).expect("streams"));
        assert_eq!(Requested::from_query(&api.to_query(true)), Ok(api));
        assert_eq!(Requested::from_query(&kubelet.to_query(false)), Ok(kubelet));
    }

    #[test]
    fn what_no_command_can_have_is_refused() {
        assert_eq!(Requested::new(true, true, true, true), Err(InvalidStreams::TtyWithStderr));
        assert_eq!(Requested::new(false, false, false, true), Err(InvalidStreams::None));
        assert_eq!(Requested::from_query("tty=1&error=1"), Err(InvalidStreams::None));
        let both = Requested::from_query("tty=1&error=1&output=1").expect("stderr left out");
        assert!(!both.stderr());
    }
}
