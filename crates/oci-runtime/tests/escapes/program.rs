//! The runtime's own file, and what it would load from an image.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::inotify;
use serde_json::{Value, json};

use crate::bench::{Bench, executed};
use crate::{Outcome, Test, check, grant, probing, rounds, with_volume};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2019_5736_a_script_of_the_image_executes_the_runtime_by_exec", exec),
    ("cve_2019_5736_the_entry_point_is_the_runtime", entry),
    ("cve_2019_5736_the_runtime_is_the_loader_of_a_program", loader),
    ("cve_2019_5736_nothing_of_the_image_is_loaded_by_the_runtime", statically),
    ("cve_2019_14271_no_library_or_table_of_the_image_is_opened", nothing_opened),
];

/// A copy of the program that nobody else executes: a file that is executed cannot be written anyway.
fn own_copy(bench: &Bench) -> Result<(PathBuf, Vec<u8>), Box<dyn std::error::Error>> {
    let path = bench.path("sextant-oci");
    fs::remove_file(&path)?;
    fs::copy("/proc/self/exe", &path)?;
    let bytes = fs::read(&path)?;
    Ok((path, bytes))
}

/// Runs an attacker with every right but a user namespace, lets `provoke` bring the runtime in, and checks that the
/// attacker held the runtime's file and could not open it for writing.
fn attacked(
    bench: &Bench,
    provoke: impl Fn(&Path) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<Value, Box<dyn std::error::Error>> {
    let (path, bytes) = own_copy(bench)?;
    let mut spec = probing(bench, &["overwrite", "/probe", "/bin/busybox", "/dynamic", "/bin/dynamic"]);
    let volume = with_volume(bench, &mut spec, "volume", "/v");
    let names: Vec<&str> = kernel::capability::Capability::ALL.iter().map(|c| c.name()).collect();
    grant(&mut spec, &names);
    bench.configure(&spec);
    let before = fs::metadata(&path)?;
    // In the background: nobody on the host executes the file any more, which would keep it from being written.
    let made = bench.run(&["run", "-d", &bench.id]);
    check(made.code == 0, || made.err.clone())?;
    bench.until("the attack has begun", || volume.join(".begun").exists())?;
    let provoked = provoke(&volume);
    fs::write(volume.join(".end"), "")?;
    let file = volume.join(".answer");
    bench.until("the attack has ended", || file.exists())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    provoked?;
    let answer: Value = serde_json::from_slice(&fs::read(file)?)?;
    let after = fs::metadata(&path)?;
    check(answer["written"] == 0, || format!("it was opened for writing: {answer}"))?;
    check(fs::read(&path)? == bytes, || "the runtime's file has changed".into())?;
    check(
        (before.mtime(), before.mtime_nsec(), before.ino())
            == (after.mtime(), after.mtime_nsec(), after.ino()),
        || "the runtime's file was touched".into(),
    )?;
    Ok(answer)
}

/// It was seen, and the file system itself said no: not only for as long as it was executed.
fn refused_for_good(answer: &Value) -> Outcome {
    check(answer["seen"].as_array().is_some_and(|all| !all.is_empty()), || {
        "the attacker never held it".into()
    })?;
    let errors = answer["errors"]
        .as_array()
        .is_some_and(|all| all.contains(&rustix::io::Errno::ROFS.raw_os_error().into()));
    check(errors, || format!("no read-only filesystem said no: {answer}"))
}

/// Makes an executable file in the root.
fn executable(bench: &Bench, name: &str, content: &[u8]) -> Outcome {
    let path = bench.bundle().join("rootfs").join(name);
    fs::write(&path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// The runtime, executed inside, stays until somebody reads its log.
const SCRIPT: &[u8] = b"#!/proc/self/exe --log=/v/log\n";

/// Has the container execute what is the runtime, and lets it go again after a while.
fn hold(bench: &Bench, volume: &Path, program: &str, more: &[&str]) -> Outcome {
    let pipe = volume.join("log");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0) {
        Err(rustix::io::Errno::EXIST) => {}
        other => other?,
    }
    let mut command = bench.command();
    command.args(["exec", &bench.id, program]).args(more).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = executed(|| command.spawn())?;
    // Whoever waits in opening the pipe goes on; on a slow machine it may not have come so far the first time.
    bench.until("the runtime has gone on", || {
        std::thread::sleep(std::time::Duration::from_millis(120));
        let opened = fs::OpenOptions::new().read(true).write(true).open(&pipe);
        opened.is_ok() && child.try_wait().is_ok_and(|status| status.is_some())
    })
}

fn exec(bench: &Bench) -> Outcome {
    executable(bench, "evil", SCRIPT)?;
    executable(bench, "short", b"#!/proc/self/exe --log=/dev/null\n")?;
    let answer = attacked(bench, |volume| {
        (0..4).try_for_each(|_| hold(bench, volume, "/evil", &[]))?;
        // And many that are short.
        (0..rounds().min(30)).for_each(|_| drop(bench.run(&["exec", &bench.id, "/short", "list"])));
        Ok(())
    })?;
    refused_for_good(&answer)
}

fn entry(bench: &Bench) -> Outcome {
    let answer = attacked(bench, |volume| {
        (0..4).try_for_each(|_| hold(bench, volume, "/proc/self/exe", &["--log=/v/log", "list"]))
    })?;
    refused_for_good(&answer)?;
    // Of a container, too: it runs what the runtime is, inside, and harms nobody.
    let path = bench.path("sextant-oci");
    let bytes = fs::read(&path)?;
    bench.configure(&bench.spec(&["/proc/self/exe", "--version"]));
    let done = bench.run(&["run", &bench.id]);
    check(done.out.contains("spec") || done.code != 0, || {
        format!("{} {} {}", done.code, done.out, done.err)
    })?;
    check(fs::read(&path)? == bytes, || "the runtime's file has changed".into())
}

fn loader(bench: &Bench) -> Outcome {
    // A dynamic program of the host whose loader is said to be the runtime.
    let mut bytes = fs::read("/usr/bin/true")?;
    let own: &[u8] = b"/lib64/ld-linux";
    let at =
        bytes.windows(own.len()).position(|w| w == own).ok_or("/usr/bin/true is not dynamic (x86-64)")?;
    let wanted = b"/proc/self/exe\0";
    bytes[at..at + wanted.len()].copy_from_slice(wanted);
    executable(bench, "dynamic", &bytes)?;
    let root = bench.bundle().join("rootfs");
    fs::create_dir_all(root.join("lib64"))?;
    symlink("/proc/self/exe", root.join("lib64/ld-linux-x86-64.so.2"))?;
    fs::create_dir_all(root.join("bin"))?;
    fs::copy("/usr/bin/true", root.join("bin/dynamic"))?;
    let answer = attacked(bench, |volume| {
        for program in ["/dynamic", "/bin/dynamic"] {
            // The runtime takes the program's arguments for its own.
            (0..3).try_for_each(|_| hold(bench, volume, program, &["--log=/v/log", "list"]))?;
        }
        Ok(())
    })?;
    check(answer["written"] == 0, || answer.to_string())
}

fn statically(bench: &Bench) -> Outcome {
    // Neither a loader nor a library: PT_INTERP is program header type 3, DT_NEEDED tag 1 of PT_DYNAMIC (type 2).
    let (path, bytes) = own_copy(bench)?;
    let word = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0_usize, |all, &byte| all << 8 | usize::from(byte))
    };
    check(&bytes[..5] == b"\x7fELF\x02", || format!("{} is no ELF file of 64 bits", path.display()))?;
    let (first, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    let mut dynamic = 0;
    for at in (0..count).map(|n| first + n * size) {
        check(word(at, 4) != 3, || "it has an interpreter".into())?;
        if word(at, 4) == 2 {
            let (from, length) = (word(at + 8, 8), word(at + 32, 8));
            dynamic += 1;
            for entry in (from..from + length).step_by(16) {
                check(word(entry, 8) != 1, || "it needs a library".into())?;
            }
        }
    }
    check(count > 3 && dynamic <= 1, || format!("{count} program headers, {dynamic} of them dynamic"))
}

/// The file that was opened, of what is watched.
fn opened(watch: &std::os::fd::OwnedFd) -> Vec<String> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 8192];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut names = Vec::new();
    while let Ok(event) = reader.next() {
        names.push(event.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()));
    }
    names
}

fn nothing_opened(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    for dir in [
        "lib/x86_64-linux-gnu",
        "lib64",
        "usr/lib/x86_64-linux-gnu",
        "usr/share/locale",
        "usr/share/zoneinfo",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    for file in [
        "etc/nsswitch.conf",
        "etc/ld.so.preload",
        "etc/ld.so.cache",
        "etc/resolv.conf",
        "etc/host.conf",
        "etc/localtime",
        "etc/group",
        "etc/gai.conf",
        "lib/x86_64-linux-gnu/libnss_files.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/x86_64-linux-gnu/libnss_dns.so.2",
    ] {
        fs::write(root.join(file), "not for the runtime")?;
    }
    fs::write(root.join("etc/passwd"), "u:x:1000:1000::/home/u:/bin/sh\n")?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    for dir in [
        "etc",
        "lib",
        "lib64",
        "lib/x86_64-linux-gnu",
        "usr",
        "usr/lib",
        "usr/lib/x86_64-linux-gnu",
        "usr/share",
    ] {
        inotify::add_watch(&watch, root.join(dir), inotify::WatchFlags::OPEN)?;
    }
    let mut spec = probing(bench, &["exit"]);
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5]});
    spec["hostname"] = "inside".into();
    bench.configure(&spec);
    bench.run(&["run", &bench.id]).ok()?;
    // The one file it reads, as bytes, for the user's home.
    let files = |names: Vec<String>| {
        names.into_iter().filter(|n| !n.is_empty()).collect::<std::collections::BTreeSet<_>>()
    };
    let seen = files(opened(&watch));
    check(seen.iter().all(|name| name == "passwd") && seen.len() == 1, || format!("opened: {seen:?}"))?;
    let mut sleeper = bench.sleeper();
    crate::with_probe(&mut sleeper);
    bench.configure(&sleeper);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    bench.until("two run", || bench.processes().len() == 2)?;
    opened(&watch);
    bench.run(&["exec", "--user", "1000:1000", &bench.id, "/probe", "probe", "exit"]).ok()?;
    let seen = files(opened(&watch));
    check(seen.iter().all(|name| name == "passwd") && seen.len() == 1, || {
        format!("opened by exec: {seen:?}")
    })?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}
