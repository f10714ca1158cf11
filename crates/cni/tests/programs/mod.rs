//! Plugins as programs, called as a runtime calls them.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A plugin's program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// What it is called, which says which plugin it is.
    pub(crate) name: &'static str,
    pub(crate) ifname: &'static str,
    pub(crate) args: &'static str,
    /// `CNI_PATH`.
    pub(crate) others: PathBuf,
}

/// Sextant's own.
pub(crate) fn ours(name: &'static str) -> Program {
    Program {
        path: env!("CARGO_BIN_EXE_sextant-cni").into(),
        name,
        ifname: "eth0",
        args: "",
        others: "/none".into(),
    }
}

/// The reference's.
pub(crate) fn reference(name: &'static str) -> Program {
    let dir = std::env::var("SEXTANT_CNI_REFERENCE").unwrap_or("/usr/lib/cni".into());
    let path = PathBuf::from(dir).join(name);
    assert!(path.is_file(), "{} is not there: install containernetworking-plugins", path.display());
    Program { path, name, ifname: "eth0", args: "", others: "/none".into() }
}

impl Program {
    fn spawn(&self, verb: &str, id: &str, netns: &str, conf: &Value) -> Child {
        let mut command = Command::new(&self.path);
        command.arg0(self.name).env_clear().env("CNI_COMMAND", verb).env("CNI_PATH", &self.others);
        for (key, value) in [("CNI_CONTAINERID", id), ("CNI_NETNS", netns), ("CNI_ARGS", self.args)] {
            if !value.is_empty() {
                command.env(key, value);
            }
        }
        if !id.is_empty() {
            command.env("CNI_IFNAME", self.ifname);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        // Who is killed reads nothing.
        let _ = child.stdin.take().unwrap().write_all(conf.to_string().as_bytes());
        child
    }

    /// The result, or the error object.
    pub(crate) fn call(&self, verb: &str, id: &str, netns: &str, conf: &Value) -> Result<Value, Value> {
        let output = self.spawn(verb, id, netns, conf).wait_with_output().unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// Begins, and kills it after a while.
    pub(crate) fn kill_during(&self, verb: &str, id: &str, conf: &Value, after: Duration) {
        let mut child = self.spawn(verb, id, "/none", conf);
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
