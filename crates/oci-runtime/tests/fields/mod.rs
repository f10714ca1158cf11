//! One field of the configuration after another, in real containers. A test for what this kernel does not have checks
//! what the error says.

mod mounts;
mod namespaces;
mod process;
mod resources;

use serde_json::{Value, json};

use crate::{Bench, Finished, Outcome, Test, check};

/// All of them.
pub(crate) const TESTS: &[&[Test]] = &[mounts::TESTS, namespaces::TESTS, process::TESTS, resources::TESTS];

/// What the tests here ask from inside: `None` for a word that is not known.
pub(crate) fn probe(word: &str, args: &[String]) -> Option<Value> {
    let read = |path: &String| std::fs::read_to_string(path).map_or(Value::Null, Into::into);
    match word {
        // Files by their paths.
        "read" => {
            Some(args.iter().map(|path| (path.clone(), read(path))).collect::<serde_json::Map<_, _>>().into())
        }
        "env" => Some(std::env::vars().map(|(k, v)| (k, v.into())).collect::<serde_json::Map<_, _>>().into()),
        _ => process::probe(word).or_else(|| namespaces::probe(word)),
    }
}

/// Runs the container and takes what its probe answered; it must not have warned.
fn answer(bench: &Bench, spec: &Value) -> Result<Value, Box<dyn std::error::Error>> {
    let done: Finished = bench.run(spec)?;
    if done.warnings.is_empty() { Ok(done.answer()) } else { Err(format!("{:?}", done.warnings).into()) }
}

/// The container must not start, and the error must say all of `words`.
fn refused(bench: &Bench, spec: &Value, words: &[&str]) -> Outcome {
    let error = match bench.run(spec) {
        Ok(done) => return Err(format!("it ran: {done:?}").into()),
        Err(e) => e.to_string(),
    };
    check(words.iter().all(|word| error.contains(word)), || format!("{error:?} does not say {words:?}"))
}

/// Adds to a list of the configuration.
fn push(spec: &mut Value, pointer: &str, value: Value) {
    if let Some(list) = spec.pointer_mut(pointer).and_then(Value::as_array_mut) {
        list.push(value);
    }
}

/// A user namespace of 65536 ids from 100000 on; directories it cannot make in the root are there.
fn with_user_namespace(bench: &Bench, spec: &mut Value) -> Outcome {
    push(spec, "/linux/namespaces", json!({"type": "user"}));
    for field in ["uidMappings", "gidMappings"] {
        spec["linux"][field] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    }
    for dir in ["dev", "sys"] {
        std::fs::create_dir_all(bench.root().join(dir))?;
    }
    Ok(())
}
