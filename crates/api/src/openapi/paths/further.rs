//! What can be asked beside reading and writing objects: watches under their old paths, the logs of pods and connections to
//! them, and which resources there are.

use super::{Answer, LIST, Operation, Telling};
use crate::resource::Resource;

/// What a connection carries is nobody's JSON.
const ANYTHING: &[&str] = &["*/*"];
const LOG: &[&str] = &["application/json", "application/yaml", "text/plain"];
const WATCH: &[&str] = &["application/json", "application/json;stream=watch", "application/yaml"];

const EXEC: &[&str] = &["command", "container", "stderr", "stdin", "stdout", "tty"];
const ATTACH: &[&str] = &["container", "stderr", "stdin", "stdout", "tty"];
const LOGS: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];

/// The paths of watches, which are older than the parameter `watch`: where they are, and what is asked there.
pub(super) fn watches<'a>(
    resource: &Resource,
    telling: &Telling<'a>,
    base: &str,
) -> Vec<(String, Operation<'a>)> {
    let plural = &resource.names.plural;
    let watch = |path: String, action: &'a str, scope: &str, suffix: &str| {
        let operation = Operation {
            method: "get",
            action,
            id: telling.id("watch", scope, suffix),
            parameters: LIST.to_vec(),
            body: None,
            answer: Answer::watch(WATCH),
            kind: telling.kind,
        };
        (path, operation)
    };
    let all = format!("{base}/watch/{plural}");
    if !resource.namespaced {
        let one = format!("{all}/{{name}}");
        return vec![watch(all, "watchlist", "", "List"), watch(one, "watch", "", "")];
    }
    let within = format!("{base}/watch/namespaces/{{namespace}}/{plural}");
    let one = format!("{within}/{{name}}");
    vec![
        watch(all, "watchlist", "", "ListForAllNamespaces"),
        watch(within, "watchlist", "Namespaced", "List"),
        watch(one, "watch", "Namespaced", ""),
    ]
}

/// What is below a pod and is no object: the part, and what is asked there.
pub(super) fn connections<'a>(
    resource: &Resource,
    telling: &Telling<'a>,
) -> Vec<(&'static str, Vec<Operation<'a>>)> {
    if resource.stored_as != "pods" {
        return Vec::new();
    }
    let log = Operation {
        method: "get",
        action: "get",
        id: telling.id("read", "Namespaced", "Log"),
        parameters: LOGS.to_vec(),
        body: None,
        answer: Answer::text(LOG),
        kind: telling.kind,
    };
    let connect = |part: &str, kind: &'static str, parameters: &'static [&'static str]| {
        let [group, version, _] = telling.kind;
        let operation = |method: &'static str, verb: &str| Operation {
            method,
            action: "connect",
            id: telling.id("connect", &format!("{verb}Namespaced"), part),
            parameters: parameters.to_vec(),
            body: None,
            answer: Answer::text(ANYTHING),
            kind: [group, version, kind],
        };
        vec![operation("get", "Get"), operation("post", "Post")]
    };
    vec![
        ("log", vec![log]),
        ("exec", connect("Exec", "PodExecOptions", EXEC)),
        ("attach", connect("Attach", "PodAttachOptions", ATTACH)),
        ("portforward", connect("Portforward", "PodPortForwardOptions", &["ports"])),
    ]
}
