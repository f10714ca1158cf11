//! Each key of each plugin, with our program and with the reference's, each on a host of its own: what they answer and what
//! they leave on the machine is compared by what it means, after ADD and after DEL.
//!
//! `cargo xtask test --ring interop` runs it: it needs Debian's containernetworking-plugins. With newer ones in a directory
//! that `SEXTANT_CNI_REFERENCE` names each case is compared with both, and those that Debian's are too old for with them
//! alone; without, those are told as skipped. Kinds of links that this machine's kernel lacks are told as skipped, too, and run
//! in the guest (`cargo xtask vm`), whose kernel has them all.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod cases;
mod differences;
mod expected;
mod look;
#[path = "../rig/mod.rs"]
mod rig;
mod side;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cases::Case;
use differences::{Difference, differences};
use expected::{Expected, Reference};
use side::Side;

const DEBIAN: &str = "/usr/lib/cni";
const NEWER: &str = "SEXTANT_CNI_REFERENCE";
/// Set where the kernel has every kind of link: then none may be missing.
const ALL_KINDS: &str = "SEXTANT_CNI_ALL_KINDS";

/// What became of the cases.
#[derive(Default)]
struct Tally {
    same: u32,
    explained: u32,
    skipped: Vec<String>,
    failures: Vec<String>,
    used: BTreeSet<(Reference, usize)>,
    ran: BTreeSet<(Reference, String)>,
}

#[test]
#[ignore = "needs the reference plugins: cargo xtask test --ring interop"]
fn each_key_of_each_plugin() {
    let only = std::env::var("SEXTANT_CNI_CASES").unwrap_or_default();
    compare(|case| case.name.contains(&only), |_| only.is_empty());
}

/// Those that a machine's own kernel may lack.
#[test]
#[ignore = "needs the reference plugins and a kernel with all kinds of links: cargo xtask vm"]
fn what_not_every_kernel_has() {
    compare(Case::wants_kernel, |expected| !expected.is_general());
}

/// Compares the chosen cases with each reference that there is; what they must show of the table is `due`.
fn compare(chosen: impl Fn(&Case) -> bool, due: impl Fn(&Expected) -> bool) {
    assert!(
        Path::new(DEBIAN).join("bridge").is_file(),
        "{DEBIAN} has no bridge: install containernetworking-plugins"
    );
    let newer = std::env::var_os(NEWER).map(PathBuf::from);
    let references = [(Reference::Debian, Some(DEBIAN.into())), (Reference::Newer, newer)];
    let expected = expected::expected();
    let mut tally = Tally::default();
    for case in cases::cases().into_iter().filter(chosen) {
        let mut ours = None;
        for (reference, place) in &references {
            match place {
                _ if *reference == Reference::Debian && case.newer => continue,
                None if case.newer => {
                    tally.skipped.push(format!("{}: Debian's plugins are too old; set {NEWER}", case.name));
                }
                None => {}
                Some(place) => {
                    let theirs = Side::reference(place.clone()).run(&case);
                    if theirs.to_string().contains("operation not supported") {
                        tally.skipped.push(format!("{}: this kernel has no such link", case.name));
                        break;
                    }
                    let ours = ours.get_or_insert_with(|| Side::ours().run(&case));
                    judge(*reference, &case.name, &differences(ours, &theirs), &expected, &mut tally);
                }
            }
        }
    }
    report(&tally, &expected, due);
}

fn judge(reference: Reference, name: &str, found: &[Difference], expected: &[Expected], tally: &mut Tally) {
    tally.ran.insert((reference, name.to_owned()));
    let mut unexplained = Vec::new();
    for difference in found {
        let explains = |expected: &Expected| expected.is_of(reference) && expected.explains(name, difference);
        match expected.iter().position(explains) {
            Some(index) => drop(tally.used.insert((reference, index))),
            None => unexplained.push(format!("    {difference}")),
        }
    }
    match (found.is_empty(), unexplained.is_empty()) {
        (true, _) => tally.same += 1,
        (false, true) => tally.explained += 1,
        _ => tally.failures.push(format!("{name} ({reference:?}):\n{}", unexplained.join("\n"))),
    }
}

fn report(tally: &Tally, expected: &[Expected], due: impl Fn(&Expected) -> bool) {
    println!("{} the same, {} with differences that are explained", tally.same, tally.explained);
    tally.skipped.iter().for_each(|skipped| println!("skipped {skipped}"));
    let mut failures = tally.failures.clone();
    // An explanation of what is not different any more has to go.
    for (index, expected) in expected.iter().enumerate().filter(|(_, expected)| due(expected)) {
        let about =
            |(reference, name): &&(Reference, String)| expected.is_of(*reference) && expected.is_about(name);
        let asked: BTreeSet<Reference> =
            tally.ran.iter().filter(about).map(|(reference, _)| *reference).collect();
        let idle = asked.into_iter().filter(|reference| !tally.used.contains(&(*reference, index)));
        failures.extend(idle.map(|reference| format!("{reference:?}: nothing differs as {expected:?} says")));
    }
    let missing = tally.skipped.iter().filter(|skipped| skipped.ends_with("no such link"));
    failures.extend(missing.filter(|_| std::env::var_os(ALL_KINDS).is_some()).cloned());
    assert!(failures.is_empty(), "{} are not as they should be:\n{}", failures.len(), failures.join("\n"));
}
