//! One chain of plugins as programs, driven as a runtime does.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Meter;
use crate::Result;
use crate::program::{quiet, shown};

/// What an ADD or a DEL of the chain cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) cpu: Duration,
    pub(super) wall: Duration,
}

/// A side's plugins, its network, and its names.
pub(super) struct Chain {
    name: String,
    plugins: PathBuf,
    network: String,
    confs: [Value; 3],
}

impl Chain {
    /// `index` keeps bridge, subnet and ports apart from the other sides'.
    pub(super) fn new(name: String, plugins: PathBuf, dir: &Path, index: usize) -> Self {
        let network = format!("bench{index}");
        let bridge = json!({
            "type": "bridge", "bridge": network, "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": dir.join("networks"),
                "ranges": [[{ "subnet": format!("10.{}.0.0/16", 90 + index) }]], "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        let ports = json!([{ "hostPort": 20_000 + index, "containerPort": 80, "protocol": "tcp" }]);
        let portmap = json!({ "type": "portmap", "runtimeConfig": { "portMappings": ports } });
        Self { name, plugins, network, confs: [bridge, portmap, json!({ "type": "firewall" })] }
    }

    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    /// ADD and DEL of one container with a namespace of its own, which is made and removed outside of what is measured.
    pub(super) fn round(&self, meter: &Meter, round: usize) -> Result<(Cost, Cost)> {
        let id = format!("{}-{round}", self.network);
        quiet(Command::new("ip").args(["netns", "add", &id]))?;
        let measured =
            self.add(meter, &id).and_then(|(add, result)| Ok((add, self.del(meter, &id, &result)?)));
        quiet(Command::new("ip").args(["netns", "del", &id]))?;
        measured
    }

    fn add(&self, meter: &Meter, id: &str) -> Result<(Cost, Value)> {
        let (cpu, began) = (meter.cpu()?, Instant::now());
        let mut previous = None;
        for conf in &self.confs {
            previous = Some(serde_json::from_str(&self.call(meter, "ADD", id, conf, previous.as_ref())?)?);
        }
        let cost = Cost { cpu: meter.cpu()? - cpu, wall: began.elapsed() };
        Ok((cost, previous.unwrap_or_default()))
    }

    fn del(&self, meter: &Meter, id: &str, result: &Value) -> Result<Cost> {
        let (cpu, began) = (meter.cpu()?, Instant::now());
        for conf in self.confs.iter().rev() {
            self.call(meter, "DEL", id, conf, Some(result))?;
        }
        Ok(Cost { cpu: meter.cpu()? - cpu, wall: began.elapsed() })
    }

    fn call(
        &self,
        meter: &Meter,
        verb: &str,
        id: &str,
        conf: &Value,
        previous: Option<&Value>,
    ) -> Result<String> {
        let kind = conf.get("type").and_then(Value::as_str).unwrap_or_default();
        let mut conf = conf.clone();
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = json!(self.network);
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        let mut command = Command::new(self.plugins.join(kind));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", Path::new("/run/netns").join(id))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.plugins)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = meter.spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(conf.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{verb} of {} failed: {text} {words}", shown(&command)).into());
        }
        Ok(text)
    }
}
