//! Ring 2: the product killed between any two recorded effects and at random moments, over each of its commands and as a
//! node's daemon, the API server under load and the CSI driver with its controllers as well; in full also `sextant-oci` and the CNI
//! plugins' programs, which have no ledger, at moments spread over each of their commands.

use std::process::Command;
use std::time::Duration;

use testkit::Machine;
use testkit::crash::{Crash, Toll};

use super::{Count, Extent, node, unit};
use crate::Result;
use crate::interop::Site;
use crate::program::{cargo_command, quiet};

/// A command to kill, with what must be there before it and whether that is running afterwards.
struct Scenario {
    name: &'static str,
    /// Commands that bring about what the victim needs.
    before: &'static [&'static [&'static str]],
    victim: &'static [&'static str],
    /// Commands that take back what the scenario left on purpose; those that find nothing to do may fail.
    after: &'static [&'static [&'static str]],
}

/// `IMAGE` stands for the image's reference.
const SCENARIOS: &[Scenario] = &[
    Scenario { name: "run", before: &[], victim: &["run", "--rm", "IMAGE", "true"], after: &[] },
    Scenario {
        name: "run -d",
        before: &[],
        victim: &["run", "-d", "--name", "victim", "-p", "127.0.0.1:18080:80", "IMAGE", "sleep", "1000"],
        after: &[&["rm", "-f", "victim"]],
    },
    Scenario {
        name: "exec",
        before: &[&["run", "-d", "--name", "victim", "IMAGE", "sleep", "1000"]],
        victim: &["exec", "victim", "true"],
        after: &[&["rm", "-f", "victim"]],
    },
    Scenario {
        name: "stop",
        before: &[&["run", "-d", "--name", "victim", "IMAGE", "sleep", "1000"]],
        victim: &["stop", "-t", "0", "victim"],
        after: &[&["rm", "-f", "victim"]],
    },
    Scenario {
        name: "rm",
        before: &[&["run", "-d", "--name", "victim", "IMAGE", "sleep", "1000"]],
        victim: &["rm", "-f", "victim"],
        after: &[&["rm", "-f", "victim"]],
    },
    Scenario {
        name: "pull",
        before: &[&["rmi", "IMAGE"]],
        victim: &["pull", "IMAGE"],
        after: &[&["pull", "IMAGE"]],
    },
];

pub(super) fn run(extent: &mut Extent) -> Result<Count> {
    let site = Site::of(extent.product()?)?;
    let image = site.busybox()?;
    quiet(&mut site.sextant(["pull", &image]))?;
    let cgroups = cgroup_parent(&site, &image)?;
    let mut count = Count::default();
    let chosen: Vec<&Scenario> =
        SCENARIOS.iter().filter(|scenario| scenario.name.contains(&extent.only)).collect();
    let each = extent.kills.div_ceil(2 * chosen.len().max(1) as u64);
    for scenario in chosen {
        let at = |args: &[&str]| command(&site, &image, args);
        let crash = Crash {
            name: scenario.name,
            machine: Machine::new()
                .files_under(site.run_dir())
                .cgroups_named(&cgroups)
                .processes_marked(site.run_dir().to_string_lossy()),
            prepare: &|| all(scenario.before, &at),
            victim: &|| at(scenario.victim),
            recover: &|| {
                for args in scenario.after {
                    let _ = quiet(&mut at(args));
                }
                // Any command converges; this one also shows that the store and the records can be read.
                all(&[&["ps", "-a"], &["images"]], &at)
            },
            settle: Duration::from_secs(20),
            limit: Duration::from_secs(180),
        };
        count.add(
            &format!("{}: killed at recorded effects", scenario.name),
            told(crash.at_steps(each, &mut extent.random)),
        );
        count.add(
            &format!("{}: killed at random moments", scenario.name),
            told(crash.at_moments(each, &mut extent.random)),
        );
    }
    count.extend(node::kills(extent)?);
    for programs in PROGRAMS.iter().filter(|programs| programs.name.contains(&extent.only)) {
        let kills = if extent.full { extent.kills } else { programs.sample };
        if kills > 0 {
            count.extend(programs.killed(kills)?);
        }
    }
    Ok(count)
}

/// Programs that keep no ledger: their crates' own tests kill them.
struct Programs {
    name: &'static str,
    /// The test program. It is named without its package: with the whole workspace's choice of features, which `cargo test
    /// --workspace` has made, nothing is built once more.
    test: &'static str,
    /// What the names of those tests have in common.
    filter: &'static str,
    /// Says how many kills.
    variable: &'static str,
    /// How many tests each do so many.
    tests: u64,
    /// Kills of a run at sample size; none where `cargo test` has enough of them.
    sample: u64,
}

const PROGRAMS: &[Programs] = &[
    Programs {
        name: "sextant-oci",
        test: "command",
        filter: "a_killed_",
        variable: "SEXTANT_OCI_KILLS",
        tests: 6,
        sample: 0,
    },
    // Its tests share the number.
    Programs {
        name: "sextant-cni",
        test: "runtime",
        filter: "a_killed_",
        variable: "SEXTANT_CNI_KILLS",
        tests: 1,
        sample: 0,
    },
    Programs {
        name: "store",
        test: "store_kill",
        filter: "killed_",
        variable: "SEXTANT_STORE_KILLS",
        tests: 1,
        sample: 0,
    },
    Programs {
        name: "api",
        test: "load",
        filter: "a_killed_",
        variable: "SEXTANT_API_KILLS",
        tests: 1,
        sample: 40,
    },
    // Its tests, one for each backend, do so many each.
    Programs {
        name: "csi-driver",
        test: "kills",
        filter: "whenever_it_is_killed",
        variable: "SEXTANT_KILLS",
        tests: 1,
        sample: 0,
    },
    // Driver and controllers together, while users work.
    Programs {
        name: "control",
        test: "control",
        filter: "together::",
        variable: "SEXTANT_CONTROL_KILLS",
        tests: 1,
        sample: 40,
    },
    // While pods ask all the time.
    Programs {
        name: "mesh",
        test: "mesh",
        filter: "killed_under_load",
        variable: "SEXTANT_MESH_KILLS",
        tests: 1,
        sample: 0,
    },
];

impl Programs {
    fn killed(&self, kills: u64) -> Result<Count> {
        let mut command = cargo_command();
        command.args(["test", "--workspace", "--locked", "--test", self.test, "--", self.filter]);
        command.env(self.variable, kills.div_ceil(self.tests).to_string());
        unit::chosen(command)
    }
}

/// The name under which the site's instance makes its cgroups. A container had to run for it, so that what an instance
/// keeps from its first container on (empty folders) is there before the first snapshot.
fn cgroup_parent(site: &Site, image: &str) -> Result<String> {
    quiet(&mut site.sextant(["run", "-d", "--name", "first", image, "sleep", "1000"]))?;
    let shown: serde_json::Value = serde_json::from_str(&quiet(&mut site.sextant(["inspect", "first"]))?)?;
    quiet(&mut site.sextant(["rm", "-f", "first"]))?;
    let path = shown[0]["cgroup"].as_str().unwrap_or_default();
    path.split('/')
        .find(|name| !name.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| "inspect shows no cgroup".into())
}

fn command(site: &Site, image: &str, args: &[&str]) -> Command {
    let mut command = site.sextant([]);
    command.args(args.iter().map(|&arg| if arg == "IMAGE" { image } else { arg }));
    command
}

fn all(commands: &[&[&str]], at: &dyn Fn(&[&str]) -> Command) -> testkit::Result<()> {
    for args in commands {
        testkit::run(&mut at(args))?;
    }
    Ok(())
}

fn told(toll: testkit::Result<Toll>) -> Result<()> {
    let toll = toll?;
    println!("        {} runs, {} killed before their end", toll.runs, toll.killed);
    if let Some(first) = toll.late.first() {
        println!("        {} took a second command; first: {first}", toll.late.len());
    }
    match toll.failures.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            Err(format!("{} of {} runs left something; first: {first}", toll.failures.len(), toll.runs)
                .into())
        }
    }
}
