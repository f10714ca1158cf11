//! The known escapes of container runtimes, tried on `sextant-oci` with real containers: each test bears the number of
//! what it tries. docs/threat-model.md says what each was.
//!
//! This program is the command (called by its name), what attacks (in a container, as `/probe`), and the test. Needs root
//! and Debian's busybox-static. Run with a name to run the tests that contain it.

#[expect(dead_code, reason = "shared with the tests of the command, which use more of it")]
#[path = "../command/bench.rs"]
mod bench;
mod console;
mod descriptors;
mod devices;
mod files;
mod keyring;
mod paths;
mod probe;
mod procfs;
mod program;
mod races;
mod rights;
mod tracing;

use std::path::Path;
use std::process::ExitCode;

use bench::Bench;
use oci_runtime::command;
use serde_json::{Value, json};
use testkit::bare::{self, Outcome, check};

/// Ends a container's process that allocates between clone and exec, with code 99.
#[global_allocator]
static ALLOCATOR: kernel::allocation::Watched = kernel::allocation::Watched;

type Test = bare::Test<Bench>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let called = args.first().map_or("", String::as_str);
    if args.get(1).is_some_and(|word| word == "probe") {
        return probe::run(&args[2..]);
    }
    // By its name, or as an interpreter from inside a container.
    if Path::new(called).file_name().is_some_and(|name| name == command::NAME)
        || ["/proc/self/exe", "/dynamic", "/bin/dynamic"].contains(&called)
    {
        kernel::allocation::watch();
        return command::main(std::env::args_os());
    }
    let all = [
        program::TESTS,
        tracing::TESTS,
        descriptors::TESTS,
        paths::TESTS,
        races::TESTS,
        files::TESTS,
        procfs::TESTS,
        devices::TESTS,
        console::TESTS,
        rights::TESTS,
        keyring::TESTS,
    ];
    bare::run(&all, |_, test| {
        let bench = Bench::new();
        test(&bench).and_then(|()| bench.nothing_is_left())
    })
}

/// How often a race is run; `SEXTANT_ESCAPE_ROUNDS` says otherwise.
fn rounds() -> u32 {
    std::env::var("SEXTANT_ESCAPE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// A configuration that runs a word of [`probe`], which is bound in as `/probe`.
fn probing(bench: &Bench, words: &[&str]) -> Value {
    let mut spec = bench.spec(&[&["/probe", "probe"], words].concat());
    with_probe(&mut spec);
    spec
}

fn with_probe(spec: &mut Value) {
    let program = std::fs::canonicalize("/proc/self/exe").expect("this program");
    push(spec, "/mounts", json!({"destination": "/probe", "source": program, "options": ["bind", "ro"]}));
}

/// Binds a directory of the bench, which is made.
fn with_volume(bench: &Bench, spec: &mut Value, name: &str, destination: &str) -> std::path::PathBuf {
    let path = bench.path(name);
    std::fs::create_dir_all(&path).expect("a volume");
    push(spec, "/mounts", json!({"destination": destination, "source": path, "options": ["rbind"]}));
    path
}

/// Adds to a list of the configuration.
fn push(spec: &mut Value, pointer: &str, value: Value) {
    spec.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list").push(value);
}

/// Gives the container's process these capabilities.
fn grant(spec: &mut Value, names: &[&str]) {
    for set in ["bounding", "permitted", "effective"] {
        spec["process"]["capabilities"][set] = json!(names);
    }
}

/// A user namespace of 65536 ids from 100000 on; what its root cannot make in the container's is made.
fn with_user_namespace(bench: &Bench, spec: &mut Value) {
    push(spec, "/linux/namespaces", json!({"type": "user"}));
    for field in ["uidMappings", "gidMappings"] {
        spec["linux"][field] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    }
    std::fs::write(bench.bundle().join("rootfs/probe"), "").expect("a mount point");
    use std::os::unix::fs::PermissionsExt;
    for dir in [bench.path(""), bench.bundle(), bench.bundle().join("rootfs")] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    }
}

/// The line of `/proc/PID/status` that begins with `name`.
fn status<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines()
        .find(|line| line.starts_with(name))
        .map_or("", |line| line[name.len()..].trim_matches([':', '\t', ' ']))
}

/// What must be as it was: each file of a directory with its owner, mode and content.
fn picture(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let text = if meta.is_file() {
            std::fs::read_to_string(entry.path()).unwrap_or_default()
        } else {
            String::new()
        };
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        let (mode, uid, gid, number) = (meta.mode(), meta.uid(), meta.gid(), meta.rdev());
        all.push(format!("{:?} {mode:o} {uid}:{gid} {number:x} {text:?} {link:?}", entry.file_name()));
        if meta.is_dir() {
            all.extend(picture(&entry.path()));
        }
    }
    all.sort();
    all
}

/// A container of another bench, which attacks from inside.
struct Attacker(Bench);

impl Attacker {
    /// Runs a word of [`probe`] on a volume of somebody else's bench at `/v`, and waits until it has begun.
    fn start(volume: &Path, words: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let bench = Bench::new();
        let mut spec = probing(&bench, words);
        push(&mut spec, "/mounts", json!({"destination": "/v", "source": volume, "options": ["rbind"]}));
        bench.configure(&spec);
        bench.run(&["run", "-d", &bench.id]).ok()?;
        bench.until("the attack has begun", || volume.join(".begun").exists())?;
        Ok(Self(bench))
    }

    fn end(self) -> Outcome {
        self.0.run(&["delete", "--force", &self.0.id]).ok()?;
        self.0.nothing_is_left()
    }
}
