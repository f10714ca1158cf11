//! Probes and hooks of containers.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, check};
use serde_json::Value;

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// The probes and hooks of a container, in Kubernetes' order. `grace` is the pod's time to end, in seconds; `os` its
/// operating system, where it names one.
pub(super) fn check_all(
    errors: &mut FieldErrors,
    path: &Path,
    container: &Value,
    grace: Option<i64>,
    os: Option<&str>,
) {
    if let Some(lifecycle) = container.field("lifecycle") {
        hooks(errors, &path.child("lifecycle"), lifecycle, grace, os);
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(value) = container.field(field) else { continue };
        let at = path.child(field);
        probe(errors, &at, value, grace);
        if field == "readinessProbe" {
            if let Some(seconds) = value.int("terminationGracePeriodSeconds") {
                let rule = "must not be set for readinessProbes";
                errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, rule);
            }
        } else {
            let threshold = value.int("successThreshold").unwrap_or(0);
            if threshold != 1 {
                errors.invalid(&at.child("successThreshold"), threshold, "must be 1");
            }
        }
    }
}

fn probe(errors: &mut FieldErrors, at: &Path, probe: &Value, grace: Option<i64>) {
    const NUMBERS: &[&str] =
        &["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    handler(errors, at, probe, grace, &["exec", "httpGet", "tcpSocket", "grpc"]);
    for field in NUMBERS {
        if let Some(number) = probe.int(field).filter(|number| *number < 0) {
            errors.invalid(&at.child(field), number, check::NOT_NEGATIVE);
        }
    }
    if let Some(seconds) = probe.int("terminationGracePeriodSeconds").filter(|seconds| *seconds <= 0) {
        errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
    }
}

fn hooks(errors: &mut FieldErrors, at: &Path, lifecycle: &Value, grace: Option<i64>, os: Option<&str>) {
    for field in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.field(field) {
            handler(errors, &at.child(field), hook, grace, &["exec", "httpGet", "tcpSocket", "sleep"]);
        }
    }
    if let Some(signal) = lifecycle.maybe("stopSignal") {
        let at = at.child("stopSignal");
        match os {
            None => errors.forbidden(&at, "may not be set for containers with empty `spec.os.name`"),
            Some("windows") => check::one_of(errors, &at, signal, &["SIGKILL", "SIGTERM"]),
            Some("linux") => check::one_of(errors, &at, signal, SIGNALS),
            Some(_) => {}
        }
    }
}

fn handler(errors: &mut FieldErrors, at: &Path, handler: &Value, grace: Option<i64>, kinds: &[&str]) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = handler.field(kind) else { continue };
        let path = at.child(kind);
        if found {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" if action.list("command").is_empty() => errors.required(&path.child("command"), ""),
            "httpGet" => http_get(errors, &path, action),
            "tcpSocket" | "grpc" => check::port(errors, &path.child("port"), action.field("port")),
            "sleep" => sleep(errors, &path, action, grace),
            _ => {}
        }
    }
    if !found {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(errors: &mut FieldErrors, at: &Path, action: &Value) {
    errors.needs(at, action, "path");
    check::port(errors, &at.child("port"), action.field("port"));
    check::one_of(errors, &at.child("scheme"), action.text("scheme"), &["HTTP", "HTTPS"]);
    for header in action.list("httpHeaders") {
        let name = header.text("name");
        errors.malformed(at, "httpHeaders", name, names::http_header_name(name));
    }
}

fn sleep(errors: &mut FieldErrors, at: &Path, action: &Value, grace: Option<i64>) {
    let seconds = action.int("seconds").unwrap_or(0);
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let rule = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(at, seconds, rule);
    }
}
