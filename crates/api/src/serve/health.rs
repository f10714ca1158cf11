//! `/healthz`, `/livez`, `/readyz`: checks under the names that Kubernetes gives them, of what does the same here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Api;
use super::answer::{Response, page_not_found, text};
use super::path::query;
use crate::contract::field::quoted;
use crate::controllers::is_of_the_start;

/// Answers `/healthz`, `/livez`, `/readyz` and their checks one by one. `None` for other paths.
pub(super) fn answer(api: &Api, path: &str, asked: &str) -> Option<Response> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let (probe, one) = (parts.next().unwrap_or_default(), parts.next());
    if !matches!(probe, "healthz" | "livez" | "readyz") {
        return None;
    }
    let asked = query(asked).unwrap_or_default();
    let all = checks(api, probe);
    if let Some(name) = one {
        return Some(match all.into_iter().find(|(check, _)| *check == name) {
            Some((_, Ok(()))) => text(200, "ok"),
            Some((name, Err(cause))) => text(500, format!("internal server error: {name}: {cause}\n")),
            None => page_not_found(),
        });
    }
    let mut excluded: BTreeSet<&str> =
        asked.iter().filter(|(name, _)| name == "exclude").map(|(_, value)| &**value).collect();
    let (mut told, mut failed) = (String::new(), false);
    for (check, outcome) in &all {
        let _ = match outcome {
            _ if excluded.remove(check) => writeln!(told, "[+]{check} excluded: ok"),
            Ok(()) => writeln!(told, "[+]{check} ok"),
            Err(_) => {
                failed = true;
                // Why is for those who may see that check alone.
                writeln!(told, "[-]{check} failed: reason withheld")
            }
        };
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.into_iter().map(quoted).collect();
        let _ =
            writeln!(told, "warn: some health checks cannot be excluded: no matches for {}", names.join(","));
    }
    let verbose = asked.iter().any(|(name, _)| name == "verbose");
    Some(match (failed, verbose) {
        (false, false) => text(200, "ok"),
        (false, true) => text(200, format!("{told}{probe} check passed\n")),
        (true, _) => text(500, format!("{told}{probe} check failed\n")),
    })
}

type Outcome = Result<(), String>;

fn checks(api: &Api, probe: &str) -> Vec<(&'static str, Outcome)> {
    let (store, is_ready) = (store(api), probe == "readyz");
    let mut list = vec![("ping", Ok(())), ("log", log(api, probe)), ("etcd", store.clone())];
    // Objects and configurations of admission are read from the store whenever they are asked for.
    list.push(("poststarthook/storage-readiness", store.clone()));
    list.push(("poststarthook/start-apiserver-admission-initializer", store));
    for (name, check) in &api.access.health {
        let is_asked = match *name {
            "informer-sync" => is_ready,
            name => probe != "livez" || !is_of_the_start(name),
        };
        if is_asked {
            list.push((*name, check()));
        }
    }
    if is_ready {
        let stopping = *api.stop.borrow();
        list.push(("shutdown", if stopping { Err("the server is stopping".to_owned()) } else { Ok(()) }));
    }
    list
}

/// Whether the audit log, where there is one, can be written. To start again would mend nothing of that.
fn log(api: &Api, probe: &str) -> Outcome {
    match &api.audit {
        Some(audit) if probe != "livez" && audit.is_failing() => {
            Err("the audit log cannot be written".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether the store still reads.
fn store(api: &Api) -> Outcome {
    let key = crate::store::Key {
        resource: "namespaces".to_owned(),
        namespace: String::new(),
        name: "default".to_owned(),
    };
    api.registry.store().get(&key).map(drop).map_err(|error| error.to_string())
}
