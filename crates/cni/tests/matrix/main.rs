//! Each key of each plugin, with our program and with the reference's, each on a host of its own: what they answer and what
//! they leave on the machine is compared by what it means, after ADD and after DEL.
//!
//! `cargo xtask test --ring interop` runs it: it needs Debian's containernetworking-plugins. Keys that those are too old
//! for want newer ones in a directory that `SEXTANT_CNI_REFERENCE` names; without it those cases are told as skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod cases;
mod differences;
mod look;
#[path = "../rig/mod.rs"]
mod rig;
mod side;

use std::collections::BTreeSet;
use std::path::PathBuf;

use cni::plugin::program;
use differences::{Expected, differences};
use side::Side;

const DEBIAN: &str = "/usr/lib/cni";
const NEWER: &str = "SEXTANT_CNI_REFERENCE";

/// What became of the cases.
#[derive(Default)]
struct Tally {
    same: u32,
    explained: u32,
    skipped: Vec<String>,
    failures: Vec<String>,
    used: BTreeSet<usize>,
    ran: BTreeSet<String>,
}

#[test]
#[ignore = "needs the reference plugins: cargo xtask test --ring interop"]
fn each_key_of_each_plugin() {
    let debian = PathBuf::from(DEBIAN);
    assert!(debian.join("bridge").is_file(), "{DEBIAN} has no bridge: install containernetworking-plugins");
    let newer = std::env::var_os(NEWER).map(PathBuf::from);
    let only = std::env::var("SEXTANT_CNI_CASES").unwrap_or_default();
    let expected = differences::expected();
    let mut tally = Tally::default();
    for case in cases::cases().into_iter().filter(|case| case.name.contains(&only)) {
        if !program::is_plugin(case.plugin()) {
            tally.skipped.push(format!("{}: we have no such plugin", case.name));
            continue;
        }
        let reference = if case.newer { newer.clone() } else { Some(debian.clone()) };
        let Some(reference) = reference else {
            tally.skipped.push(format!("{}: Debian's plugins are too old; set {NEWER}", case.name));
            continue;
        };
        let theirs = Side::reference(reference).run(&case);
        if theirs.to_string().contains("operation not supported") {
            tally.skipped.push(format!("{}: this kernel has no such link", case.name));
            continue;
        }
        let ours = Side::ours().run(&case);
        judge(&case.name, &differences(&ours, &theirs), &expected, &mut tally);
    }
    report(&tally, &expected, only.is_empty());
}

fn judge(name: &str, found: &[differences::Difference], expected: &[Expected], tally: &mut Tally) {
    tally.ran.insert(name.to_owned());
    let mut unexplained = Vec::new();
    for difference in found {
        let why = expected.iter().position(|expected| expected.explains(name, &difference.path));
        match why {
            Some(index) => {
                println!("EXPLAINED {name}\t{difference}");
                tally.used.insert(index);
            }
            None => unexplained.push(format!("    {difference}")),
        }
    }
    match (found.is_empty(), unexplained.is_empty()) {
        (true, _) => tally.same += 1,
        (false, true) => tally.explained += 1,
        _ => tally.failures.push(format!("{name}:\n{}", unexplained.join("\n"))),
    }
}

fn report(tally: &Tally, expected: &[Expected], whole: bool) {
    println!("{} the same, {} with differences that are explained", tally.same, tally.explained);
    tally.skipped.iter().for_each(|skipped| println!("skipped {skipped}"));
    let mut failures = tally.failures.clone();
    // An explanation of what is not different any more has to go.
    for (index, expected) in expected.iter().enumerate() {
        let asked = tally.ran.iter().any(|name| expected.is_about(name));
        if whole && asked && !tally.used.contains(&index) && !expected.newer {
            failures.push(format!("nothing differs any more as {expected:?} says"));
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}
