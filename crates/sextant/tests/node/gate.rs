//! A network plugin that waits: whoever makes a pod does not get on until the test says so.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::{Bench, LIMIT};

const PLUGIN: &str = "gate";

/// The network of new pods until it is dropped.
pub(crate) struct Gate<'a> {
    bench: &'a Bench,
    network: PathBuf,
    calls: PathBuf,
    open: PathBuf,
}

impl<'a> Gate<'a> {
    /// Closed.
    pub(crate) fn new(b: &'a Bench) -> Self {
        let plugin = b.path("plugins").join(PLUGIN);
        if !plugin.exists() {
            let program = fs::canonicalize("/proc/self/exe").unwrap();
            std::os::unix::fs::symlink(program, plugin).unwrap();
        }
        let gate = Self {
            bench: b,
            network: b.path("networks/1.conflist"),
            calls: b.path("gate-calls"),
            open: b.path("gate-open"),
        };
        let plugin = json!({"type": PLUGIN, "calls": gate.calls, "open": gate.open});
        let network = json!({"cniVersion": "1.0.0", "name": PLUGIN, "plugins": [plugin]});
        fs::write(&gate.network, network.to_string()).unwrap();
        b.until("the network is the gate's", || b.network().contains(PLUGIN));
        gate
    }

    pub(crate) fn open(&self) {
        fs::write(&self.open, "").unwrap();
    }

    /// What was asked for so far: `ADD`, `DEL`.
    pub(crate) fn calls(&self) -> Vec<String> {
        fs::read_to_string(&self.calls).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        for file in [&self.network, &self.calls, &self.open] {
            let _ = fs::remove_file(file);
        }
        if !std::thread::panicking() {
            self.bench.until("the network is the node's own", || !self.bench.network().contains(PLUGIN));
        }
    }
}

/// The plugin.
pub(crate) fn plugin() -> ExitCode {
    let command = std::env::var("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        println!("{}", json!({"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}));
        return ExitCode::SUCCESS;
    }
    let config: Value = serde_json::from_reader(std::io::stdin()).unwrap();
    let path = |key: &str| Path::new(config[key].as_str().unwrap()).to_owned();
    let mut calls = fs::File::options().append(true).create(true).open(path("calls")).unwrap();
    writeln!(calls, "{command}").unwrap();
    if command == "ADD" {
        let end = Instant::now() + LIMIT;
        while !path("open").exists() {
            if Instant::now() > end {
                return ExitCode::FAILURE;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        println!(
            "{}",
            json!({"cniVersion": "1.0.0", "interfaces": [], "ips": [{"address": "192.0.2.7/24"}]})
        );
    }
    ExitCode::SUCCESS
}
