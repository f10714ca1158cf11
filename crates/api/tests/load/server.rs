//! The process that serves.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::serve::{Instance, Options};

use crate::client::Client;

const PLACE: &str = "SEXTANT_API_TEST_PLACE";

/// Serves until it is killed, and says where.
#[test]
#[ignore = "the process that the others kill"]
fn child() {
    let folder = PathBuf::from(std::env::var_os(PLACE).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = Options {
            folder,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            listen_ahead: Vec::new(),
            names: Vec::new(),
            kubeconfig: None,
            audit: None,
            node: None,
        };
        let instance = Instance::start(options).await.unwrap();
        println!("serves {}", instance.addresses()[0]);
        std::future::pending::<()>().await;
    });
}

/// A server's process; killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    /// What it writes to stderr: nobody reads that while it runs, and a pipe would be full at some time.
    complaints: File,
}

impl Server {
    /// Starts one in a folder; it may not serve yet.
    pub(crate) fn spawn(folder: &Path) -> Server {
        let complaints = tempfile::tempfile().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "server::child", "--nocapture"])
            .env(PLACE, folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(complaints.try_clone().unwrap())
            .spawn()
            .unwrap();
        Server { child, complaints }
    }

    /// Waits until it serves.
    pub(crate) fn client(&mut self, folder: &Path) -> Client {
        let mut lines = BufReader::new(self.child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
        // The test program begins the line with the name of the test.
        let address = lines.find_map(|line| Some(line.split_once("serves ")?.1.to_owned()));
        let Some(address) = address else { panic!("it ended: {}", self.last_words()) };
        Client::new(address.parse().unwrap(), &folder.join("kubeconfig"))
    }

    /// Kills it, which must not have ended by itself.
    pub(crate) fn kill(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself: {}", self.last_words());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// MiB that it has resident.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    fn last_words(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut text = String::new();
        self.complaints.rewind().unwrap();
        self.complaints.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long an answer may take at most: none is expected to, also on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
