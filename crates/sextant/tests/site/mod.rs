//! An instance of its own in temporary directories, a registry beside it, and the real program.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test's own tools; each test file uses some of them"
)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::registry::server::{Config, Handle, Server};
use oci_image::store::Store;

/// The user and password of a registry that asks.
pub const USER: (&str, &str) = ("me", "s3cret");

pub struct Site {
    pub registry: Handle,
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Site {
    pub fn new() -> Self {
        Self::start(None)
    }

    /// With a registry that asks who is there.
    pub fn with_user() -> Self {
        Self::start(Some((USER.0.to_owned(), USER.1.to_owned())))
    }

    fn start(user: Option<(String, String)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let registry = Server::start(Config { dir: dir.path().join("registry"), listen, user }).unwrap();
        Self { registry, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A name in the registry.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.addr())
    }

    pub fn store(&self) -> Store {
        Store::open(self.path("data/images")).unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
        command.arg("--data-dir").arg(self.path("data")).arg("--run-dir").arg(self.path("run")).args(args);
        command.env_clear().env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("xdg"));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().unwrap())
    }

    /// Runs what must succeed; its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.err);
        ended.out
    }

    /// Runs what must fail; what it says.
    pub fn fails(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 1, "{args:?}: {} {}", ended.out, ended.err);
        assert!(ended.err.contains("sextant: cannot "), "{args:?}: {}", ended.err);
        ended.err
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Makes an image of one file and records it; its id.
    pub fn image(&self, name: &str, content: &[u8]) -> String {
        let part = |path: &str, content, mode| Part { path: path.into(), content, mode };
        let parts = [
            part("etc/greeting", Content::Bytes(content.to_vec()), 0o640),
            part("link", Content::Symlink("etc/greeting".into()), 0o777),
            part("empty", Content::Directory, 0o700),
        ];
        build(&self.store(), name, &parts, ContainerConfig::default(), Compression::Gzip)
            .unwrap()
            .id
            .to_string()
    }

    /// Makes an image of this program, which does what a container is to do by the name it is called.
    pub fn program(&self, name: &str) -> String {
        let part = |path: &str, content, mode| Part { path: path.into(), content, mode };
        let program = Content::File(env!("CARGO_BIN_EXE_sextant").into());
        let parts = [
            part("bin/sextant", program, 0o755),
            part("bin/sextant-demo-app", Content::Symlink("sextant".into()), 0o777),
            part("etc/greeting", Content::Bytes(b"hello".to_vec()), 0o640),
            part("etc/link", Content::Symlink("/etc/greeting".into()), 0o777),
            part("way", Content::Symlink("/etc".into()), 0o777),
            part("tmp", Content::Directory, 0o1777),
        ];
        build(&self.store(), name, &parts, ContainerConfig::default(), Compression::None)
            .unwrap()
            .id
            .to_string()
    }

    /// Runs a container of [`Self::program`] that ends at once.
    pub fn ended_container(&self, name: &str, image: &str, options: &[&str]) {
        let mut args = vec!["run", "--quiet", "--network", "none", "--name", name];
        args.extend_from_slice(options);
        args.extend([image, "/bin/sextant", "completions", "bash"]);
        self.ok(&args);
    }

    /// Runs one that goes on until it is removed.
    pub fn running_container(&self, name: &str, image: &str, options: &[&str]) {
        let mut args = vec!["run", "-d", "--quiet", "--network", "none", "--name", name];
        args.extend_from_slice(options);
        args.extend([image, "/bin/sextant-demo-app", "serve"]);
        self.ok(&args);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let containers = self.run(&["ps", "-aq"]).out;
        for id in containers.lines() {
            self.run(&["rm", "-f", id]);
        }
    }
}

pub fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
