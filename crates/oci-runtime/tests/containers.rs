//! Real containers on this machine's kernel, whose only program is this test itself (it is static).
//!
//! Needs root. Run with a name to run the tests that contain it.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kernel::cgroup::Cgroup;
use kernel::process::{Child, Exit};
use oci_runtime::contract::{Spec, State, Status, parse};
use oci_runtime::{Join, Setup, create, join, limits};
use serde_json::{Value, json};
use testkit::bare::{self, Outcome, check};

mod fields;

/// Ends a container's process that allocates between clone and exec, with code 99.
#[global_allocator]
static ALLOCATOR: kernel::allocation::Watched = kernel::allocation::Watched;

type Test = bare::Test<Bench>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "probe") {
        return probe(&args[2..]);
    }
    kernel::allocation::watch();
    let tests: &[Test] = &[
        ("the_program_runs_and_its_code_is_kept", exit_code),
        ("namespaces_are_new", namespaces),
        ("standard_streams_are_the_given_ones", stdio),
        ("no_descriptor_leaks", descriptors),
        ("dev_has_what_the_specification_promises", devices),
        ("masked_and_read_only_paths_hold", masks),
        ("a_read_only_root_cannot_be_written", read_only_root),
        ("capabilities_and_user_are_what_was_asked", privileges),
        ("limits_hold", cgroup_limits),
        ("mount_targets_stay_inside_the_root", symlinked_target),
        ("a_bind_mount_of_a_file_and_of_a_directory", binds),
        ("a_program_that_is_not_there_is_named", missing_program),
        ("a_failed_mount_names_its_source_and_target", failed_mount),
        ("a_process_joins", joins),
        ("a_terminal_is_made", terminal),
        ("a_user_namespace_maps_root", user_namespace),
        ("dropping_a_created_container_ends_it", dropped),
        ("a_tiny_memory_limit_is_enough", tiny_memory),
        ("a_working_directory_or_program_of_the_host_is_out_of_reach_cve_2024_21626", host_descriptors),
        ("a_created_container_goes_with_a_parent_that_was_killed", killed_parent),
        ("a_process_that_joins_shows_nobody_its_descriptors_cve_2016_9962", not_dumpable),
        ("proc_behind_a_link_is_refused_cve_2023_27561", linked_proc),
        ("kernel_parameters_go_to_procfs_alone_cve_2019_16884", false_proc),
        ("a_user_opens_its_own_standard_streams", own_streams),
        ("without_capabilities_in_the_configuration_there_are_none", no_capabilities),
    ];
    let groups = [&[tests], fields::TESTS].concat();
    bare::run(&groups, |name, test| test(&Bench::new(name)))
}

/// What runs inside: one word says what to do, the answer goes to standard output as JSON.
fn probe(args: &[String]) -> ExitCode {
    let mut answer = json!({});
    match args.first().map(String::as_str) {
        Some("exit") => return ExitCode::from(args[1].parse::<u8>().unwrap_or(255)),
        Some("sleep") => {
            println!("up");
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        Some("cat") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).expect("standard input");
            print!("{text}");
            eprint!("err:{text}");
            return ExitCode::SUCCESS;
        }
        Some("peek") => {
            drop(std::io::stdin().read_to_string(&mut String::new()));
            let all = fs::read_dir("/proc").into_iter().flatten().flatten();
            let seen: Vec<u32> = all.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
            let open: Vec<_> =
                seen.iter().filter(|p| fs::read_link(format!("/proc/{p}/exe")).is_ok()).collect();
            answer = json!({"open": open, "seen": seen});
        }
        Some("reopen") => {
            for name in ["out", "err"] {
                let opened = fs::OpenOptions::new().append(true).open(format!("/dev/std{name}"));
                if let Err(e) = opened.and_then(|mut f| write!(f, "to {name}")) {
                    eprint!("{e}");
                }
            }
            return ExitCode::SUCCESS;
        }
        Some("eat") => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
            }
        }
        Some("look") => {
            answer["pid"] = std::process::id().into();
            answer["cwd"] =
                std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default().into();
            answer["hostname"] =
                fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().into();
            answer["status"] = fs::read_to_string("/proc/self/status").unwrap_or_default().into();
            answer["mounts"] = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().into();
            answer["cgroup"] = fs::read_to_string("/proc/self/cgroup").unwrap_or_default().into();
            answer["tty"] = std::io::IsTerminal::is_terminal(&std::io::stdin()).into();
            let mut fds: Vec<_> = fs::read_dir("/proc/self/fd")
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| {
                    (
                        e.file_name().to_string_lossy().into_owned(),
                        fs::read_link(e.path()).unwrap_or_default(),
                    )
                })
                .filter(|(_, to)| !to.to_string_lossy().ends_with("/fd"))
                .map(|(n, _)| n)
                .collect();
            fds.sort();
            answer["fds"] = fds.into();
            for namespace in ["pid", "net", "mnt", "ipc", "uts", "user", "cgroup"] {
                let link = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap_or_default();
                answer["ns"][namespace] = link.display().to_string().into();
            }
            for path in &args[1..] {
                answer["paths"][path] = look(Path::new(path));
            }
        }
        Some(other) => match fields::probe(other, &args[1..]) {
            Some(more) => answer = more,
            None => {
                eprintln!("unknown probe {other:?}");
                return ExitCode::FAILURE;
            }
        },
        None => return ExitCode::FAILURE,
    }
    println!("{answer}");
    ExitCode::SUCCESS
}

fn look(path: &Path) -> Value {
    let Ok(meta) = fs::symlink_metadata(path) else { return Value::Null };
    let entries = fs::read_dir(path).map(|d| d.count()).ok();
    let text = meta.is_file().then(|| fs::read_to_string(path).unwrap_or_default());
    let opens_for_writing = fs::OpenOptions::new().append(true).open(path).is_ok();
    let creates = meta.is_dir() && fs::write(path.join(".probe"), "x").is_ok();
    json!({
        "mode": format!("{:o}", meta.permissions().mode()),
        "rdev": meta.rdev(), "uid": meta.uid(), "entries": entries, "text": text,
        "writable": opens_for_writing || creates,
        "link": fs::read_link(path).ok().map(|l| l.display().to_string()),
    })
}

/// A root directory with this program in it, and a cgroup of its own.
struct Bench {
    dir: tempfile::TempDir,
    cgroup: Cgroup,
    state: State,
}

#[derive(Debug)]
struct Finished {
    exit: Exit,
    out: String,
    err: String,
    warnings: Vec<String>,
}

impl Finished {
    fn answer(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| json!({"no answer": format!("{e}: {self:?}")}))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        kernel::cgroup::destroy(self.cgroup.path()).expect("the cgroup goes");
    }
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("sextant-").tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("proc")).expect("a root");
        let program = fs::canonicalize("/proc/self/exe").expect("this program");
        if fs::hard_link(&program, root.join("probe")).is_err() {
            fs::copy(&program, root.join("probe")).expect("a copy of this program");
        }
        fs::create_dir(dir.path().join("stage")).expect("a stage");
        let short: String = name.chars().take(24).collect();
        let cgroup =
            Cgroup::at(Path::new(&format!("sextant-test-{}-{short}", std::process::id()))).expect("a cgroup");
        cgroup.create().expect("a cgroup");
        let state = State {
            oci_version: oci_runtime::contract::VERSION.to_owned(),
            id: "test".to_owned(),
            status: Status::Running,
            pid: 0,
            bundle: dir.path().display().to_string(),
            annotations: std::collections::BTreeMap::new(),
        };
        Self { dir, cgroup, state }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn spec(&self, args: &[&str]) -> Value {
        let args = [&["/probe", "probe"], args].concat();
        json!({
            "ociVersion": "1.3.0",
            "process": {
                "args": args, "cwd": "/", "env": ["PATH=/bin", "HOME=/"],
                "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
            },
            "root": {"path": "root"},
            "hostname": "inside",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}],
            },
        })
    }

    fn setup(&self, stdio: Option<[OwnedFd; 3]>) -> Setup<'_> {
        let path = kernel::process::cstring(self.root().as_os_str().as_encoded_bytes()).expect("a path");
        Setup {
            id: "test",
            bundle: self.dir.path(),
            root: kernel::mount::clone_tree(rustix::fs::CWD, &path, false).expect("a tree"),
            stage: self.dir.path(),
            shares_mounts: false,
            cgroup: Some(&self.cgroup),
            rdt: None,
            held: false,
            stdio,
            preserved: 0,
            keyring: true,
            listener: None,
        }
    }

    fn join<'a>(&'a self, spec: &'a Spec, container: &'a Child, stdio: Option<[OwnedFd; 3]>) -> Join<'a> {
        let (cgroup, state) = (Some(&self.cgroup), &self.state);
        Join {
            spec,
            container: &container.pidfd,
            cgroup,
            held: false,
            rdt: None,
            stdio,
            preserved: 0,
            keyring: true,
            state,
        }
    }

    fn parsed(&self, spec: &Value) -> Result<Spec, Box<dyn std::error::Error>> {
        let spec = parse(spec.to_string().as_bytes())?;
        oci_runtime::contract::validate(&spec)?;
        self.cgroup.apply(&limits(&spec)?)?;
        Ok(spec)
    }

    fn run(&self, spec: &Value) -> Result<Finished, Box<dyn std::error::Error>> {
        self.run_with_input(spec, "")
    }

    fn run_with_input(&self, spec: &Value, input: &str) -> Result<Finished, Box<dyn std::error::Error>> {
        let spec = self.parsed(spec)?;
        let (streams, stdio) = pipes()?;
        let (child, warnings) = create(&spec, self.setup(Some(stdio)))?.start()?;
        streams.finish(&child, input, warnings)
    }
}

struct Streams {
    input: fs::File,
    out: fs::File,
    err: fs::File,
}

fn pipes() -> Result<(Streams, [OwnedFd; 3]), Box<dyn std::error::Error>> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let ((in_r, in_w), (out_r, out_w), (err_r, err_w)) = (pipe()?, pipe()?, pipe()?);
    Ok((Streams { input: in_w.into(), out: out_r.into(), err: err_r.into() }, [in_r, out_w, err_w]))
}

impl Streams {
    fn finish(
        self,
        child: &Child,
        input: &str,
        warnings: Vec<String>,
    ) -> Result<Finished, Box<dyn std::error::Error>> {
        let Self { input: mut stdin, mut out, mut err } = self;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let (mut o, mut e) = (String::new(), String::new());
        out.read_to_string(&mut o)?;
        err.read_to_string(&mut e)?;
        Ok(Finished { exit: child.wait()?, out: o, err: e, warnings })
    }
}

fn exit_code(bench: &Bench) -> Outcome {
    let done = bench.run(&bench.spec(&["exit", "42"]))?;
    check(done.exit == Exit::Code(42), || format!("{:?} {}", done.exit, done.err))?;
    check(done.warnings.is_empty(), || format!("{:?}", done.warnings))
}

fn namespaces(bench: &Bench) -> Outcome {
    let answer = bench.run(&bench.spec(&["look"]))?.answer();
    check(answer["pid"] == 1, || answer["pid"].to_string())?;
    check(answer["hostname"] == "inside", || answer["hostname"].to_string())?;
    for namespace in ["pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}"))?.display().to_string();
        check(answer["ns"][namespace] != ours, || format!("{namespace} is shared"))?;
    }
    let ours = fs::read_link("/proc/self/ns/user")?.display().to_string();
    check(answer["ns"]["user"] == ours, || "a user namespace nobody asked for".into())?;
    let seen = answer["cgroup"].as_str().unwrap_or_default();
    check(seen.lines().all(|l| l.ends_with(":/")), || format!("cgroup paths of the host are seen: {seen}"))
}

fn stdio(bench: &Bench) -> Outcome {
    let done = bench.run_with_input(&bench.spec(&["cat"]), "hello")?;
    check(done.out == "hello" && done.err == "err:hello", || format!("{:?} {:?}", done.out, done.err))
}

fn descriptors(bench: &Bench) -> Outcome {
    // Careless parents leave descriptors without close-on-exec.
    let careless = fs::File::open("/etc/passwd")?;
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty())?;
    let answer = bench.run(&bench.spec(&["look"]))?.answer();
    check(answer["fds"] == json!(["0", "1", "2"]), || answer["fds"].to_string())
}

fn devices(bench: &Bench) -> Outcome {
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let paths: Vec<String> = names.iter().map(|n| format!("/dev/{n}")).collect();
    let links = ["/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/ptmx"];
    let mut args = vec!["look"];
    args.extend(paths.iter().map(String::as_str));
    args.extend(links);
    let answer = bench.run(&bench.spec(&args))?.answer();
    for path in &paths {
        let host = fs::metadata(path)?;
        check(answer["paths"][path]["rdev"] == host.rdev(), || format!("{path}: {}", answer["paths"][path]))?;
        check(answer["paths"][path]["mode"] == "20666", || format!("{path}: {}", answer["paths"][path]))?;
    }
    check(answer["paths"]["/dev/ptmx"]["link"] == "pts/ptmx", || answer["paths"].to_string())?;
    check(answer["paths"]["/dev/fd"]["link"] == "/proc/self/fd", || answer["paths"].to_string())
}

fn masks(bench: &Bench) -> Outcome {
    fs::create_dir_all(bench.root().join("secret/dir"))?;
    fs::write(bench.root().join("secret/file"), "hidden")?;
    fs::create_dir(bench.root().join("kept"))?;
    let mut spec = bench.spec(&["look", "/secret/file", "/secret/dir", "/kept", "/proc/sys", "/proc/kcore"]);
    fs::write(bench.root().join("secret/dir/x"), "hidden")?;
    spec["linux"]["maskedPaths"] = json!(["/secret/file", "/secret/dir", "/proc/kcore", "/not/there"]);
    spec["linux"]["readonlyPaths"] = json!(["/kept", "/proc/sys", "/not/there"]);
    let answer = bench.run(&spec)?.answer();
    let paths = &answer["paths"];
    check(paths["/secret/file"]["rdev"] == rustix::fs::makedev(1, 3), || paths.to_string())?;
    check(paths["/secret/dir"]["entries"] == 0, || paths.to_string())?;
    check(paths["/secret/dir"]["writable"] == false, || paths.to_string())?;
    check(paths["/kept"]["writable"] == false, || paths.to_string())?;
    let mounts = answer["mounts"].as_str().unwrap_or_default();
    let sys = mounts.lines().find(|l| l.contains(" /proc/sys ")).unwrap_or_default();
    check(sys.contains(" ro,"), || format!("/proc/sys: {sys:?}"))
}

fn read_only_root(bench: &Bench) -> Outcome {
    fs::create_dir(bench.root().join("data"))?;
    let mut spec = bench.spec(&["look", "/", "/data"]);
    for mount in ["dev", "sys"] {
        fs::create_dir_all(bench.root().join(mount))?;
    }
    spec["root"]["readonly"] = true.into();
    let writable = bench.run(&bench.spec(&["look", "/data"]))?.answer();
    check(writable["paths"]["/data"]["writable"] == true, || "the probe cannot tell".into())?;
    let answer = bench.run(&spec)?.answer();
    check(answer["paths"]["/data"]["writable"] == false, || answer["paths"].to_string())?;
    check(answer["paths"]["/"]["writable"] == false, || answer["paths"].to_string())
}

fn privileges(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["look"]);
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o27});
    spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    fs::set_permissions(bench.root(), fs::Permissions::from_mode(0o755))?;
    let answer = bench.run(&spec)?.answer();
    let status = answer["status"].as_str().unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, v)| v).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (name, value) in [
        ("Uid", "1000 1000 1000 1000"),
        ("Gid", "1001 1001 1001 1001"),
        ("Groups", "5 7"),
        ("CapEff", "0000000000000020"),
        ("CapPrm", "0000000000000020"),
        ("CapBnd", "0000000000000021"),
        ("CapAmb", "0000000000000020"),
        ("NoNewPrivs", "1"),
        ("Umask", "0027"),
    ] {
        check(field(name) == value, || format!("{name}: {:?}, not {value:?}", field(name)))?;
    }
    Ok(())
}

fn cgroup_limits(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["eat"]);
    spec["linux"]["resources"] = json!({"memory": {"limit": 32 << 20, "swap": 32 << 20}, "pids": {"limit": 5},
        "devices": [{"allow": false, "access": "rwm"}]});
    let done = bench.run(&spec)?;
    check(done.exit == Exit::Signal { signal: 9, core: false }, || format!("{:?} {}", done.exit, done.err))?;
    check(bench.cgroup.usage().oom_kills == Some(1), || format!("{:?}", bench.cgroup.usage()))
}

fn symlinked_target(bench: &Bench) -> Outcome {
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside)?;
    symlink(&outside, bench.root().join("absolute"))?;
    symlink("../../../../../../../../../../tmp", bench.root().join("dots"))?;
    fs::create_dir(bench.root().join("tmp"))?;
    let mut spec = bench.spec(&["look", "/tmp/below"]);
    let mounts = spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({"destination": "/dots/below", "type": "tmpfs", "source": "tmpfs"}));
    let answer = bench.run(&spec)?.answer();
    check(answer["paths"]["/tmp/below"]["entries"] == 0, || answer["paths"].to_string())?;
    let mounts = spec["mounts"].as_array_mut().expect("mounts");
    mounts.pop();
    mounts.push(json!({"destination": "/absolute/below", "type": "tmpfs", "source": "tmpfs"}));
    drop(bench.run(&spec));
    check(fs::read_dir(&outside)?.count() == 0, || "a directory was made outside the root".into())
}

fn binds(bench: &Bench) -> Outcome {
    let dir = bench.dir.path().join("volume");
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "of the host")?;
    let mut spec = bench.spec(&["look", "/data/new", "/data/new/file", "/etc/one"]);
    let mounts = spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({"destination": "/data/new", "source": dir, "options": ["rbind", "ro"]}));
    mounts.push(json!({"destination": "/etc/one", "source": "volume/file", "options": ["bind"]}));
    let answer = bench.run(&spec)?.answer();
    check(answer["paths"]["/data/new"]["writable"] == false, || answer["paths"].to_string())?;
    check(answer["paths"]["/data/new/file"]["text"] == "of the host", || answer["paths"].to_string())?;
    check(answer["paths"]["/etc/one"]["writable"] == true, || answer["paths"].to_string())
}

fn missing_program(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&[]);
    spec["process"]["args"] = json!(["nothing-here"]);
    let error = bench.run(&spec).err().ok_or("it ran")?;
    check(
        error.to_string().starts_with(
            "cannot execute \"nothing-here\": exec: \"nothing-here\": executable file not found in $PATH",
        ),
        || error.to_string(),
    )?;
    let runtime = error.downcast_ref::<oci_runtime::Error>().ok_or("another error")?;
    check(runtime.exit_code() == 127, || runtime.exit_code().to_string())
}

fn failed_mount(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["exit", "0"]);
    spec["mounts"]
        .as_array_mut()
        .expect("mounts")
        .push(json!({"destination": "/x", "type": "nosuchfs", "source": "none"}));
    let error = bench.run(&spec).err().ok_or("it ran")?.to_string();
    check(error.starts_with("cannot make the mount of nosuchfs on /x: "), || error.clone())?;
    check(error.contains("this kernel does not have that filesystem"), || error.clone())
}

fn joins(bench: &Bench) -> Outcome {
    let spec = bench.parsed(&bench.spec(&["sleep"]))?;
    let (mut streams, stdio) = pipes()?;
    let (child, _) = create(&spec, bench.setup(Some(stdio)))?.start()?;
    let mut up = [0; 3];
    streams.out.read_exact(&mut up)?;
    let mut process = spec.process.clone().ok_or("no process")?;
    process.args = ["/probe", "probe", "look", "/proc/1/exe"].map(String::from).to_vec();
    process.cwd = "/made/here".into();
    let (streams, stdio) = pipes()?;
    let joined = join(&process, bench.join(&spec, &child, Some(stdio)))?;
    let (second, warnings) = joined.start()?;
    let answer = streams.finish(&second, "", warnings)?.answer();
    check(answer["pid"].as_i64().is_some_and(|p| (2..100).contains(&p)), || answer["pid"].to_string())?;
    check(answer["cwd"] == "/made/here", || answer["cwd"].to_string())?;
    check(answer["fds"] == json!(["0", "1", "2"]), || answer["fds"].to_string())?;
    for namespace in ["pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        let theirs = fs::read_link(format!("/proc/{}/ns/{namespace}", child.pid))?.display().to_string();
        check(answer["ns"][namespace] == theirs, || format!("{namespace} is not the container's"))?;
    }
    // And this process is where it was.
    check(kernel::process::pidfd(child.pid).is_ok(), || "the parent went along".into())?;
    kernel::process::signal(child.pidfd.as_fd(), 9)?;
    check(child.wait()? == Exit::Signal { signal: 9, core: false }, || "it ended otherwise".into())
}

fn terminal(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["look", "/dev/console"]);
    spec["process"]["terminal"] = true.into();
    spec["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    let spec = bench.parsed(&spec)?;
    let mut created = create(&spec, bench.setup(None))?;
    let master = created.console.take().ok_or("no terminal")?;
    let size = rustix::termios::tcgetwinsize(&master)?;
    check((size.ws_row, size.ws_col) == (33, 77), || format!("{size:?}"))?;
    let (child, _) = created.start()?;
    let mut out = Vec::new();
    // The master of a terminal whose last slave is closed reads EIO.
    drop(fs::File::from(master).read_to_end(&mut out));
    check(child.wait()? == Exit::Code(0), || "it failed".into())?;
    let answer: Value = serde_json::from_slice(&out)?;
    check(answer["tty"] == true, || "standard input is no terminal".into())?;
    check(answer["paths"]["/dev/console"]["mode"] == "20620", || answer["paths"].to_string())
}

fn user_namespace(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["look", "/probe", "/dev/null"]);
    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    fs::create_dir_all(bench.root().join("dev"))?;
    fs::create_dir_all(bench.root().join("sys"))?;
    let answer = bench.run(&spec)?.answer();
    let status = answer["status"].as_str().unwrap_or_default();
    check(status.lines().any(|l| l == "Uid:\t0\t0\t0\t0"), || status.into())?;
    check(answer["paths"]["/dev/null"]["rdev"] == rustix::fs::makedev(1, 3), || answer["paths"].to_string())?;
    // The file is of host root, which is nobody in there.
    check(answer["paths"]["/probe"]["uid"] == 65_534, || answer["paths"].to_string())
}

fn dropped(bench: &Bench) -> Outcome {
    let spec = bench.parsed(&bench.spec(&["sleep"]))?;
    let created = create(&spec, bench.setup(Some(oci_runtime::null_stdio()?)))?;
    let pid = created.pid();
    drop(created);
    check(!Path::new(&format!("/proc/{pid}")).exists(), || format!("{pid} is still there"))
}

fn tiny_memory(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["exit", "3"]);
    spec["linux"]["resources"] = json!({"memory": {"limit": 1 << 20, "swap": 1 << 20}});
    let done = bench.run(&spec)?;
    check(done.exit == Exit::Code(3), || format!("{:?} {}", done.exit, done.err))
}

/// Every number that a descriptor of the host may have in the process that becomes the program.
fn host_descriptors(bench: &Bench) -> Outcome {
    let sleep = bench.parsed(&bench.spec(&["sleep"]))?;
    let (_streams, stdio) = pipes()?;
    let (first, _) = create(&sleep, bench.setup(Some(stdio)))?.start()?;
    for number in 3..48 {
        let mut spec = bench.spec(&["look"]);
        spec["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
        // One is the container's own root.
        let cwd = bench.run(&spec).map_or(json!("/"), |done| done.answer()["cwd"].clone());
        check(cwd == "/", || format!("descriptor {number} is a working directory: {cwd}"))?;
        for up in [0, 2, 4, 6, 9, 12] {
            let path = format!("/proc/self/fd/{number}/{}bin/true", "../".repeat(up));
            let mut process = sleep.process.clone().ok_or("no process")?;
            process.args = vec![path.clone()];
            let joined = join(&process, bench.join(&sleep, &first, None))?.start();
            check(joined.is_err(), || format!("{path} of the host was executed"))?;
        }
    }
    Ok(())
}

fn killed_parent(bench: &Bench) -> Outcome {
    let spec = bench.parsed(&bench.spec(&["sleep"]))?;
    let kernel::process::Cloned::Parent(parent) =
        kernel::process::clone(kernel::process::NewNamespaces::NONE, None)?
    else {
        kernel::allocation::watch();
        // The copy of this process: makes a container and is killed.
        let created = create(&spec, bench.setup(Some(oci_runtime::null_stdio()?)))?;
        drop(fs::write(bench.dir.path().join("pid"), created.pid().to_string()));
        loop {
            std::thread::park();
        }
    };
    let text = bench.dir.path().join("pid");
    let container = loop {
        if let Some(pid) = fs::read_to_string(&text).ok().and_then(|t| t.parse().ok()) {
            break kernel::process::pidfd(pid)?;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    kernel::process::signal(parent.pidfd.as_fd(), 9)?;
    parent.wait()?;
    let mut fds = [rustix::event::PollFd::new(&container, rustix::event::PollFlags::IN)];
    let limit = rustix::time::Timespec { tv_sec: 180, tv_nsec: 0 };
    check(rustix::event::poll(&mut fds, Some(&limit))? == 1, || "it waits for ever".into())
}

/// The container's root may trace every process of its user namespace, and one that joins is among them.
fn not_dumpable(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["peek"]);
    for set in ["bounding", "permitted", "effective"] {
        spec["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE"]);
    }
    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    fs::create_dir_all(bench.root().join("dev"))?;
    fs::create_dir_all(bench.root().join("sys"))?;
    let spec = bench.parsed(&spec)?;
    let (streams, stdio) = pipes()?;
    let (child, warnings) = create(&spec, bench.setup(Some(stdio)))?.start()?;
    let process = spec.process.clone().ok_or("no process")?;
    let joined = join(&process, bench.join(&spec, &child, Some(oci_runtime::null_stdio()?)))?;
    // Nothing of the host is open in it but what it needs: the streams, the channel, the root.
    let fds = fs::read_dir(format!("/proc/{}/fd", joined.pid()))?.count();
    check(fds <= 3 + 2 + 3, || format!("{fds} descriptors are open in a process that joins"))?;
    let Streams { mut input, mut out, .. } = streams;
    input.write_all(b"go")?;
    drop(input);
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    // A first process does not end before the others of its namespace are reaped.
    drop(joined);
    child.wait()?;
    let answer: Value = serde_json::from_str(&text)?;
    check(warnings.is_empty(), || format!("{warnings:?}"))?;
    check(answer["open"] == json!([1]), || format!("these can be traced: {answer}"))?;
    check(answer["seen"].as_array().is_some_and(|a| a.len() == 2), || format!("it was not there: {answer}"))
}

fn linked_proc(bench: &Bench) -> Outcome {
    fs::remove_dir(bench.root().join("proc"))?;
    fs::create_dir(bench.root().join("elsewhere"))?;
    symlink("/elsewhere", bench.root().join("proc"))?;
    let error = bench.run(&bench.spec(&["exit", "0"])).err().ok_or("it ran")?.to_string();
    check(error.starts_with("cannot make the mount point for proc on /proc: "), || error.clone())
}

fn false_proc(bench: &Bench) -> Outcome {
    fs::create_dir_all(bench.root().join("proc/sys/net/ipv4"))?;
    let file = bench.root().join("proc/sys/net/ipv4/ip_forward");
    fs::write(&file, "")?;
    let mut spec = bench.spec(&["exit", "0"]);
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    check(bench.run(&spec)?.exit == Exit::Code(0), || "it does not work with the true one".into())?;
    spec["mounts"].as_array_mut().expect("mounts").remove(0);
    let error = bench.run(&spec).err().ok_or("it ran")?.to_string();
    check(error.starts_with("cannot set the kernel parameter /proc/sys/net/ipv4/ip_forward: "), || {
        error.clone()
    })?;
    check(fs::read_to_string(&file)?.is_empty(), || "a file of the image was written".into())
}

fn own_streams(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["reopen"]);
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    fs::set_permissions(bench.root(), fs::Permissions::from_mode(0o755))?;
    let done = bench.run(&spec)?;
    check((done.out.as_str(), done.err.as_str()) == ("to out", "to err"), || format!("{done:?}"))
}

fn no_capabilities(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["look"]);
    spec["process"].as_object_mut().expect("a process").remove("capabilities");
    let answer = bench.run(&spec)?.answer();
    let status = answer["status"].as_str().unwrap_or_default();
    for name in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        check(line.ends_with("\t0000000000000000"), || line.to_owned())?;
    }
    Ok(())
}
