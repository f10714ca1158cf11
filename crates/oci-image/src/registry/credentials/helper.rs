//! Docker's credential helpers: `docker-credential-NAME get|store|erase`, JSON on standard input and output.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::{Credential, CredentialError, TOKEN_USER};

/// A helper may ask a person, but not for ever.
const PATIENCE: Duration = Duration::from_secs(60);
const OUTPUT_MAX: u64 = 1 << 20;
/// What helpers print, by contract, when they know nothing.
const NOT_FOUND: &str = "credentials not found";

/// Where helpers are looked for: the process's own `PATH`, unless given.
#[derive(Debug, Clone, Default)]
pub(super) struct Helpers {
    pub(super) path: Option<OsString>,
}

impl Helpers {
    /// `None` when the helper knows nothing for `server`.
    pub(super) fn get(&self, name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
        let helper = self.helper(name, "get");
        let (ok, output) = helper.run(server.as_bytes())?;
        if !ok {
            return match output.contains(NOT_FOUND) {
                true => Ok(None),
                false => Err(helper.failed(first_line(&output))),
            };
        }
        let answer: Value =
            serde_json::from_str(&output).map_err(|_| helper.failed("its answer is no JSON"))?;
        let field = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (username, secret) = (field("Username"), field("Secret"));
        Ok(match username.as_str() {
            _ if secret.is_empty() => None,
            TOKEN_USER => Some(Credential::Identity(secret)),
            _ => Some(Credential::Basic { username, password: secret }),
        })
    }

    pub(super) fn store(
        &self,
        name: &str,
        server: &str,
        username: &str,
        password: &str,
    ) -> Result<(), CredentialError> {
        let input = serde_json::json!({ "ServerURL": server, "Username": username, "Secret": password });
        self.helper(name, "store").must(input.to_string().as_bytes())
    }

    pub(super) fn erase(&self, name: &str, server: &str) -> Result<(), CredentialError> {
        self.helper(name, "erase").must(server.as_bytes())
    }

    fn helper<'a>(&'a self, name: &'a str, act: &'static str) -> Helper<'a> {
        Helper { name, act, path: self.path.as_deref() }
    }
}

fn first_line(output: &str) -> &str {
    output.lines().next().unwrap_or("it failed without a word")
}

struct Helper<'a> {
    name: &'a str,
    act: &'static str,
    path: Option<&'a OsStr>,
}

impl Helper<'_> {
    fn failed(&self, cause: impl Into<String>) -> CredentialError {
        CredentialError::Helper { act: self.act, name: self.name.to_owned(), cause: cause.into() }
    }

    fn must(&self, input: &[u8]) -> Result<(), CredentialError> {
        match self.run(input)? {
            (true, _) => Ok(()),
            (false, output) if output.contains(NOT_FOUND) => Ok(()),
            (false, output) => Err(self.failed(first_line(&output))),
        }
    }

    /// Whether it ended well, and its standard output.
    fn run(&self, input: &[u8]) -> Result<(bool, String), CredentialError> {
        if self.name.contains('/') {
            return Err(self.failed("a helper is named by its name alone, without a path"));
        }
        let mut command = Command::new(format!("docker-credential-{}", self.name));
        if let Some(path) = self.path {
            command.env("PATH", path);
        }
        let mut child = command
            .arg(self.act)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.failed(format!("{error}; is it installed and on PATH?")))?;
        let (sender, receiver) = mpsc::channel();
        if let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) {
            let input = input.to_owned();
            std::thread::spawn(move || {
                // A helper that ends without reading says why in its exit status.
                _ = stdin.write_all(&input);
                drop(stdin);
                let mut output = Vec::new();
                let read = stdout.take(OUTPUT_MAX).read_to_end(&mut output).map(|_| output);
                _ = sender.send(read);
            });
        }
        let output = match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(self.stop(child, error.to_string())),
            Err(_) => return Err(self.stop(child, format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        let status = child.wait().map_err(|error| self.failed(error.to_string()))?;
        Ok((status.success(), String::from_utf8_lossy(&output).trim().to_owned()))
    }

    fn stop(&self, mut child: Child, cause: String) -> CredentialError {
        // Already ended is as good.
        _ = child.kill();
        _ = child.wait();
        self.failed(cause)
    }
}
