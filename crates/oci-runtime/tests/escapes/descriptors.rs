//! Nothing that is open in whoever calls is open inside, unless it is asked for.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use kernel::process::{CStrings, Program, spawn};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check, probing, with_probe, with_volume};

pub(crate) const TESTS: &[Test] = &[
    ("no_descriptor_of_the_caller_is_open_inside", first_process),
    ("no_descriptor_of_the_caller_is_open_in_a_process_that_joins", joined),
    ("no_descriptor_of_the_caller_is_open_in_a_hook", hooks),
    ("no_descriptor_is_open_beside_those_of_a_seccomp_agent", agent),
    ("cve_2024_21626_no_descriptor_is_a_working_directory", working_directory),
    ("cve_2024_21626_no_descriptor_is_the_way_to_a_program", programs),
];

/// What a careless caller may have open: the host in every shape.
fn careless() -> Result<Vec<OwnedFd>, Box<dyn std::error::Error>> {
    let open = |path: &str, flags: OFlags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut all = vec![
        open("/", OFlags::PATH | OFlags::DIRECTORY)?,
        open("/", OFlags::RDONLY | OFlags::DIRECTORY)?,
        open("/proc", OFlags::PATH)?,
        open("/proc/self", OFlags::PATH)?,
        open("/proc/self/ns/mnt", OFlags::RDONLY)?,
        open("/proc/self/ns/pid", OFlags::RDONLY)?,
        open("/sys/fs/cgroup", OFlags::RDONLY)?,
        open("/etc/passwd", OFlags::RDONLY)?,
        open("/dev/null", OFlags::RDWR)?,
        kernel::process::pidfd(std::process::id() as i32)?,
        kernel::mount::clone_tree(rustix::fs::CWD, c"/etc", false)?,
        rustix::fs::memfd_create("careless", rustix::fs::MemfdFlags::CLOEXEC)?,
        one,
        other,
        read,
        write,
    ];
    for _ in 0..2 {
        all.push(all[0].try_clone()?);
    }
    Ok(all)
}

/// Runs the command with all of them open and not close-on-exec; its code, and what it printed.
fn call(bench: &Bench, args: &[&str]) -> Result<(i32, String), Box<dyn std::error::Error>> {
    let program = fs::File::open(fs::canonicalize("/proc/self/exe")?)?;
    let out = bench.path("printed");
    let (file, null) = (fs::File::create(&out)?, fs::File::open("/dev/null")?);
    let more = careless()?;
    let mut fds: Vec<BorrowedFd<'_>> = vec![null.as_fd(), file.as_fd(), file.as_fd()];
    fds.extend(more.iter().map(AsFd::as_fd));
    let root = bench.root().display().to_string();
    let mut words = vec!["sextant-oci", "--root", &root];
    words.extend(args);
    let (args, env) = (CStrings::new(words)?, CStrings::new([format!("BENCH={}", bench.id)])?);
    let code = spawn(&Program { file: program.as_fd(), args, env, fds })?.wait()?.code();
    Ok((code, fs::read_to_string(out)?))
}

/// What is open inside must be the standard streams and `more` from 3 on.
fn only(answer: &Value, more: usize, what: &str) -> Outcome {
    let open = answer.as_object().ok_or_else(|| format!("{what}: {answer}"))?;
    let wanted: Vec<String> = (0..3 + more).map(|n| n.to_string()).collect();
    check(wanted.len() == open.len() && wanted.iter().all(|n| open.contains_key(n)), || {
        format!("{what}: {answer}")
    })
}

fn answer(bench: &Bench, path: &Path, what: &str) -> Result<Value, Box<dyn std::error::Error>> {
    bench
        .until("it has answered", || fs::read_to_string(path).is_ok_and(|text| text.ends_with('}')))
        .map_err(|e| format!("{what}: {e}"))?;
    let answer = serde_json::from_str(&fs::read_to_string(path)?)?;
    fs::remove_file(path)?;
    Ok(answer)
}

/// The ways to say how many are to be inherited.
const PRESERVED: [(usize, &str); 3] =
    [(0, "--preserve-fds=0"), (1, "--preserve-fds=1"), (5, "--preserve-fds=5")];

fn first_process(bench: &Bench) -> Outcome {
    let bundle = bench.bundle().display().to_string();
    let socket = bench.path("console.sock");
    for terminal in [false, true] {
        let mut spec = probing(bench, &["fds-to", "/out/fds"]);
        let out = with_volume(bench, &mut spec, "out", "/out").join("fds");
        spec["process"]["terminal"] = terminal.into();
        bench.configure(&spec);
        for (more, preserve) in PRESERVED {
            for way in ["run", "run -d", "create"] {
                // A terminal in the foreground would be this test's own.
                if terminal && way == "run" {
                    continue;
                }
                let what = format!("{way}, {preserve}, terminal {terminal}");
                drop(fs::remove_file(&socket));
                let listener = UnixListener::bind(&socket)?;
                let path = socket.display().to_string();
                let mut args: Vec<&str> = way.split(' ').collect();
                args.extend(["--bundle", &bundle, preserve]);
                if terminal {
                    args.extend(["--console-socket", &path]);
                }
                args.push(&bench.id);
                let (code, text) = call(bench, &args)?;
                check(code == 0, || format!("{what}: {code} {text}"))?;
                if way == "create" {
                    let (code, text) = call(bench, &["start", &bench.id])?;
                    check(code == 0, || format!("{what}: {code} {text}"))?;
                }
                only(&answer(bench, &out, &what)?, more, &what)?;
                drop(listener);
                if way != "run" {
                    bench.run(&["delete", "-f", &bench.id]).ok()?;
                }
            }
        }
    }
    Ok(())
}

fn joined(bench: &Bench) -> Outcome {
    let socket = bench.path("console.sock");
    let mut spec = bench.sleeper();
    with_probe(&mut spec);
    let out = with_volume(bench, &mut spec, "out", "/out").join("fds");
    bench.configure(&spec);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    for (more, preserve) in PRESERVED {
        for options in [&["exec"][..], &["exec", "-d"], &["exec", "-u", "1000:1000"], &["exec", "-t", "-d"]] {
            let what = format!("{options:?}, {preserve}");
            drop(fs::remove_file(&socket));
            let listener = UnixListener::bind(&socket)?;
            let path = socket.display().to_string();
            let mut args = options.to_vec();
            if options.contains(&"-t") {
                args.extend(["--console-socket", &path]);
            }
            args.extend([preserve, &bench.id, "/probe", "probe"]);
            // Another user may not write to the volume.
            let printed = options.contains(&"-u");
            args.extend(if printed { &["fds"][..] } else { &["fds-to", "/out/fds"][..] });
            let (code, text) = call(bench, &args)?;
            check(code == 0, || format!("{what}: {code} {text}"))?;
            let seen = if printed { serde_json::from_str(&text)? } else { answer(bench, &out, &what)? };
            only(&seen, more, &what)?;
            drop(listener);
        }
    }
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn hooks(bench: &Bench) -> Outcome {
    let mut spec = probing(bench, &["fds-to", "/out/first"]);
    let out = with_volume(bench, &mut spec, "out", "/out");
    let host = fs::canonicalize("/proc/self/exe")?;
    let before = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    for kind in before {
        let args = json!(["hook", "probe", "fds-to", out.join(kind)]);
        spec["hooks"][kind] = json!([{"path": host, "args": args}]);
    }
    spec["hooks"]["startContainer"] =
        json!([{"path": "/probe", "args": ["hook", "probe", "fds-to", "/out/startContainer"]}]);
    bench.configure(&spec);
    let bundle = bench.bundle().display().to_string();
    for preserve in ["--preserve-fds=0", "--preserve-fds=3"] {
        let (code, text) = call(bench, &["create", "--bundle", &bundle, preserve, &bench.id])?;
        check(code == 0, || text)?;
        let (code, text) = call(bench, &["start", &bench.id])?;
        check(code == 0, || text)?;
        let first = answer(bench, &out.join("first"), "the program")?;
        only(&first, usize::from(preserve.ends_with('3')) * 3, "the program")?;
        let (code, text) = call(bench, &["delete", "-f", &bench.id])?;
        check(code == 0, || text)?;
        for kind in before.into_iter().chain(["startContainer"]) {
            only(&answer(bench, &out.join(kind), kind)?, 0, kind)?;
        }
    }
    Ok(())
}

fn agent(bench: &Bench) -> Outcome {
    let path = bench.path("agent.sock");
    let mut spec = probing(bench, &["fds-to", "/out/fds"]);
    let out = with_volume(bench, &mut spec, "out", "/out").join("fds");
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    });
    let bundle = bench.bundle().display().to_string();
    for new_privileges in [true, false] {
        spec["process"]["noNewPrivileges"] = (!new_privileges).into();
        bench.configure(&spec);
        drop(fs::remove_file(&path));
        // It takes the connections, and what came with them stays in them.
        let _listener = UnixListener::bind(&path)?;
        let (code, text) = call(bench, &["create", "--bundle", &bundle, &bench.id])?;
        check(code == 0, || text)?;
        let (code, text) = call(bench, &["start", &bench.id])?;
        check(code == 0, || text)?;
        only(&answer(bench, &out, "the program")?, 0, &format!("new privileges: {new_privileges}"))?;
        bench.run(&["delete", "-f", &bench.id]).ok()?;
        let mut sleeper = bench.sleeper();
        with_probe(&mut sleeper);
        with_volume(bench, &mut sleeper, "out", "/out");
        sleeper["linux"]["seccomp"] = spec["linux"]["seccomp"].clone();
        bench.configure(&sleeper);
        bench.run(&["run", "-d", &bench.id]).ok()?;
        let (code, text) = call(bench, &["exec", &bench.id, "/probe", "probe", "fds-to", "/out/fds"])?;
        check(code == 0, || text)?;
        only(&answer(bench, &out, "exec")?, 0, &format!("exec, new privileges: {new_privileges}"))?;
        bench.run(&["delete", "-f", &bench.id]).ok()?;
    }
    Ok(())
}

/// Numbers beyond all that `call` and the runtime have open.
fn numbers() -> Result<std::ops::Range<i32>, Box<dyn std::error::Error>> {
    let highest = careless()?.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(0);
    Ok(3..highest + 24)
}

fn working_directory(bench: &Bench) -> Outcome {
    let bundle = bench.bundle().display().to_string();
    let (mut inside, mut refused) = (0, 0);
    let mut judge = |what: String, (code, text): (i32, String)| match code {
        0 => {
            inside += 1;
            let seen: Value = serde_json::from_str(&text).map_err(|e| format!("{what}: {e}: {text}"))?;
            check(seen["cwd"] == "/", || format!("{what}: the working directory is {}", seen["cwd"]))?;
            // And the way up leads no further.
            let up = &seen["paths"]["../../../../bin"];
            check(up["entries"] == seen["paths"]["/bin"]["entries"] && !up.is_null(), || {
                format!("{what}: {}", seen["paths"])
            })
        }
        _ => {
            refused += 1;
            check(text.contains("working directory"), || format!("{what}: {code} {text}"))
        }
    };
    let look = ["look", "../../../../bin", "/bin"];
    for number in numbers()? {
        for (path, preserve) in [
            (format!("/proc/self/fd/{number}"), "--preserve-fds=0"),
            (format!("/proc/thread-self/fd/{number}/.."), "--preserve-fds=0"),
            (format!("/proc/self/fd/{number}"), "--preserve-fds=2"),
        ] {
            let mut spec = probing(bench, &look);
            spec["process"]["cwd"] = path.clone().into();
            bench.configure(&spec);
            judge(
                format!("run, {path}, {preserve}"),
                call(bench, &["run", "--bundle", &bundle, preserve, &bench.id])?,
            )?;
        }
    }
    let mut sleeper = bench.sleeper();
    with_probe(&mut sleeper);
    bench.configure(&sleeper);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    for number in numbers()? {
        for preserve in ["--preserve-fds=0", "--preserve-fds=2"] {
            let path = format!("/proc/self/fd/{number}");
            let mut args = vec!["exec", "--cwd", &path, preserve, &bench.id, "/probe", "probe"];
            args.extend(look);
            judge(format!("exec, {path}, {preserve}"), call(bench, &args)?)?;
        }
    }
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    check(inside + refused > 100 && refused > 0, || format!("{inside} inside, {refused} refused"))
}

fn programs(bench: &Bench) -> Outcome {
    let bundle = bench.bundle().display().to_string();
    // This program, which needs no loader, by its path on the host; it is not in the container's root.
    let host = fs::canonicalize("/proc/self/exe")?.display().to_string();
    for number in numbers()? {
        let path = format!("/proc/self/fd/{number}{host}");
        bench.configure(&bench.spec(&[&path, "probe", "exit"]));
        let (code, text) = call(bench, &["run", "--bundle", &bundle, &bench.id])?;
        check(code != 0, || format!("{path} was executed: {text}"))?;
    }
    let mut sleeper = bench.sleeper();
    with_probe(&mut sleeper);
    bench.configure(&sleeper);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    bench.run(&["exec", &bench.id, "/probe", "probe", "exit"]).ok()?;
    for number in numbers()? {
        let path = format!("/proc/self/fd/{number}{host}");
        let (code, text) = call(bench, &["exec", &bench.id, &path, "probe", "exit"])?;
        check(code != 0, || format!("{path} was executed: {text}"))?;
    }
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}
