//! Other people's engines on `sextant-oci`: what runs a container elsewhere by runc, runs it by ours.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Site;
use crate::Result;
use crate::program::quiet;

fn same(what: &str, found: &str, expected: &str) -> Result<()> {
    if found.trim_end() == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, found {found:?}").into())
}

pub(super) fn podman(site: &Site) -> Result<()> {
    let image = site.busybox()?;
    let runtime = site.runtime()?;
    let podman = || {
        let mut podman = Command::new("podman");
        podman.args(["--storage-driver", "vfs", "--root"]).arg(site.path("podman"));
        podman.arg("--runroot").arg(site.path("podman-run"));
        podman.args(["--cgroup-manager", "cgroupfs", "--runtime"]).arg(&runtime);
        podman
    };
    quiet(podman().args(["pull", "--quiet", "--tls-verify=false", &image]))?;
    let run = ["run", "--rm", "--network", "none", &image, "sh", "-c", "echo $((6 * 7))"];
    same("run", &quiet(podman().args(run))?, "42")?;
    quiet(podman().args(["run", "-d", "--name", "stays", "--network", "none", &image, "sleep", "100"]))?;
    let stays = || -> Result<()> {
        same("exec", &quiet(podman().args(["exec", "stays", "echo", "in"]))?, "in")?;
        quiet(podman().args(["pause", "stays"]))?;
        let state = quiet(podman().args(["ps", "--all", "--format", "{{.State}}"]))?;
        same("ps", &state.to_lowercase(), "paused")?;
        quiet(podman().args(["unpause", "stays"])).map(|_| ())
    };
    let (stayed, removed) = (stays(), quiet(podman().args(["rm", "--force", "--time", "0", "stays"])));
    stayed?;
    removed?;
    // It reads what the runtime says of a program that is not there.
    let status = podman()
        .args(["run", "--rm", "--network", "none", &image, "no-such-program"])
        .stderr(Stdio::null())
        .status()?;
    if status.code() == Some(127) { Ok(()) } else { Err(format!("no-such-program: {status}").into()) }
}

pub(super) fn buildah(site: &Site) -> Result<()> {
    let image = site.busybox()?;
    let container = quiet(site.buildah().args(["from", "--tls-verify=false", &image]))?;
    let container = container.trim();
    let mut run = site.buildah();
    run.args(["run", "--isolation", "oci", "--cgroup-manager", "cgroupfs", "--network", "none", "--runtime"]);
    let said = quiet(run.arg(site.runtime()?).args([container, "sh", "-c", "echo built"]))?;
    same("run", &said, "built")?;
    quiet(site.buildah().args(["rm", container])).map(|_| ())
}

/// A program that says a word and stays for a moment: ctr opens the output in the background, and gives up on it when the
/// program ends before that (a word was lost so once, on a busy machine).
fn says(word: &str) -> [&str; 4] {
    ["/bin/sh", "-c", "echo $0; sleep 3", word]
}

pub(super) fn containerd(site: &Site) -> Result<()> {
    site.busybox()?;
    let runtime = site.runtime()?.display().to_string();
    let root = site.path("busybox-root").display().to_string();
    for name in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(site.path("busybox-root").join(name))?;
    }
    let daemon = Containerd::start(site)?;
    let ctr = |args: &[&str]| quiet(Command::new("ctr").arg("--address").arg(&daemon.socket).args(args));
    let by = ["--runtime", "io.containerd.runc.v2", "--runc-binary", &runtime, "--rootfs", &root];
    let said = ctr(&[&["run", "--rm"][..], &by, &["short"], &says("hi")].concat())?;
    same("run", &said, "hi")?;
    ctr(&[&["run", "-d"][..], &by, &["stays", "/bin/sleep", "100"]].concat())?;
    same("exec", &ctr(&[&["task", "exec", "--exec-id", "one", "stays"][..], &says("in")].concat())?, "in")?;
    ctr(&["task", "pause", "stays"])?;
    ctr(&["task", "resume", "stays"])?;
    ctr(&["task", "metrics", "stays"])?;
    ctr(&["task", "rm", "--force", "stays"])?;
    ctr(&["container", "rm", "stays"]).map(|_| ())
}

/// `io.containerd.sextant.v1`: the whole life of containers, and both daemons' deaths.
pub(super) fn containerd_shim(site: &Site) -> Result<()> {
    site.busybox()?;
    let shim = site.path("containerd-shim-sextant-v1");
    if !shim.exists() {
        std::fs::hard_link(site.program(), &shim)
            .or_else(|_| std::fs::copy(site.program(), &shim).map(drop))?;
    }
    let root = site.path("busybox-root").display().to_string();
    for name in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(site.path("busybox-root").join(name))?;
    }
    let daemon = Containerd::start(site)?;
    let socket = daemon.socket.clone();
    let command = |args: &[&str]| {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&socket).args(args);
        command
    };
    let ctr = |args: &[&str]| quiet(&mut command(args));
    let by = ["--runtime", "io.containerd.sextant.v1", "--rootfs", &root];
    let said = ctr(&[&["run", "--rm"][..], &by, &["short"], &says("hi")].concat())?;
    same("run", &said, "hi")?;
    let fails =
        command(&[&["run", "--rm"][..], &by, &["fails", "/bin/sh", "-c", "exit 7"]].concat()).status()?;
    same("exit code", &format!("{:?}", fails.code()), "Some(7)")?;
    ctr(&[&["run", "-d"][..], &by, &["over", "/bin/sleep", "100"]].concat())?;
    same("exec", &ctr(&[&["task", "exec", "--exec-id", "one", "over"][..], &says("in")].concat())?, "in")?;
    ctr(&["task", "pause", "over"])?;
    ctr(&["task", "resume", "over"])?;
    let metrics = ctr(&["task", "metrics", "over"])?;
    if !metrics.contains("pids.current") {
        return Err(format!("metrics: {metrics}").into());
    }
    // Dropping it kills it.
    drop(daemon);
    let daemon = Containerd::start(site)?;
    same(
        "after a restart",
        &ctr(&[&["task", "exec", "--exec-id", "two", "over"][..], &says("in")].concat())?,
        "in",
    )?;
    ctr(&["task", "kill", "-s", "SIGKILL", "over"])?;
    let end = Instant::now() + Duration::from_secs(180);
    while !ctr(&["task", "ls"])?.contains("STOPPED") {
        if Instant::now() > end {
            return Err("over was killed and is not STOPPED".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // It says the code it ended with by its own.
    let _ = command(&["task", "rm", "over"]).output()?;
    ctr(&["container", "rm", "over"])?;
    drop(daemon);
    Ok(())
}

/// A daemon of this site's.
struct Containerd {
    socket: PathBuf,
    child: Child,
}

impl Containerd {
    fn start(site: &Site) -> Result<Self> {
        let dir = site.path("containerd");
        std::fs::create_dir_all(&dir)?;
        let (socket, config) = (dir.join("sock"), dir.join("config.toml"));
        let text = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{1}'\n",
            dir.display(),
            socket.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("containerd");
        // Where it looks for shims.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", site.path("").display()));
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("cannot run containerd: {e}"))?;
        let daemon = Self { socket, child };
        let end = Instant::now() + Duration::from_secs(180);
        while quiet(Command::new("ctr").arg("--address").arg(&daemon.socket).arg("version")).is_err() {
            if Instant::now() > end {
                return Err("containerd does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
