//! Kernel parameters, redirected to other files.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test, check, probing, push};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2025_52881_a_kernel_parameter_is_not_written_to_another_file_of_procfs", redirected),
    ("cve_2025_62596_a_kernel_parameter_is_not_written_outside_of_proc_sys", named),
];

/// A process of the host whose score is what an attacker would have written.
struct Victim(std::process::Child);

impl Victim {
    fn new() -> std::io::Result<Self> {
        Ok(Self(Command::new("/bin/sleep").arg("100").stdin(Stdio::null()).spawn()?))
    }

    fn file(&self) -> String {
        format!("/proc/{}/oom_score_adj", self.0.id())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn redirected(bench: &Bench) -> Outcome {
    let victim = Victim::new()?;
    let before = fs::read_to_string(victim.file())?;
    let other = bench.path("other");
    fs::create_dir_all(other.join("net/ipv4"))?;
    fs::write(other.join("net/ipv4/ip_forward"), "")?;
    // On the file itself, on a directory above it, and on all of it: another file of procfs, and none.
    for (at, source) in [
        ("/proc/sys/net/ipv4/ip_forward", victim.file()),
        ("/proc/sys/net/ipv4", other.join("net/ipv4").display().to_string()),
        ("/proc/sys", other.display().to_string()),
        ("/proc", format!("/proc/{}", victim.0.id())),
    ] {
        let mut spec = probing(bench, &["exit"]);
        push(&mut spec, "/mounts", json!({"destination": at, "source": source, "options": ["bind"]}));
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        bench.configure(&spec);
        let done = bench.run(&["run", &bench.id]);
        check(done.code != 0 && done.err.contains("kernel parameter"), || {
            format!("{at}: {} {}", done.code, done.err)
        })?;
        check(fs::read_to_string(victim.file())? == before, || format!("{at}: another file was written"))?;
        check(fs::read(other.join("net/ipv4/ip_forward"))?.is_empty(), || {
            format!("{at}: a false file was written")
        })?;
    }
    let mut spec = probing(bench, &["look", "/proc/sys/net/ipv4/ip_forward"]);
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    bench.configure(&spec);
    let seen = bench.run(&["run", &bench.id]).ok()?.json()?;
    check(seen["paths"]["/proc/sys/net/ipv4/ip_forward"]["text"] == "1\n", || seen["paths"].to_string())
}

fn named(bench: &Bench) -> Outcome {
    for name in [
        "net.ipv4/../../../self/oom_score_adj",
        "net/../../self/oom_score_adj",
        "net/../../1/oom_score_adj",
        "net/",
    ] {
        let mut spec = probing(bench, &["look"]);
        spec["linux"]["sysctl"] = json!({name: "77"});
        bench.configure(&spec);
        let done = bench.run(&["run", &bench.id]);
        check(done.code != 0, || format!("{name}: {}", done.out))?;
    }
    // Parameters of the whole machine are not a container's.
    for name in ["kernel.core_pattern", "vm.panic_on_oom", "kernel.sysrq"] {
        let mut spec = probing(bench, &["look"]);
        spec["linux"]["sysctl"] = json!({name: "0"});
        bench.configure(&spec);
        let done = bench.run(&["run", &bench.id]);
        check(done.code != 0 && done.err.contains(name), || format!("{name}: {} {}", done.code, done.err))?;
    }
    Ok(())
}
