//! An instance of its own, its images, and what is compared before and after each test.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::store::Store;
use serde_json::Value;
use testkit::{Machine, instance_name};

use crate::Test;
use crate::running::Running;

/// Longer than anything takes that will happen at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

pub(crate) struct Bench {
    dir: tempfile::TempDir,
    machine: Machine,
    before: BTreeSet<String>,
    scratches: Cell<u32>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Bench {
    /// Not in /tmp, which may be in memory: overlay mounts want a real filesystem.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sextant-containers-").tempdir_in("/var/tmp").unwrap();
        let machine = watched(dir.path());
        make_images(&dir.path().join("data/images"));
        let bench = Self { dir, machine, before: BTreeSet::new(), scratches: Cell::new(0) };
        // Once with a network and once kept, so that what stays of the first container (directories, the ledger's
        // note about this boot) is there.
        bench.ok(&["run", "--name", "first", "t", "probe"]);
        bench.ok(&["rm", "first"]);
        let before = bench.snapshot();
        Self { before, ..bench }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new empty directory, as text.
    pub(crate) fn scratch(&self) -> String {
        self.scratches.set(self.scratches.get() + 1);
        let path = self.path(&format!("scratch-{}", self.scratches.get()));
        fs::create_dir(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The program, on this instance; `program` runs it.
    pub(crate) fn command_by(&self, program: &[&str], args: &[&str]) -> Command {
        self.command_on(&self.path("data"), &self.path("run"), program, args)
    }

    pub(crate) fn command_on(&self, data: &Path, run: &Path, program: &[&str], args: &[&str]) -> Command {
        let words = [program, &[env!("CARGO_BIN_EXE_sextant")]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--data-dir").arg(data).arg("--run-dir").arg(run).args(args);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).env_remove("CONTAINER_RUNTIME_ENDPOINT");
        command
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_by(&[], args)
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    /// Runs it, and it must succeed and complain of nothing: what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert!(ended.code == 0 && ended.err.is_empty(), "{args:?}: {ended:?}");
        ended.out
    }

    /// Runs it, and it must fail so, in one sentence: what it said.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let ended = self.run(args);
        assert!(ended.code == code && ended.out.is_empty(), "{args:?} is to end with {code}: {ended:?}");
        assert!(ended.err.starts_with("sextant: ") && ended.err.lines().count() == 1, "{args:?}: {ended:?}");
        ended.err["sextant: ".len()..].trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(args);
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    }

    /// What `probe look` sees in a container that is made with these options and then removed.
    #[track_caller]
    pub(crate) fn look(&self, options: &[&str], paths: &[&str]) -> Value {
        self.json(&[&["run", "--rm"], options, &["t", "probe", "look"], paths].concat())
    }

    /// Runs it in the background, its standard input a pipe.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        Running::piped(command.stdin(Stdio::piped()))
    }

    /// One field of `inspect`.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str, pointer: &str) -> Value {
        let all = self.json(&["inspect", name]);
        all[0].pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {all}")).clone()
    }

    /// Waits until `holds`.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds() {
            assert!(Instant::now() < end, "waited too long until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the container's log has `text`.
    #[track_caller]
    pub(crate) fn until_logged(&self, name: &str, text: &str) {
        self.until(&format!("{name} says {text:?}"), || {
            let logs = self.run(&["logs", name]);
            logs.out.contains(text) || logs.err.contains(text)
        });
    }

    #[track_caller]
    pub(crate) fn until_state(&self, name: &str, state: &str) {
        self.until(&format!("{name} is {state}"), || self.inspect(name, "/state") == state);
    }

    /// What a test left behind, in words; it is removed, for the next one.
    pub(crate) fn left(&self) -> String {
        let ended = self.run(&["ps", "-aq"]);
        let containers: Vec<&str> = ended.out.lines().collect();
        let mut left = String::new();
        if !containers.is_empty() {
            left = format!("left over: {}", self.run(&["ps", "-a"]).out);
            self.run(&[&["rm", "-f"], &containers[..]].concat());
        }
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let now = self.snapshot();
            if now == self.before {
                return left;
            }
            // Some of the kernel's work (a namespace's end, a cgroup's) comes later.
            if Instant::now() > end {
                let new = now.difference(&self.before).map(|item| format!("left over: {item}\n"));
                let gone = self.before.difference(&now).map(|item| format!("missing: {item}\n"));
                return left + &new.chain(gone).collect::<String>();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Of what others may have on this machine, too, only what is below the instance's directory.
    fn snapshot(&self) -> BTreeSet<String> {
        let dir = self.dir.path().to_str().unwrap();
        self.machine.snapshot().unwrap().items_of(dir)
    }
}

/// Everything a container has on a machine. The instance is found in all of it by its directory.
fn watched(dir: &Path) -> Machine {
    Machine::new()
        .cgroups_named(instance_name(&dir.join("run")))
        .processes_marked(dir.to_str().unwrap())
        .files_under(dir.join("run"))
        .files_under(dir.join("data/containers"))
        .files_under(dir.join("data/names"))
}

/// `t` has the probe and some users; `nothing` the same without a command; `tool` an entry point and all the rest.
fn make_images(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let part = |path: &str, content, mode| Part { path: path.to_owned(), content, mode };
    let text = |text: &str| Content::Bytes(text.into());
    let program = fs::canonicalize("/proc/self/exe").unwrap();
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n";
    let parts = [
        part("bin/probe", Content::File(program), 0o755),
        part("etc/passwd", text(passwd), 0o644),
        part("etc/group", text("root:x:0:\nweb:x:34:\nlog:x:40:web\n"), 0o644),
        part("root", Content::Directory, 0o700),
        part("srv", Content::Directory, 0o777),
        part("tmp", Content::Directory, 0o1777),
    ];
    let words = |words: &[&str]| Some(words.iter().map(|&w| w.to_owned()).collect());
    let plain = ContainerConfig { env: vec!["PATH=/bin".into()], ..ContainerConfig::default() };
    let said = ContainerConfig { cmd: words(&["probe", "say", "by default"]), ..plain.clone() };
    let tool = ContainerConfig {
        user: "web".into(),
        env: vec!["PATH=/bin".into(), "COLOUR=red".into()],
        entrypoint: words(&["probe", "say", "tool"]),
        cmd: words(&["default"]),
        working_dir: "/work/here".into(),
        labels: [("from".to_owned(), "image".to_owned())].into(),
        stop_signal: Some("SIGINT".into()),
        ..ContainerConfig::default()
    };
    for (name, config) in [("t", said), ("nothing", plain), ("tool", tool)] {
        build(&store, &format!("docker.io/library/{name}:latest"), &parts, config, Compression::None)
            .unwrap();
    }
}

pub(crate) const TESTS: &[Test] = &[("two_instances_do_not_touch_each_other", two_instances)];

fn two_instances(b: &Bench) {
    let other = tempfile::Builder::new().prefix("sextant-other-").tempdir_in("/var/tmp").unwrap();
    let (data, run_dir) = (other.path().join("data"), other.path().join("run"));
    make_images(&data.join("images"));
    let there =
        |args: &[&str]| -> Ended { b.command_on(&data, &run_dir, &[], args).output().unwrap().into() };
    b.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "t", "probe", "serve", "80", "here"]);
    let started =
        there(&["run", "-d", "--name", "web", "-p", "8081:80", "t", "probe", "serve", "80", "there"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert!(crate::probe::ask("127.0.0.1:8080").unwrap().starts_with("here "));
    assert!(crate::probe::ask("127.0.0.1:8081").unwrap().starts_with("there "));
    assert_eq!(there(&["ps", "-q"]).out.lines().count(), 1);
    // What the other one publishes is refused, on any address that meets it, and its place is named.
    let id = b.inspect("web", "/id").as_str().unwrap().to_owned();
    let netns = b.path("run/netns").to_str().unwrap().to_owned();
    for port in ["8080:80", "127.0.0.1:8080:81", "0.0.0.0:8080:80", "8000-8100:8000-8100"] {
        let refused = there(&["run", "--rm", "-p", port, "t"]);
        assert!(refused.code == 125 && refused.err.lines().count() == 1, "{port}: {refused:?}");
        let words = ["cannot publish", "8080", "instance", &id, &netns, "stop"];
        words.iter().for_each(|word| assert!(refused.err.contains(word), "{port}, {word}: {refused:?}"));
    }
    assert!(crate::probe::ask("127.0.0.1:8080").unwrap().starts_with("here "));
    // A port is its protocol's, and an address of its own is nobody else's.
    b.ok(&["run", "-d", "--name", "local", "-p", "127.0.0.2:8082:80", "t", "probe", "serve", "80", "local"]);
    let udp = ["run", "-d", "--name", "udp", "-p", "8080:80/udp", "-p", "127.0.0.3:8082:80"];
    let started = there(&[&udp[..], &["t", "probe", "serve", "80", "udp"]].concat());
    assert_eq!(started.code, 0, "{started:?}");
    assert!(crate::probe::ask("127.0.0.2:8082").unwrap().starts_with("local "));
    assert!(crate::probe::ask("127.0.0.3:8082").unwrap().starts_with("udp "));
    assert_eq!(there(&["run", "--rm", "-p", "8082:80", "t"]).code, 125);
    // Of two that come at once, one gets it.
    for port in ["8090:80", "8091:80", "8092:80"] {
        let run = ["run", "-d", "--name", "race", "-p", port, "t", "probe", "serve", "80", "race"];
        let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let both = [b.command(&run), b.command_on(&data, &run_dir, &[], &run)];
        let both = both.map(|mut command| quiet(&mut command).unwrap());
        let mut codes = both.map(|mut child| child.wait().unwrap().code().unwrap());
        codes.sort_unstable();
        assert_eq!(codes, [0, 125], "{port}");
        b.run(&["rm", "-f", "race"]);
        there(&["rm", "-f", "race"]);
    }
    b.ok(&["rm", "-f", "local"]);
    assert_eq!(there(&["rm", "-f", "web", "udp"]).code, 0);
    assert!(crate::probe::ask("127.0.0.1:8080").unwrap().starts_with("here "));
    b.ok(&["rm", "-f", "web"]);
    let cgroups =
        Machine::new().cgroups_named(instance_name(&run_dir)).only("nothing else").snapshot().unwrap();
    assert_eq!(cgroups.items().count(), 0, "{cgroups:?}");
}
