//! The driver as a program of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use csi::caller::Client;
use csi::contract::v1::GetPluginInfoRequest;
use csi::plugin::process::{Serving, Whole};
use csi::plugin::{Config, NAME, PoolConfig, Setup};
use rustix::process::{Pid, Signal, kill_process};

/// Killed when it is dropped.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(told: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sextant-csi"));
    command.arg(told).stdin(Stdio::null());
    command
}

/// What it is told, with one pool.
fn told(dir: &Path) -> Whole {
    let setup = Setup {
        config: Config { pools: vec![PoolConfig::new("a", dir.join("pool"))] },
        node: "n".into(),
        run: dir.join("run"),
        socket: dir.join("csi.sock"),
    };
    Whole { serving: Serving { setup, offer: None }, health: None }
}

#[tokio::test]
async fn the_small_program_serves_what_it_is_told_and_ends_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("csi.sock");
    let whole = told(dir.path());
    let mut driver = Ends(program(&serde_json::to_string(&whole).unwrap()).spawn().unwrap());
    let mut client = None;
    for _ in 0..18_000 {
        client = Client::connect(&socket).await.ok();
        if client.is_some() || driver.0.try_wait().unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = client.expect("it serves").get_plugin_info(GetPluginInfoRequest {}).await.unwrap();
    assert_eq!(told.name, NAME);
    kill_process(Pid::from_child(&driver.0), Signal::TERM).unwrap();
    // The connection, which the driver would wait for, is closed by a task of this thread.
    let ended = loop {
        match driver.0.try_wait().unwrap() {
            Some(ended) => break ended,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert!(ended.success());
    assert!(!socket.exists());
}

#[test]
fn the_small_program_says_how_it_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut later = serde_json::to_value(told(dir.path())).unwrap();
    later["serving"]["later"] = "what another version knows".into();
    // It ends either way.
    later["serving"]["setup"]["config"]["pool"] = serde_json::json!([]);
    for told in ["", "--help", "{\"serving\": 1}", &later.to_string()] {
        let ended = program(told).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.code() == Some(1) && said.contains("start it with `sextant csi-driver`"),
            "{said}"
        );
    }
}
