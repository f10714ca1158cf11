//! What runs inside: one word says what it does; answers go to standard output as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

pub(crate) fn run(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        ["fds"] => fds(),
        ["fds-to", file] => return write(file, &fds()),
        ["look", paths @ ..] => look(paths),
        ["look-to", file, paths @ ..] => return write(file, &look(paths)),
        ["swap", pairs @ ..] => swap(pairs),
        ["overwrite", allowed @ ..] => overwrite(allowed),
        ["trace"] => trace(foreign),
        ["hunt"] => trace(excess),
        ["cgroup"] => cgroup(),
        ["exit"] => return ExitCode::SUCCESS,
        other => json!({"unknown": other}),
    };
    println!("{answer}");
    ExitCode::SUCCESS
}

fn write(file: &str, answer: &Value) -> ExitCode {
    match fs::write(file, answer.to_string()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{file}: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Every descriptor of this process and what it is.
fn fds() -> Value {
    let mut all = BTreeMap::new();
    for number in 0..4096 {
        if let Ok(link) = fs::read_link(format!("/proc/self/fd/{number}")) {
            all.insert(number.to_string(), link.display().to_string());
        }
    }
    json!(all)
}

/// What this process is, and what some paths are.
fn look(paths: &[&str]) -> Value {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut answer = json!({
        "cwd": fs::read_link("/proc/self/cwd").unwrap_or_default(),
        "home": std::env::var("HOME").unwrap_or_default(),
        "status": text("/proc/self/status"), "mounts": text("/proc/self/mountinfo"), "keyring": kernel::keyring::session().unwrap_or_else(|e| e.to_string()),
        "score": text("/proc/self/oom_score_adj").trim(),
        "procfs": rustix::fs::statfs("/proc").is_ok_and(|s| s.f_type == rustix::fs::PROC_SUPER_MAGIC),
    });
    for path in paths {
        let Ok(meta) = fs::symlink_metadata(path) else {
            answer["paths"][path] = Value::Null;
            continue;
        };
        // Nobody waits for a pipe.
        let text = if meta.is_file() { fs::read(path).ok() } else { None };
        answer["paths"][path] = json!({
            "mode": format!("{:o}", meta.mode()), "uid": meta.uid(), "gid": meta.gid(),
            "number": [rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())],
            "text": text.map(|t| String::from_utf8_lossy(&t[..t.len().min(200)]).into_owned()),
            "writable": rustix::fs::open(*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).is_ok()
                || (meta.is_dir() && fs::create_dir(Path::new(path).join("sextant-made")).is_ok()),
            "entries": fs::read_dir(path).map(Iterator::count).ok(),
        });
    }
    answer
}

/// Exchanges two names of the volume at `/v`, each pair in turn, until it is killed.
fn swap(pairs: &[&str]) -> Value {
    fs::write("/v/.begun", "").expect("the volume");
    loop {
        for pair in pairs {
            let (a, b) = pair.split_once('=').expect("a pair");
            let (a, b) = (format!("/v/{a}"), format!("/v/{b}"));
            let _ = rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
        }
    }
}

/// For a while: takes hold of what every other process here executes and has mapped, and opens it for writing by each way
/// there is, long after that process has ended too. What `allowed` names is the container's own.
fn overwrite(allowed: &[&str]) -> Value {
    fs::write("/v/.begun", "").expect("the volume");
    let mut held: Vec<OwnedFd> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut inodes = BTreeSet::new();
    let (mut errors, mut written) = (BTreeSet::new(), 0_u32);
    // Between a look and an open a process may have executed something else: what is open says itself what it is.
    let own = |fd: &OwnedFd| name(fd).is_none_or(|name| allowed.contains(&name.as_str()));
    let mut attempt = |fd: Result<OwnedFd, Errno>| match fd {
        Ok(fd) if own(&fd) => {}
        Ok(fd) => {
            written += 1;
            let _ = rustix::io::write(&fd, b"#!/bin/sh\n");
        }
        Err(errno) => drop(errors.insert(errno.raw_os_error())),
    };
    let mut end = None;
    while end.is_none_or(|end: Instant| Instant::now() < end) {
        if end.is_none() && Path::new("/v/.end").exists() {
            end = Some(Instant::now() + Duration::from_millis(300));
        }
        for pid in others() {
            let maps = fs::read_dir(format!("/proc/{pid}/map_files")).into_iter().flatten().flatten();
            let exe = [format!("/proc/{pid}/exe").into()];
            for path in exe.into_iter().chain(maps.map(|e| e.path())) {
                let Ok(handle) = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                else {
                    continue;
                };
                let Some(link) = name(&handle).filter(|link| !allowed.contains(&link.as_str())) else {
                    continue;
                };
                attempt(rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()));
                let inode = rustix::fs::fstat(&handle).map_or(0, |s| s.st_ino);
                seen.insert(link);
                if inodes.insert(inode) {
                    held.push(handle);
                }
            }
        }
        for handle in &held {
            let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
            for flags in [OFlags::WRONLY, OFlags::WRONLY | OFlags::TRUNC] {
                attempt(rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()));
            }
        }
    }
    let answer = json!({"seen": seen, "errors": errors, "written": written});
    fs::write("/v/.next", answer.to_string()).expect("the volume");
    fs::rename("/v/.next", "/v/.answer").expect("the volume");
    answer
}

/// The path of what is open.
fn name(fd: &OwnedFd) -> Option<String> {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    Some(link.display().to_string())
}

/// Every process here but this one.
fn others() -> Vec<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(|&pid| pid != own).collect()
}

/// Until its standard input ends: looks into every other process with `look`. Tells what it found, and how many processes
/// it met.
fn trace(look: impl Fn(u32, &mut BTreeSet<String>)) -> Value {
    println!("begun");
    let end = std::thread::spawn(|| drop(std::io::stdin().read_to_end(&mut Vec::new())));
    let (mut met, mut found) = (BTreeSet::new(), BTreeSet::new());
    while !end.is_finished() {
        for pid in others() {
            if met.insert(pid) {
                println!("met");
            }
            look(pid, &mut found);
        }
    }
    json!({"met": met.len(), "found": found})
}

/// What can be read of a process that is not of the container.
fn foreign(pid: u32, found: &mut BTreeSet<String>) {
    if let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe"))
        && exe != Path::new("/bin/busybox")
    {
        found.insert(format!("exe {}", exe.display()));
    }
    for name in ["cwd", "root"] {
        if let Ok(link) = fs::read_link(format!("/proc/{pid}/{name}"))
            && link != Path::new("/")
        {
            found.insert(format!("{name} {}", link.display()));
        }
    }
    for number in 3..40 {
        if let Ok(link) = fs::read_link(format!("/proc/{pid}/fd/{number}")) {
            found.insert(format!("descriptor {number} {}", link.display()));
        }
    }
}

/// What a process has that this one has not, and could take from it by tracing it.
fn excess(pid: u32, found: &mut BTreeSet<String>) {
    let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let (own, other) = (status("self"), status(&pid.to_string()));
    // One that has ended meanwhile has nothing.
    if other.is_empty() || crate::status(&other, "State").starts_with('Z') {
        return;
    }
    for line in ["CapPrm", "CapEff", "CapBnd", "Seccomp"] {
        let (own, other) = (crate::status(&own, line), crate::status(&other, line));
        if own != other {
            found.insert(format!("{line} {other} where {own} is due"));
        }
    }
    for name in ["mnt", "net", "ipc", "uts"] {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}"));
        if let Ok(other) = namespace(&pid.to_string())
            && namespace("self").is_ok_and(|own| own != other)
        {
            found.insert(format!("a foreign namespace {name}"));
        }
    }
    for number in 3..64 {
        if let Ok(link) = fs::read_link(format!("/proc/{pid}/fd/{number}")) {
            let link = link.display().to_string();
            if !link.starts_with("socket:") && !link.starts_with("pipe:") {
                found.insert(format!("descriptor {number} {link}"));
            }
        }
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    if String::from_utf8_lossy(&environment).contains("SXTEST_SECRET") {
        found.insert("the caller's environment".to_owned());
    }
}

/// The way out by the program that cgroup v1 runs when a cgroup is empty.
fn cgroup() -> Value {
    use rustix::mount::{MountFlags, mount};
    let mut written = Vec::new();
    let mut errors = BTreeSet::new();
    let mut release = |dir: &Path, written: &mut Vec<String>| {
        for name in ["release_agent", "notify_on_release", "cgroup.procs"] {
            let path = dir.join(name);
            match rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) if name == "release_agent" => {
                    if rustix::io::write(&file, b"/sextant-must-not-be").is_ok() {
                        written.push(path.display().to_string());
                    }
                }
                Ok(_) => written.push(path.display().to_string()),
                Err(e) => drop(errors.insert(format!("{e:?}"))),
            }
        }
    };
    for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        release(&entry.path(), &mut written);
    }
    let mounts = |stage: &str| {
        let _ = fs::create_dir("/tmp/cgrp");
        ["memory", "rdma", "cpu", "devices", "pids"]
            .iter()
            .map(|name| {
                let option = std::ffi::CString::new(*name).expect("no NUL");
                let done = mount("cgroup", "/tmp/cgrp", "cgroup", MountFlags::empty(), option.as_c_str());
                format!("{stage} {name} {done:?}")
            })
            .collect::<Vec<_>>()
    };
    let plain = mounts("plain");
    release(Path::new("/tmp/cgrp"), &mut written);
    let flags = rustix::thread::UnshareFlags::NEWUSER
        | rustix::thread::UnshareFlags::NEWNS
        | rustix::thread::UnshareFlags::NEWCGROUP;
    let unshared = kernel::namespace::unshare(flags);
    let inside = mounts("inside");
    if unshared.is_ok() {
        let agent = Path::new("/tmp/cgrp/release_agent");
        // One that is there: where nothing could be mounted it would be a file of the container's own.
        let opened = fs::OpenOptions::new().write(true).open(agent);
        if opened.and_then(|mut file| file.write_all(b"/sextant-must-not-be")).is_ok() {
            written.push("release_agent of a new namespace".into());
        }
    }
    json!({"written": written, "errors": errors, "plain": plain, "unshared": format!("{unshared:?}"), "inside": inside})
}
