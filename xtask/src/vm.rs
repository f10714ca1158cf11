//! The kernel tests again, inside QEMU on Debian's cloud kernel: cgroup v2, modules that the host may lack; and once
//! more under systemd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use testkit::vm::{Disk, Guest, Initramfs, Kernel, MODULES, rootfs};

use crate::program::{cargo_json_lines, quiet, target};
use crate::rings::{Count, read_test_line};
use crate::{Result, packages};

/// Whose tests ask something of the kernel; those first to whom cgroup v2 matters most.
const CRATES: &[&str] = &["kernel", "oci-runtime", "shim", "sextant", "csi", "cni", "ledger"];

/// Crates that have other tests as well: the programs that are run here.
const ONLY_TESTS: &[(&str, &str)] = &[("sextant", "node"), ("sextant", "control"), ("sextant", "agent")];

/// What the tests look at their work with, and make file systems with.
const PROGRAMS: &[&str] = &[
    "ip",
    "bridge",
    "tc",
    "nft",
    "dnsmasq",
    "dbus-daemon",
    "apparmor_parser",
    "setsid",
    "btrfs",
    "mkfs.btrfs",
    "mkfs.ext4",
    "mkfs.xfs",
    "fsck.ext4",
    "tune2fs",
    "resize2fs",
];

/// What AppArmor's parser reads.
const PROFILES: &[&str] = &[
    "/etc/apparmor",
    "/etc/apparmor.d/abi",
    "/etc/apparmor.d/abstractions",
    "/etc/apparmor.d/tunables",
    "/usr/share/apparmor-features",
];

/// Tests that are passed over where programs of others may be missing, and what those are called that want this kernel too:
/// its initramfs has the programs.
const WITH_PROGRAMS: &[(&str, &str)] = &[(MATRIX, "what_not_every_kernel_has"), ("cni-dhcp", "on_a_parent")];
/// The tests that compare our CNI plugins with the reference's, and where those are on both sides.
const MATRIX: &str = "cni-matrix";
const REFERENCE: &str = "/usr/lib/cni";
/// More of the reference's plugins, as in `crates/cni/tests/matrix`.
const NEWER: &str = "SEXTANT_CNI_REFERENCE";
const NEWER_INSIDE: &str = "/newer";

/// Test programs that only a systemd can be shown to.
const SYSTEMD_TESTS: &[(&str, &str)] =
    &[("oci-runtime", "systemd"), ("shim", "systemd"), ("sextant", "systemd")];

/// The kernel tests inside QEMU.
#[derive(Debug, Args)]
pub(crate) struct Vm {
    /// On a Debian root with systemd as PID 1 instead of an initramfs
    #[arg(long)]
    systemd: bool,
    /// Only the tests of these crates
    #[arg(long, value_delimiter = ',', default_values = CRATES)]
    package: Vec<String>,
    /// Only these test programs (names of integration tests of each of the crates), also such as are left out otherwise
    #[arg(long, value_delimiter = ',')]
    test: Vec<String>,
    /// Added to the kernel's command line
    #[arg(long, default_value = "")]
    append: String,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 900)]
    limit: u64,
    /// Passed on to each test program
    #[arg(last = true)]
    args: Vec<String>,
    /// Without the tests that take an emulated machine many minutes.
    #[arg(skip)]
    short: bool,
    /// After `cargo test` of the whole workspace.
    #[arg(skip)]
    ring: bool,
}

/// Races, run again and again, and what fills disks and wants no other kernel: they are run on the machine itself, and in full
/// here.
const LONG: &[&str] = &["oci-runtime-escapes", "csi-btrfs", CONTROL];
/// Of the tests of the controllers those are run here whose driver has backends that want this kernel.
const CONTROL: &str = "sextant-control";
const OF_CONTROL: &str = "together::";
/// Of these the ring runs here what wants this kernel, or rights that a container may lack (an ext4 in use grows for CAP_SYS_RESOURCE
/// alone): the rest is the same on the machine itself.
const FEW: &[(&str, &str)] = &[
    ("csi", "backend::thin backend::quota crypt a_volume_grows_mounted_or_not"),
    ("csi-backends", "::quota_on_ext4 ::thin_ext4"),
    ("csi-kills", "of_quotas of_thin_volumes"),
    ("sextant-node", OF_NODE),
];
/// Of the node's those that look at cgroups, namespaces, ports and what is left of them; not those that wait for ten seconds to pass.
const OF_NODE: &str = "a_pod_on_the_nodes_network a_pid_namespace containers_of_a_pod ports_lead oom_killed stop_sends exec_returns \
                       stats_are metrics_are events_come what_ended new_limits with_its_new_limits pods_run_on shim_is_killed \
                       after_a_reboot_ends no_pod_uses a_node_serves_volumes cli_exec_carries cli_stats a_killed_node cycles_";
/// Of the agent's those are run here that look at cgroups; all of them with `--test agent`.
const OF_AGENT: (&str, &str) = ("sextant-agent", "resources_change_in_place out_of_memory");

pub(crate) fn run(vm: &Vm) -> Result<()> {
    packages::install(packages::NEEDED)?;
    let count = boot(vm, true)?;
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed == 0 { Ok(()) } else { Err(count.failures.join("; ").into()) }
}

/// The ring's form: the initramfs; in full also systemd.
pub(crate) fn ring(full: bool) -> Result<Count> {
    let package = CRATES.iter().map(ToString::to_string).collect();
    let mut vm = Vm {
        systemd: false,
        package,
        test: Vec::new(),
        append: String::new(),
        limit: if full { 7200 } else { 4500 },
        args: Vec::new(),
        short: !full,
        ring: true,
    };
    let mut count = boot(&vm, false)?;
    if full {
        vm.systemd = true;
        count.extend(boot(&vm, false)?);
    }
    Ok(count)
}

fn boot(vm: &Vm, echo: bool) -> Result<Count> {
    let cache = target().join("vm");
    let kernel = Kernel::fetch(&cache)?;
    let tests = cache.join("tests");
    let built = copy_tests(vm, &tests)?;
    std::fs::write(tests.join("run"), script(&built, vm))?;
    let place = tempfile::Builder::new().prefix("sextant-vm-").tempdir()?;
    let initramfs = place.path().join("initramfs");
    let mut guest = Guest::new(&kernel, &initramfs);
    if vm.systemd {
        Initramfs::new(&kernel, &["virtio_blk"], "")?.write(&initramfs)?;
        let image = place.path().join("tests.ext4");
        rootfs::tests_disk(&tests, &image)?;
        guest.disks = vec![Disk::Scratch(rootfs::disk(&cache, &kernel)?), Disk::Scratch(image)];
        guest.append = "sextant.root=/dev/vda systemd.show_status=0".into();
        guest.reboots = true;
    } else {
        let mut contents = Initramfs::new(&kernel, MODULES, "sh /tests/run")?;
        let programs = built.programs.iter().map(|(name, _)| name);
        for name in built.names.iter().chain(programs).map(String::as_str).chain(["run"]) {
            contents.program(&format!("tests/{name}"), &tests.join(name));
        }
        for name in PROGRAMS {
            contents.host_program(name)?;
        }
        for dir in PROFILES {
            contents.host_files(Path::new(dir))?;
        }
        if built.names.iter().any(|name| name == MATRIX) {
            add_references(&mut contents, place.path())?;
        }
        contents.write(&initramfs)?;
    }
    guest.append = format!("{} apparmor=1 security=apparmor {}", guest.append, vm.append);
    // What is tested is in memory, and what tests write: half of it at most.
    guest.memory = 3072;
    guest.acceleration = guest.probe();
    guest.echo = echo;
    println!("booting {} ({:?})", kernel.version, guest.acceleration);
    let (said, status) = guest.run(Duration::from_secs(vm.limit))?;
    let mut count = Count::default();
    said.lines().for_each(|line| read_test_line(line, &mut count));
    if let Some(up) = said.lines().find(|line| line.starts_with("sextant-vm: up")) {
        println!("{}", up.trim_start_matches("sextant-vm: "));
    }
    said.lines().filter(|line| line.starts_with(LEFT_OUT)).for_each(|line| println!("{}", line.trim_end()));
    longest(&said);
    if status != 0 {
        count.failed = count.failed.max(1);
        count.failures.push(format!("the guest's status is {status}"));
        if !echo {
            println!("{said}");
        }
    }
    Ok(count)
}

/// Says which test programs took longest, beside what other rings say: where an emulated machine's time goes is seen nowhere else.
fn longest(said: &str) {
    let seconds = |line: &str| line.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    let mut took: Vec<_> = said.lines().filter_map(|line| line.trim_end().strip_prefix(TOOK)).collect();
    took.sort_by_key(|line| std::cmp::Reverse(seconds(line)));
    took.iter().take(12).for_each(|line| println!("        in the guest {line}"));
}

/// The reference's CNI plugins: Debian's, and newer ones if there are some.
fn add_references(contents: &mut Initramfs, scratch: &Path) -> Result<()> {
    let newer = std::env::var_os(NEWER).map(PathBuf::from);
    for (from, to) in [(Some(REFERENCE.into()), REFERENCE), (newer, NEWER_INSIDE)] {
        for entry in from.iter().flat_map(std::fs::read_dir).flatten() {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stripped = scratch.join(format!("{}-{name}", to.trim_start_matches('/').replace('/', "-")));
            quiet(Command::new("strip").arg("-o").arg(&stripped).arg(&file))?;
            contents.linked_program(&format!("{}/{name}", to.trim_start_matches('/')), &stripped);
        }
    }
    Ok(())
}

/// Builds the crates' test programs and copies them, without what only a debugger reads, into `dir`.
fn copy_tests(vm: &Vm, dir: &Path) -> Result<Tests> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir)?;
    let mut tests = Tests::default();
    for message in build_tests(vm)? {
        let Some(program) = message["executable"].as_str() else { continue };
        let package = Path::new(message["manifest_path"].as_str().unwrap_or_default())
            .parent()
            .and_then(Path::file_name);
        let package = package.unwrap_or_default().to_string_lossy().into_owned();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let kinds = message["target"]["kind"].as_array();
        let is = |wanted: &str| kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == wanted));
        let unit = !is("test") && !is("bin");
        let test = message["profile"]["test"] == true;
        if is("example") || !vm.wants(&package, target, test) {
            continue;
        }
        let name = match (test, unit) {
            (false, _) => format!("program-{target}"),
            (true, true) => package,
            (true, false) => format!("{package}-{target}"),
        };
        if vm.short && LONG.contains(&name.as_str()) {
            continue;
        }
        vm.filters(&name).try_for_each(|filter| chooses(program, &filter))?;
        let to: PathBuf = dir.join(&name);
        quiet(Command::new("strip").arg("--strip-debug").arg("-o").arg(&to).arg(program))?;
        if test {
            tests.names.push(name);
        } else {
            tests.programs.push((name, program.to_owned()));
        }
    }
    let rank = |name: &String| CRATES.iter().position(|package| name.starts_with(package));
    tests.names.sort_by_key(|name| (rank(name), name.clone()));
    Ok(tests)
}

/// A filter that no test's name has any more would pass with none.
fn chooses(program: &str, filter: &[&str]) -> Result<()> {
    let list = quiet(Command::new(program).args(filter).arg("--list"))?;
    let is_test = |line: &str| line.ends_with(": test");
    if list.lines().any(is_test) {
        Ok(())
    } else {
        Err(format!("{program}: no test is {}", filter.join(" ")).into())
    }
}

/// What cargo says of the programs that it builds. For a ring they are those of the whole workspace, which `cargo test` has as well: of
/// fewer packages cargo would choose other features, and build many of them once more.
fn build_tests(vm: &Vm) -> Result<Vec<serde_json::Value>> {
    let build = ["test", "--no-run", "--locked", "--message-format", "json-render-diagnostics"];
    let built = |what: &[&str]| cargo_json_lines(&[&build[..], what].concat());
    let mut messages = Vec::new();
    if vm.ring {
        messages.extend(built(&["--workspace"])?);
        if vm.systemd {
            messages.extend(built(&["--workspace", "--test", "systemd"])?);
        }
        return Ok(messages);
    }
    let whole = vm.package.iter().filter(|package| vm.test.is_empty() && !has_some(package));
    let packages: Vec<&str> = whole.flat_map(|package| ["--package", package]).collect();
    if !packages.is_empty() {
        messages.extend(built(&packages)?);
    }
    let named = vm
        .test
        .iter()
        .flat_map(|test| vm.package.iter().map(move |package| (package.as_str(), test.as_str())));
    let systemd = SYSTEMD_TESTS.iter().filter(|_| vm.systemd);
    let some = ONLY_TESTS.iter().chain(systemd).filter(|_| vm.test.is_empty()).copied();
    for (package, test) in named.chain(some) {
        if vm.package.iter().any(|wanted| wanted == package) {
            messages.extend(built(&["--package", package, "--test", test])?);
        }
    }
    Ok(messages)
}

/// Of this crate some tests are run here.
fn has_some(package: &str) -> bool {
    ONLY_TESTS.iter().any(|(name, _)| *name == package)
}

impl Vm {
    /// Whether a test program, or one that tests run, goes into the guest.
    fn wants(&self, package: &str, target: &str, test: bool) -> bool {
        let one = (package, target);
        let is_asked = self.package.iter().any(|wanted| wanted == package);
        let is_systemd = self.systemd && SYSTEMD_TESTS.contains(&one);
        let is_chosen = match self.test.is_empty() {
            true => !has_some(package) || ONLY_TESTS.contains(&one) || is_systemd,
            false => self.test.iter().any(|wanted| wanted == target),
        };
        is_asked && (!test || is_chosen)
    }

    /// What chooses tests of a program that has others, too; empty where all are run.
    fn few(&self, name: &str) -> &'static str {
        let few = FEW.iter().filter(|_| self.short).chain([&(CONTROL, OF_CONTROL)]);
        let few = few.chain([&OF_AGENT].into_iter().filter(|_| self.test.is_empty()));
        few.filter(|(few, _)| *few == name).map(|(_, filters)| *filters).next().unwrap_or_default()
    }

    /// What chooses tests of a program here, each of which has to choose some.
    fn filters(&self, name: &str) -> impl Iterator<Item = Vec<&'static str>> {
        let few = self.few(name).split(' ').filter(|filter| !filter.is_empty()).map(|filter| vec![filter]);
        let others = WITH_PROGRAMS.iter().filter(move |(with, _)| !self.systemd && *with == name);
        few.chain(others.map(|(_, filter)| vec![*filter, "--ignored"]))
    }
}

/// What was built: files in one directory.
#[derive(Debug, Default)]
struct Tests {
    names: Vec<String>,
    /// Programs that tests run, with the paths that were compiled into those.
    programs: Vec<(String, String)>,
}

/// How long a test program may take in the guest, in seconds: one that hangs is told by its name, and the others are run, where the
/// guest itself has longer (`--limit`, as the ring gives it).
const EACH: u32 = 1200;
/// The same in full, where what is long is not left out.
const EACH_IN_FULL: u32 = 3000;

/// When the ring's guest begins no further test program, in seconds after its boot: an emulated machine is slow, on a busy one more so,
/// and all rings have an hour and a half. What is left out then is told; in full nothing is.
const ENOUGH: u32 = 900;
/// Begins the line that tells it.
const LEFT_OUT: &str = "sextant-vm: left out for want of time: ";

/// Remembers that the program before it failed.
const FAILED: &str = "[ -e /tmp/failed ] && { failed=1; rm /tmp/failed; }\n";

/// Names the test program that the guest of systemd runs once more after it has booted anew: it writes that.
const AGAIN: &str = "/var/lib/sextant-tests-again";

/// Begins the line that tells how long a test program took.
const TOOK: &str = "sextant-vm: took ";

/// The lines that run one test program: through a pipe, as a terminal would get colours, which what a killed one left
/// behind may hold open.
fn one(title: &str, command: &str, each: u32) -> String {
    let longer = each + 10;
    format!(
        "echo '# {title}'; began=$(cut -d. -f1 /proc/uptime); {{ timeout -s KILL {each} {command} || {{ echo $? >/tmp/failed; \
         took=$(($(cut -d. -f1 /proc/uptime) - began)); \
         echo \"# {title}: status $(cat /tmp/failed) after $took s of {each}\"; }}; }} 2>&1 | timeout {longer} cat\n{FAILED}\
         echo \"{TOOK}$(($(cut -d. -f1 /proc/uptime) - began)) s: {title}\"\n"
    )
}

/// What the kill tests are told here, they are told in the guest.
const HANDED_ON: &[&str] = &["SEXTANT_KILLS", "SEXTANT_SEED", "SEXTANT_CONTROL_KILLS"];

/// What the guest runs: every test program, whatever came of the one before.
fn script(tests: &Tests, vm: &Vm) -> String {
    let (args, systemd) = (&vm.args, vm.systemd);
    let each = if vm.short { EACH } else { EACH_IN_FULL };
    let mut script = String::from(
        "failed=0\nexport PROPTEST_CASES=32 SEXTANT_ESCAPE_ROUNDS=3 SEXTANT_CNI_KILLS=10 SEXTANT_CNI_STRIDE=9 \
         SEXTANT_NODE_CYCLES=12 SEXTANT_NODE_KILLS=3 SEXTANT_CSI_ALL_BACKENDS=1 SEXTANT_NEEDS_DM=1\n",
    );
    // One processor, which waits for nobody.
    script.push_str(&format!("export {}=1\n", testkit::PARTS));
    for name in HANDED_ON {
        if let Ok(value) = std::env::var(name) {
            script.push_str(&format!("export {name}={value}\n"));
        }
    }
    if systemd {
        // One that boots anew unasked has panicked.
        script.push_str(&format!(
            "again=$(cat {AGAIN} 2>/dev/null)\nbegun=/var/lib/sextant-tests-begun\n\
             [ -e $begun ] && [ -z \"$again\" ] && exit 98\ntouch $begun; sync\n"
        ));
        script.push_str("state=$(systemctl is-system-running --wait); echo \"systemd is $state\"\n");
        script.push_str("[ \"$state\" = running ] || { systemctl --failed --no-pager; failed=1; }\n");
    }
    for (name, path) in &tests.programs {
        script.push_str(&format!("mkdir -p \"$(dirname {path})\"; ln -sf /tests/{name} {path}\n"));
    }
    for name in &tests.names {
        let few = vm.few(name);
        let mut one = one(name, &format!("/tests/{name} {few} {}", args.join(" ")), each);
        if vm.short {
            one = format!(
                "if [ $(cut -d. -f1 /proc/uptime) -lt {ENOUGH} ]; then\n{one}else echo \"{LEFT_OUT}{name}\"; fi\n"
            );
        }
        script.push_str(&if systemd {
            format!("case \"${{again:-{name}}}\" in {name})\n{one};; esac\n")
        } else {
            one
        });
    }
    if systemd {
        // Once more, where a test is about that: systemd goes down as on any machine.
        script.push_str(&format!(
            "if [ -e {AGAIN} ] && [ -z \"$again\" ] && [ $failed = 0 ]; then systemctl reboot; sleep infinity; fi\n"
        ));
    }
    // The guest's kernel has every kind of link: none may be missing.
    let newer = std::env::var_os(NEWER).map(|_| format!("{NEWER}={NEWER_INSIDE}")).unwrap_or_default();
    for (name, filter) in
        WITH_PROGRAMS.iter().filter(|(name, _)| !systemd && tests.names.iter().any(|n| n == name))
    {
        let command =
            format!("env SEXTANT_CNI_ALL_KINDS=1 {newer} /tests/{name} {filter} --ignored --nocapture");
        script.push_str(&one(&format!("{name}, {filter}"), &command, each));
    }
    script.push_str("exit $failed\n");
    script
}
