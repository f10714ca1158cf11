//! One side of the comparison: a directory of programs, and what they do with a case.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cases::Case;
use crate::look::Look;
use crate::rig::{Host, Netns, ask_within, on_a_host, serve};

const ID: &str = "c0ffee";
/// How what was refused is shown.
pub(crate) const REFUSED: &str = "refused: ";

pub(crate) struct Side {
    bin: PathBuf,
    /// Made for this side, and gone with it.
    _place: Option<tempfile::TempDir>,
}

/// What a plugin answered.
type Answer = Result<Value, Value>;

impl Side {
    pub(crate) fn reference(bin: PathBuf) -> Self {
        Self { bin, _place: None }
    }

    pub(crate) fn ours() -> Self {
        let place = tempfile::tempdir().unwrap();
        let bin = place.path().join("bin");
        let program = env!("CARGO_BIN_EXE_sextant-cni");
        assert!(Command::new(program).arg("link").arg(&bin).status().unwrap().success());
        Self { bin, _place: Some(place) }
    }

    /// ADD, a look, CHECK, DEL, a look.
    pub(crate) fn run(&self, case: &Case) -> Value {
        let mut seen = Value::Null;
        on_a_host(|host| {
            let outside = host.outside();
            serve(&outside, "0.0.0.0:80", "outside");
            let netns = Netns::new();
            (case.before)(host, &netns);
            let mut look = Look::before(&netns, host.dir.path());
            let confs = case.confs(host.dir.path());
            let answer = self.add(&confs, &netns, case);
            let result = answer.as_ref().ok().cloned();
            let attached = look.at(&netns);
            let traffic = if result.is_some() { traffic(case, &netns, &outside) } else { Value::Null };
            let check = result.as_ref().map(|result| self.check(&confs, &netns, case, result));
            let deleted = self.del(&confs, &netns, case, result.as_ref());
            let gone = look.at(&netns);
            let whole = json!({
                "answer": answer.unwrap_or_else(refusal),
                "attached": attached, "traffic": traffic,
                "check": check.map(|check| check.map_or_else(refusal, |_| json!("ok"))),
                "deleted": deleted.map_or_else(refusal, |()| json!("ok")),
                "gone": gone,
            });
            seen = look.without_accidents(whole, &netns, case);
        });
        seen
    }

    fn add(&self, confs: &[Value], netns: &Netns, case: &Case) -> Answer {
        let mut previous = None;
        for conf in confs {
            previous = Some(self.call("ADD", conf, netns, case, previous.as_ref())?);
        }
        Ok(previous.unwrap_or_default())
    }

    fn check(&self, confs: &[Value], netns: &Netns, case: &Case, result: &Value) -> Answer {
        confs.iter().try_for_each(|conf| self.call("CHECK", conf, netns, case, Some(result)).map(drop))?;
        Ok(Value::Null)
    }

    fn del(&self, confs: &[Value], netns: &Netns, case: &Case, result: Option<&Value>) -> Result<(), Value> {
        confs.iter().rev().try_for_each(|conf| self.call("DEL", conf, netns, case, result).map(drop))
    }

    fn call(&self, verb: &str, conf: &Value, netns: &Netns, case: &Case, previous: Option<&Value>) -> Answer {
        let mut conf = conf.clone();
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = json!("matrix");
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        let kind = conf["type"].as_str().unwrap();
        let mut child = Command::new(self.bin.join(kind))
            .env_clear()
            // The reference calls iptables.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", ID)
            .env("CNI_NETNS", netns.path())
            .env("CNI_IFNAME", if kind == "loopback" { "lo" } else { "eth0" })
            .env("CNI_ARGS", case.args)
            .env("CNI_PATH", &self.bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

/// The reference has one code for almost everything, and its words are its own: that it refuses is what counts.
fn refusal(error: Value) -> Value {
    json!(format!("{REFUSED}{}", error["msg"].as_str().unwrap_or_default()))
}

/// Many are out of reach, as they should be.
fn ask(at: &str) -> Result<String, std::io::ErrorKind> {
    ask_within(at, Duration::from_secs(2))
}

/// Who reaches whom, and by what address.
fn traffic(case: &Case, netns: &Netns, outside: &Netns) -> Value {
    let mut seen = json!({});
    if case.egress {
        seen["to the outside"] = json!(netns.run(|| ask("192.0.2.2:80")).unwrap_or_else(|e| e.to_string()));
    }
    if let Some(port) = case.published {
        serve(netns, "0.0.0.0:80", "container");
        let at = |address: &str| ask(&format!("{address}:{port}")).unwrap_or_else(|e| e.to_string());
        seen["from outside"] = json!(outside.run(|| at("192.0.2.1")));
        seen["from the host"] = json!(at("192.0.2.1"));
        seen["from the host's loopback"] = json!(at("127.0.0.1"));
        seen["from the container itself"] = json!(netns.run(|| at("192.0.2.1")));
    }
    seen
}

/// Lets a configuration name the side's directory.
pub(crate) fn in_dir(conf: &Value, dir: &Path) -> Value {
    serde_json::from_str(&conf.to_string().replace("DIR", &dir.display().to_string())).unwrap()
}

/// Runs `ip` (or another program) on the case's host.
pub(crate) fn run(words: &str) {
    let mut words = words.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Nothing has to be there before.
pub(crate) fn nothing(_: &Host, _: &Netns) {}
