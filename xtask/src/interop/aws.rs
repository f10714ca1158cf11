//! The AWS provider, alone and in `sextant control`, against moto's server, which is EC2 and Elastic Load Balancing in memory.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Site, ignored, python_library};
use crate::Result;
use crate::program::target;

/// One version, so that a run says the same tomorrow.
const MOTO: &str = "moto[server]==5.2.5";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(180);

/// It ends with this.
struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(libraries: &Path) -> Result<(Moto, String)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut python = Command::new("python3");
    python.args(["-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", &port.to_string()]);
    let words = target().join("interop").join("moto.words");
    let file = File::create(&words).map_err(|e| format!("cannot make {}: {e}", words.display()))?;
    python.env("PYTHONPATH", libraries).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut moto = Moto(python.spawn().map_err(|e| format!("cannot run moto: {e}"))?);
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(&address).is_err() {
        if let Some(status) = moto.0.try_wait()? {
            return Err(format!("moto ended: {status}\n{}", tail(&words)).into());
        }
        if Instant::now() > end {
            return Err(format!("moto does not listen on {address}\n{}", tail(&words)).into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((moto, address))
}

/// The last of what a program has said.
fn tail(words: &Path) -> String {
    let all = std::fs::read(words).unwrap_or_default();
    let all = String::from_utf8_lossy(&all);
    let lines: Vec<&str> = all.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// A cluster's life: nodes, load balancers and routes, with calls that fail on the way; and `sextant control`, killed while services
/// come and go.
pub(super) fn moto(_: &Site) -> Result<()> {
    let libraries = python_library(MOTO)?;
    let (_moto, address) = start(&libraries)?;
    ignored("moto", &["--test-threads", "1"], &[("SEXTANT_TEST_MOTO", address.as_ref())])?;
    // Each test of these starts moto in a network of its own.
    ignored("cloud", &["aws::"], &[("SEXTANT_TEST_MOTO_LIBRARY", libraries.as_ref())])
}
