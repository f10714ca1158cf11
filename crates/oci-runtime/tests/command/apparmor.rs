//! `process.apparmorProfile`, where the kernel has AppArmor: in the guests of `cargo xtask vm`. Elsewhere it is an error.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("an_apparmor_profile_confines_the_container_and_what_joins", confined),
    ("an_apparmor_profile_that_is_not_loaded_is_named", unknown),
];

fn enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// A profile in the kernel, for as long as a test runs.
struct Profile {
    text: String,
}

impl Profile {
    /// One that forbids nothing but to read `/etc/secret`.
    fn load(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let text = format!(
            "profile {name} flags=(attach_disconnected) {{\n  file,\n  capability,\n  network,\n  signal,\n  \
             deny /etc/secret r,\n}}\n"
        );
        let profile = Self { text };
        profile.parser("--add")?;
        Ok(profile)
    }

    fn parser(&self, act: &str) -> Outcome {
        let mut parser = Command::new("apparmor_parser");
        parser.args([act, "--skip-cache", "--base", "/nonexistent"]).stdin(Stdio::piped());
        let mut parser = parser.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        parser.stdin.take().ok_or("no pipe")?.write_all(self.text.as_bytes())?;
        let output = parser.wait_with_output()?;
        check(output.status.success(), || {
            format!("apparmor_parser {act}: {}", String::from_utf8_lossy(&output.stderr))
        })
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = self.parser("--remove");
    }
}

const LOOK: &str = "cat /proc/self/attr/apparmor/current /etc/open; cat /etc/secret; echo $?";

fn with_profile(bench: &Bench, mut spec: Value, profile: &str) {
    spec["process"]["apparmorProfile"] = json!(profile);
    spec["process"]["noNewPrivileges"] = json!(true);
    bench.configure(&spec);
}

fn confined(bench: &Bench) -> Outcome {
    if !enabled() {
        return refused(bench);
    }
    for name in ["open", "secret"] {
        std::fs::write(bench.bundle().join("rootfs/etc").join(name), format!("{name}\n"))?;
    }
    let look = ["/bin/sh", "-c", LOOK];
    bench.configure(&bench.spec(&look));
    let free = bench.run(&["run", &bench.id]).ok()?;
    check(free.out == "unconfined\nopen\nsecret\n0\n", || free.out)?;
    let name = format!("sextant-{}", bench.id);
    let profile = Profile::load(&name)?;
    let expected = format!("{name} (enforce)\nopen\n1\n");
    with_profile(bench, bench.spec(&look), &name);
    let done = bench.run(&["run", &bench.id]).ok()?;
    check(done.out == expected && done.err.contains("'/etc/secret': Permission denied"), || {
        format!("{} {}", done.out, done.err)
    })?;
    // Who joins has the container's profile, unless another is asked for.
    with_profile(bench, bench.sleeper(), &name);
    bench.run(&["create", &bench.id]).ok()?;
    bench.run(&["start", &bench.id]).ok()?;
    let done = bench.run(&["exec", &bench.id, "sh", "-c", LOOK]).ok()?;
    check(done.out == expected, || format!("exec: {} {}", done.out, done.err))?;
    let second = format!("{name}-second");
    let other = Profile::load(&second)?;
    let done = bench.run(&["exec", "--apparmor", &second, &bench.id, "sh", "-c", LOOK]).ok()?;
    check(done.out.starts_with(&second), || format!("exec --apparmor: {} {}", done.out, done.err))?;
    bench.run(&["delete", "--force", &bench.id]).ok()?;
    drop((profile, other));
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles")?;
    check(!loaded.contains(&name), || format!("it stays loaded: {loaded}"))
}

fn unknown(bench: &Bench) -> Outcome {
    if !enabled() {
        return refused(bench);
    }
    with_profile(bench, bench.spec(&["/bin/true"]), "sextant-none");
    let done = bench.run(&["run", &bench.id]);
    let parts = ["process.apparmorProfile", "sextant-none", "no such profile is loaded"];
    check(done.code == 1 && parts.iter().all(|part| done.err.contains(part)), || done.err)
}

/// A kernel without AppArmor: a container without the protection that was asked for does not start.
fn refused(bench: &Bench) -> Outcome {
    check(!Path::new("/sys/kernel/security/apparmor").exists(), || "AppArmor is there".into())?;
    with_profile(bench, bench.spec(&["/bin/true"]), "sextant-none");
    let done = bench.run(&["run", &bench.id]);
    let parts = ["process.apparmorProfile", "sextant-none", "AppArmor is not enabled"];
    check(done.code == 1 && parts.iter().all(|part| done.err.contains(part)), || done.err)
}
