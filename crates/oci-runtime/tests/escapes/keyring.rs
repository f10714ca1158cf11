//! Keys of whoever called do not come along.

use std::ffi::CString;

use serde_json::Value;

use crate::bench::Bench;
use crate::{Outcome, Test, check, probing, with_user_namespace};

pub(crate) const TESTS: &[Test] = &[
    ("a_container_has_a_session_keyring_of_its_own", own),
    ("a_container_in_a_user_namespace_has_a_session_keyring_of_its_own", in_user_namespace),
    ("no_new_keyring_keeps_the_callers", kept),
];

/// The name of somebody's session keyring.
fn session(answer: &Value) -> String {
    answer["keyring"].as_str().and_then(|text| text.rsplit(';').next()).unwrap_or_default().to_owned()
}

/// From a session with a keyring that says so: what `args` prints.
fn called(bench: &Bench, args: &[&str]) -> Result<Value, Box<dyn std::error::Error>> {
    let name = CString::new(format!("_ses.caller-{}", bench.id))?;
    // A thread has a session keyring of its own, and a process that it starts inherits it.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                kernel::keyring::join_session(&name).map_err(|e| e.to_string())?;
                let done = bench.run(args);
                if done.code != 0 || !done.err.is_empty() {
                    return Err(format!("{args:?}: {} {}", done.code, done.err));
                }
                if done.out.is_empty() { Ok(Value::Null) } else { done.json().map_err(|e| e.to_string()) }
            })
            .join()
            .map_err(|_| "a thread panicked".to_owned())?
    })
    .map_err(Into::into)
}

const LOOK: [&str; 3] = ["/probe", "probe", "look"];

fn check_own(bench: &Bench, spec: Value) -> Outcome {
    let name = format!("_ses.{}", bench.id);
    bench.configure(&spec);
    let seen = called(bench, &["run", &bench.id])?;
    check(session(&seen) == name, || seen["keyring"].to_string())?;
    let mut spec = spec;
    spec["process"]["args"] = bench.sleeper()["process"]["args"].clone();
    bench.configure(&spec);
    called(bench, &["create", &bench.id])?;
    called(bench, &["start", &bench.id])?;
    let seen = called(bench, &[&["exec", &bench.id], &LOOK[..]].concat())?;
    check(session(&seen) == name, || format!("exec: {}", seen["keyring"]))?;
    check(seen["keyring"].as_str().is_some_and(|text| text.contains(";3f1b0000;")), || {
        seen["keyring"].to_string()
    })?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn own(bench: &Bench) -> Outcome {
    check_own(bench, probing(bench, &["look"]))
}

fn in_user_namespace(bench: &Bench) -> Outcome {
    let mut spec = probing(bench, &["look"]);
    with_user_namespace(bench, &mut spec);
    check_own(bench, spec)
}

fn kept(bench: &Bench) -> Outcome {
    let name = format!("_ses.caller-{}", bench.id);
    bench.configure(&probing(bench, &["look"]));
    let seen = called(bench, &["run", "--no-new-keyring", &bench.id])?;
    check(session(&seen) == name, || seen["keyring"].to_string())?;
    let mut spec = bench.sleeper();
    crate::with_probe(&mut spec);
    bench.configure(&spec);
    called(bench, &["create", "--no-new-keyring", &bench.id])?;
    called(bench, &["start", &bench.id])?;
    let seen = called(bench, &[&["exec", &bench.id], &LOOK[..]].concat())?;
    check(session(&seen) == name, || seen["keyring"].to_string())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}
