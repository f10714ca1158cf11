//! `/version`.

use serde_json::{Value, json};

/// The version of Kubernetes whose API this is: clients compare it with their own.
pub const KUBERNETES: (&str, &str, &str) = ("1", "36", "2");

/// What `/version` answers.
pub(crate) fn value() -> Value {
    let (major, minor, patch) = KUBERNETES;
    json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": "35",
        "gitVersion": format!("v{major}.{minor}.{patch}+sextant.{}", env!("CARGO_PKG_VERSION")),
        // Of a build from a checkout nobody knows more; what they say is for people.
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// Go's name of the architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
