//! Capabilities, cgroups, and sockets.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check, grant, probing, push, status, with_probe};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2022_24769_a_container_has_no_inheritable_capabilities", by_default),
    ("cve_2022_29162_exec_with_more_capabilities_inherits_none", exec),
    ("cve_2025_27612_exec_has_no_more_than_its_container", no_more),
    ("cve_2022_0492_no_release_agent_is_written", release_agent),
    ("cve_2023_25809_cgroups_of_the_user_cannot_be_written", rootless),
    ("cve_2020_15257_a_container_waits_on_a_socket_in_a_directory_of_root", socket),
];

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const NONE: &str = "0000000000000000";

/// The five sets that a container's process or one that joins it says it has.
fn sets(text: &str) -> Vec<String> {
    SETS.iter().map(|name| status(text, name).to_owned()).collect()
}

fn by_default(bench: &Bench) -> Outcome {
    // What `spec` writes, and what the library's default is.
    let dir = bench.path("written");
    fs::create_dir(&dir)?;
    bench.run(&["spec", "--bundle", &dir.display().to_string()]).ok()?;
    let written: Value = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
    let default = serde_json::to_value(oci_runtime::default_spec::container())?;
    for spec in [&written, &default] {
        let capabilities = &spec["process"]["capabilities"];
        check(capabilities["bounding"].as_array().is_some_and(|set| !set.is_empty()), || spec.to_string())?;
        for set in ["inheritable", "ambient"] {
            check(capabilities[set].as_array().is_none_or(Vec::is_empty), || {
                format!("{set}: {capabilities}")
            })?;
        }
    }
    let mut spec = probing(bench, &["look"]);
    spec["process"]["capabilities"] = default["process"]["capabilities"].clone();
    bench.configure(&spec);
    let seen = bench.run(&["run", &bench.id]).ok()?.json()?;
    let sets = sets(seen["status"].as_str().unwrap_or_default());
    let fourteen = "00000000a80425fb";
    check(sets == [NONE, fourteen, fourteen, fourteen, NONE], || format!("{sets:?}"))
}

fn exec(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    for user in ["0", "1000"] {
        let args = ["exec", "--cap", "CAP_CHOWN", "--user", user, &bench.id, "cat", "/proc/self/status"];
        let done = bench.run(&args).ok()?;
        let sets = sets(&done.out);
        check(sets[0] == NONE && sets[4] == NONE && sets[3] == "0000000000000021", || {
            format!("{user}: {sets:?}")
        })?;
        check(done.err.is_empty(), || done.err.clone())?;
    }
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn no_more(bench: &Bench) -> Outcome {
    // Its container has none at all, and says so by silence or by empty lists.
    for capabilities in [Value::Null, json!({}), json!({"bounding": [], "inheritable": [], "ambient": []})] {
        let mut spec = bench.sleeper();
        if capabilities.is_null() {
            spec["process"].as_object_mut().ok_or("no process")?.remove("capabilities");
        } else {
            spec["process"]["capabilities"] = capabilities.clone();
        }
        bench.configure(&spec);
        bench.run(&["run", "-d", &bench.id]).ok()?;
        let text = bench.run(&["exec", &bench.id, "cat", "/proc/self/status"]).ok()?.out;
        check(sets(&text) == [NONE; 5], || format!("{capabilities}: {:?}", sets(&text)))?;
        let process =
            json!({"args": ["/bin/cat", "/proc/self/status"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        let file = bench.path("process.json");
        fs::write(&file, process.to_string())?;
        let text = bench.run(&["exec", "-p", &file.display().to_string(), &bench.id]).ok()?.out;
        check(sets(&text) == [NONE; 5], || format!("{capabilities}, a process file: {:?}", sets(&text)))?;
        bench.run(&["delete", "-f", &bench.id]).ok()?;
    }
    Ok(())
}

/// Whether these are cgroups of v2 alone.
fn unified() -> bool {
    kernel::cgroup::layout().is_ok_and(|layout| layout == kernel::cgroup::Layout::Unified)
}

/// The program that each v1 hierarchy of the host runs.
fn agents() -> Vec<(PathBuf, String)> {
    let all = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let files = all.map(|e| e.path().join("release_agent"));
    files.filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text))).collect()
}

fn release_agent(bench: &Bench) -> Outcome {
    let before = agents();
    // v2 has no such file: there a hierarchy of v1 must not be had either.
    check(before.is_empty() == unified(), || format!("this machine has odd cgroups: {before:?}"))?;
    let default = serde_json::to_value(oci_runtime::default_spec::container())?;
    for (name, filtered, own_view) in
        [("default", true, true), ("without a filter", false, true), ("with the host's view", false, false)]
    {
        let mut spec = probing(bench, &["cgroup"]);
        spec["process"]["capabilities"] = default["process"]["capabilities"].clone();
        for mount in default["mounts"].as_array().ok_or("no mounts")? {
            if mount["destination"].as_str().is_some_and(|to| to.starts_with("/sys")) {
                push(&mut spec, "/mounts", mount.clone());
            }
        }
        if own_view {
            push(&mut spec, "/linux/namespaces", json!({"type": "cgroup"}));
        }
        if filtered {
            spec["linux"]["seccomp"] = default["linux"]["seccomp"].clone();
        }
        bench.configure(&spec);
        let done = bench.run(&["run", &bench.id]);
        let answer = done.json().map_err(|e| format!("{name}: {e} {}", done.err))?;
        check(answer["written"] == json!([]), || format!("{name}: {answer}"))?;
        let plain = answer["plain"].as_array().ok_or("no answer")?;
        check(plain.iter().all(|t| t.as_str().is_some_and(|t| t.contains("Err("))), || {
            format!("{name}: {answer}")
        })?;
        check(!filtered || answer["unshared"] != "Ok(())", || format!("{name}: {answer}"))?;
    }
    check(agents() == before, || format!("{:?}", agents()))
}

/// Nobody.
const USER: u32 = 65534;

fn rootless(bench: &Bench) -> Outcome {
    use std::os::unix::process::CommandExt;
    let name = format!("{}-own", bench.id);
    // A cgroup that the user may write to, as a session manager gives one.
    let trees: &[&str] = if unified() { &["."] } else { &["pids", "cpu", "memory"] };
    let own: Vec<PathBuf> =
        trees.iter().map(|tree| Path::new("/sys/fs/cgroup").join(tree).join(&name)).collect();
    let made: Vec<&PathBuf> = own.iter().filter(|path| fs::create_dir(path).is_ok()).collect();
    check(!made.is_empty(), || format!("no cgroup can be made: {own:?}"))?;
    let outcome = (|| -> Outcome {
        for path in &made {
            std::os::unix::fs::chown(path, Some(USER), Some(USER))?;
        }
        let top = bench.path("");
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755))?;
        let root = bench.bundle().join("rootfs");
        for dir in [top, bench.bundle(), root.clone()] {
            std::os::unix::fs::chown(dir, Some(USER), Some(USER))?;
        }
        for name in ["dev", "proc", "tmp", "sys", "etc", "bin"] {
            std::os::unix::fs::chown(root.join(name), Some(USER), Some(USER))?;
        }
        fs::write(root.join("probe"), "")?;
        let program = bench.path("sextant-oci");
        fs::remove_file(&program)?;
        fs::copy("/proc/self/exe", &program)?;
        let dir = bench.path("written");
        fs::create_dir(&dir)?;
        std::os::unix::fs::chown(&dir, Some(USER), Some(USER))?;
        // What it writes for this user, with and without a view of cgroups of its own.
        let mut command = bench.command();
        command.args(["spec", "--rootless", "--bundle", &dir.display().to_string()]).uid(USER).gid(USER);
        bench.run_command(&mut command).ok()?;
        let written: Value = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
        for own_view in [true, false] {
            let mut spec = written.clone();
            spec["process"]["terminal"] = false.into();
            spec["root"]["readonly"] = false.into();
            let paths: Vec<String> = made.iter().map(|p| p.display().to_string()).collect();
            let mut words = vec!["/probe", "probe", "look", "/sys/fs/cgroup"];
            words.extend(paths.iter().map(String::as_str));
            spec["process"]["args"] = json!(words);
            // Bound from where this user gets to.
            push(
                &mut spec,
                "/mounts",
                json!({"destination": "/probe", "source": program, "options": ["bind", "ro"]}),
            );
            if !own_view {
                spec["linux"]["namespaces"].as_array_mut().ok_or("none")?.retain(|n| n["type"] != "cgroup");
                spec["mounts"].as_array_mut().ok_or("none")?.retain(|m| m["type"] != "cgroup");
            }
            bench.configure(&spec);
            let mut command = bench.command();
            command.args(["run", &bench.id]).uid(USER).gid(USER);
            let done = bench.run_command(&mut command);
            let answer = done.json().map_err(|e| format!("own view {own_view}: {e}: {}", done.err))?;
            for path in ["/sys/fs/cgroup"].into_iter().chain(paths.iter().map(String::as_str)) {
                let seen = &answer["paths"][path];
                check(seen.is_null() || seen["writable"] == false, || {
                    format!("own view {own_view}: {path} {seen}")
                })?;
            }
            check(own_view || !answer["paths"][&paths[0]].is_null(), || {
                format!("the attack has no object: {answer}")
            })?;
        }
        Ok(())
    })();
    for path in own.iter().filter(|p| p.exists()) {
        for entry in fs::read_dir(path)?.flatten().filter(|e| e.path().is_dir()) {
            fs::remove_dir(entry.path())?;
        }
        fs::remove_dir(path)?;
    }
    outcome
}

fn socket(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    bench.run(&["create", &bench.id]).ok()?;
    let all = fs::read_to_string("/proc/net/unix")?;
    let root = bench.root().display().to_string();
    let ours: Vec<&str> =
        all.lines().filter(|line| line.contains(&bench.id) || line.contains(&root)).collect();
    check(!ours.is_empty(), || "it does not wait on a socket".into())?;
    check(ours.iter().all(|line| !line.contains('@')), || format!("abstract: {ours:?}"))?;
    let dir = fs::metadata(bench.root().join(&bench.id))?;
    check((dir.mode() & 0o777, dir.uid()) == (0o700, 0), || format!("{:o} {}", dir.mode(), dir.uid()))?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    // A container in the host's network finds nothing of it either.
    let mut spec = bench.spec(&["/bin/busybox", "cat", "/proc/net/unix"]);
    spec["linux"]["namespaces"].as_array_mut().ok_or("none")?.retain(|n| n["type"] != "network");
    with_probe(&mut spec);
    grant(&mut spec, &["CAP_KILL"]);
    bench.configure(&spec);
    let text = bench.run(&["run", &bench.id]).ok()?.out;
    check(!text.lines().any(|line| line.contains('@') && line.contains("sextant")), || text.clone())
}
