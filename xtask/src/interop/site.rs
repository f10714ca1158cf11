//! A place for one run: directories of its own, a registry on loopback, an image in it, our program.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::program::{Product, quiet};

/// What busybox is called in its image.
const BUSYBOX: [&str; 13] =
    ["cat", "echo", "false", "httpd", "ls", "mkdir", "ps", "sh", "sleep", "tar", "true", "tty", "wget"];

/// Where things happen; removed with all in it at the end.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    product: Product,
    program: PathBuf,
    registry: Registry,
}

impl Site {
    /// With the product as it is installed.
    pub(crate) fn new() -> Result<Self> {
        Self::of(Product::released()?)
    }

    /// Starts the registry, which has nothing.
    pub(crate) fn of(product: Product) -> Result<Self> {
        // Short: sockets lie below it, and their paths may have 107 bytes.
        let dir = tempfile::Builder::new().prefix("sextant-").tempdir_in("/tmp")?;
        let registry = Registry::start(dir.path())?;
        Ok(Self { dir, program: product.sextant(), product, registry })
    }

    /// All of it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `sextant`.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The program of all CNI plugins.
    pub(crate) fn plugins(&self) -> Result<PathBuf> {
        self.product.plugins()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// Our program, in directories of this site.
    pub(crate) fn sextant<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(self.program());
        command.arg("--data-dir").arg(self.data_dir()).arg("--run-dir").arg(self.run_dir()).args(args);
        command
    }

    /// Our program under the name of the OCI runtime.
    pub(crate) fn runtime(&self) -> Result<PathBuf> {
        let runtime = self.path("sextant-oci");
        if !runtime.exists() {
            std::os::unix::fs::symlink(self.program(), &runtime)?;
        }
        Ok(runtime)
    }

    /// `127.0.0.1:PORT/NAME`.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address)
    }

    /// The image with nothing but busybox, in the registry; built at the first call.
    pub(crate) fn busybox(&self) -> Result<String> {
        let reference = self.reference("busybox");
        let layout = self.path("layout");
        if !layout.exists() {
            let root = self.path("busybox-root");
            std::fs::create_dir_all(root.join("bin"))?;
            std::fs::copy("/bin/busybox", root.join("bin/busybox"))?;
            for name in BUSYBOX {
                std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
            }
            self.build(&root, &["sh"], "busybox")?;
        }
        Ok(reference)
    }

    /// An image of what is in `root`, built by buildah, pushed by skopeo; its reference.
    pub(crate) fn build(&self, root: &Path, command: &[&str], name: &str) -> Result<String> {
        let container = quiet(self.buildah().args(["from", "scratch"]))?;
        let container = container.trim();
        quiet(self.buildah().args(["copy", "--quiet", container]).arg(root).arg("/"))?;
        let command = serde_json::to_string(command)?;
        quiet(self.buildah().args([
            "config",
            "--env",
            "PATH=/bin:/usr/bin:/sbin:/usr/sbin",
            "--cmd",
            &command,
            container,
        ]))?;
        let layout = format!("oci:{}:{name}", self.path("layout").display());
        quiet(self.buildah().args(["commit", "--quiet", "--rm", container, &layout]))?;
        let reference = self.reference(name);
        let to = format!("docker://{reference}");
        quiet(Command::new("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false", &layout, &to]))?;
        Ok(reference)
    }

    /// buildah, with images of this site.
    pub(crate) fn buildah(&self) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(self.path("buildah"));
        buildah.arg("--runroot").arg(self.path("buildah-run"));
        buildah
    }
}

/// Debian's docker-registry.
struct Registry {
    address: SocketAddr,
    child: Child,
}

impl Registry {
    fn start(dir: &Path) -> Result<Self> {
        // Free a moment ago; the registry takes no port 0.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let storage = dir.join("registry");
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp: {{addr: '{address}'}}\n",
            storage.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        kernel::command::dies_with_thread(&mut command);
        let child = command.spawn().map_err(|e| format!("cannot run docker-registry: {e}"))?;
        let registry = Self { address, child };
        let end = Instant::now() + Duration::from_secs(180);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > end {
                return Err("docker-registry does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
