//! `sextant-oci --systemd-cgroup` with systemd itself, which must be the machine's first process: `cargo xtask vm
//! --systemd`. What can be shown without it is in `tests/command`.

#[path = "../command/bench.rs"]
#[expect(dead_code, reason = "its other half is for the other tests")]
mod bench;
mod life;
mod times;
mod user;

use std::path::Path;
use std::process::{Command, ExitCode};

use bench::Bench;
use oci_runtime::command;
use testkit::bare::{self, Outcome, check};

type Test = bare::Test<Bench>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let called = args.first().map_or("", String::as_str);
    if Path::new(called).file_name().is_some_and(|name| name == command::NAME) {
        return command::main(std::env::args_os());
    }
    if !Path::new("/run/systemd/system").is_dir() {
        println!("systemd is not this machine's init: run cargo xtask vm --systemd\n\n0 passed, 1 failed");
        return ExitCode::FAILURE;
    }
    let all = [life::TESTS, user::TESTS, times::TESTS];
    bare::run(&all, |_, test| {
        let bench = Bench::new();
        test(&bench).and_then(|()| no_unit_is_left(&bench)).and_then(|()| bench.nothing_is_left())
    })
}

fn printed(command: &mut Command) -> Result<String, Box<dyn std::error::Error>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A property of a unit, as systemd shows it.
fn show(unit: &str, property: &str) -> Result<String, Box<dyn std::error::Error>> {
    printed(Command::new("systemctl").args(["show", "--value", "--property", property, unit]))
}

fn units(bench: &Bench) -> Result<String, Box<dyn std::error::Error>> {
    let pattern = format!("*{}*", bench.id);
    printed(Command::new("systemctl").args(["list-units", "--all", "--no-legend", "--plain", &pattern]))
}

fn no_unit_is_left(bench: &Bench) -> Outcome {
    // A scope whose last process has ended goes by itself, and systemd takes its time for it.
    bench.until("no unit is left", || units(bench).is_ok_and(|list| list.is_empty()))?;
    let tree = printed(Command::new("systemd-cgls").args(["--no-pager", "--full"]))?;
    check(!tree.contains(&bench.id), || format!("cgroups are left:\n{tree}"))
}
