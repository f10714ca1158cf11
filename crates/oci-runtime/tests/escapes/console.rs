//! The terminal of a container, and what lies where it is mounted.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::bench::Bench;
use crate::{Attacker, Outcome, Test, check, probing, rounds, with_volume};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2025_52565_a_terminal_is_mounted_on_no_file_of_procfs", exchanged),
    ("cve_2025_52565_a_false_ptmx_is_no_terminal", false_ptmx),
];

/// What must not be covered, or be made writable.
const TARGET: &str = "/proc/sys/kernel/core_pattern";

fn exchanged(bench: &Bench) -> Outcome {
    let shared = bench.path("shared");
    fs::create_dir_all(shared.join("pts"))?;
    fs::write(shared.join("console"), "")?;
    symlink(TARGET, shared.join("link"))?;
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    for (name, minor) in [("null", 3), ("zero", 5)] {
        let number = rustix::fs::makedev(1, minor);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            shared.join(name),
            rustix::fs::FileType::CharacterDevice,
            mode,
            number,
        )?;
    }
    // A link at rest first, then one that comes and goes.
    let swap = |from: &str, to: &str| fs::rename(shared.join(from), shared.join(to));
    swap("console", "file")?;
    swap("link", "console")?;
    look(bench, &shared)?;
    swap("console", "link")?;
    swap("file", "console")?;
    check(look(bench, &shared)?, || "it does not start with a console".into())?;
    let attacker = Attacker::start(&shared, &["swap", "console=link"])?;
    let outcome = (0..rounds()).try_for_each(|_| look(bench, &shared).map(drop));
    attacker.end()?;
    outcome
}

/// Runs a container with a terminal and this `/dev`: whether it ran. If so, it looks at what must not be covered.
fn look(bench: &Bench, shared: &std::path::Path) -> Result<bool, Box<dyn std::error::Error>> {
    let mut spec = probing(bench, &["look-to", "/out/answer", TARGET]);
    let mounts = spec["mounts"].as_array_mut().ok_or("none")?;
    mounts.retain(|m| m["destination"] != "/dev");
    mounts.insert(1, json!({"destination": "/dev", "source": shared, "options": ["rbind"]}));
    let out = with_volume(bench, &mut spec, "out", "/out");
    spec["process"]["terminal"] = true.into();
    spec["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    bench.configure(&spec);
    let socket = bench.path("console.sock");
    drop(fs::remove_file(&socket));
    // Nobody takes the terminal, which is there as long as this socket is.
    let listener = UnixListener::bind(&socket)?;
    let done = bench.run(&["run", "-d", "--console-socket", &socket.display().to_string(), &bench.id]);
    if done.code != 0 {
        return Ok(false);
    }
    let answer = out.join("answer");
    bench.until("it has looked", || fs::read_to_string(&answer).is_ok_and(|t| t.ends_with('}')))?;
    let seen: serde_json::Value = serde_json::from_str(&fs::read_to_string(&answer)?)?;
    fs::remove_file(&answer)?;
    drop(listener);
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    let is = &seen["paths"][TARGET];
    check(is["mode"] == "100644" && is["writable"] == false, || is.to_string())?;
    let mounts = seen["mounts"].as_str().unwrap_or_default();
    let covered =
        mounts.lines().find(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with("/proc/sys/")));
    check(covered.is_none(), || format!("{covered:?}"))?;
    Ok(true)
}

fn false_ptmx(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    let socket = bench.path("console.sock");
    let listener = UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    fs::create_dir(root.join("dev/pts"))?;
    for make in [
        (|at| Ok(fs::write(at, "")?)) as fn(&std::path::Path) -> Outcome,
        |at| Ok(symlink("/proc/self/status", at)?),
        |at| Ok(symlink("/dev/null", at)?),
    ] {
        let ptmx = root.join("dev/pts/ptmx");
        make(&ptmx)?;
        let mut spec = probing(bench, &["exit"]);
        spec["mounts"]
            .as_array_mut()
            .ok_or("none")?
            .retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
        spec["process"]["terminal"] = true.into();
        bench.configure(&spec);
        let done = bench.run(&["run", "-d", "--console-socket", &socket.display().to_string(), &bench.id]);
        check(done.code != 0 && done.err.contains("terminal"), || format!("{} {}", done.code, done.err))?;
        check(listener.accept().is_err(), || "a false terminal was sent".into())?;
        fs::remove_file(&ptmx)?;
    }
    Ok(())
}
