//! Gateway API's own suite for meshes: `sextant up` with `sextant mesh` beside it, and an image of ours under the name of the one that its pods run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Conformance;
use super::walk::{Programs, apart};
use crate::Result;
use crate::echo;
use crate::interop::Site;
use crate::packages;
use crate::program::{Product, quiet, shown};

const NODE: &str = "node-1";
/// In the suite's tree.
const PROGRAM: &str = "conformance.test";
const DEFINITIONS: &str = "config/crd/standard";
const MANIFESTS: &str = "conformance/mesh/manifests.yaml";
/// What has the suite run its tests of meshes: each names what it needs. The first are what the profiles MESH-HTTP and MESH-GRPC ask of everybody.
const FEATURES: &[&str] = &[
    "Mesh",
    "HTTPRoute",
    "GRPCRoute",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
];
const MEMBER: &str = "mesh.sextant.dev/member=true";

/// Leaves `results.txt` in `out`, and the suite's words and the programs' beside it.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    packages::install(&["binutils", "buildah", "docker-registry", "iproute2"])?;
    let suite = std::path::absolute(&args.suite)?;
    for needed in [PROGRAM, MANIFESTS] {
        if !suite.join(needed).is_file() {
            let cause = "docs/conformance/README.md says what lies where";
            return Err(format!("{} is not there: {cause}", suite.join(needed).display()).into());
        }
    }
    let site = Site::of(Product::Released(sextant.to_owned()))?;
    let archive = echo::image(&site, &image(&std::fs::read_to_string(suite.join(MANIFESTS))?)?)?;
    let (sextant, out, items) = (sextant.to_owned(), std::path::absolute(out)?, args.items.clone());
    apart(move || async move {
        // Programs of a machine reach Services only where there is a way to everywhere.
        quiet(Command::new("ip").args(["route", "add", "default", "dev", "lo"]))?;
        let place =
            Machine { programs: Programs::new(&sextant, "/var/tmp", "sextant-mesh-", &out)?, suite, out };
        let done = place.run(&archive, &items).await;
        // What a suite that failed has left, too.
        let ended = place.ask(&["down"]);
        done.and(ended)
    })
}

/// The one image that the suite's pods run.
fn image(manifests: &str) -> Result<String> {
    let mut images: Vec<&str> = manifests
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"))
        .map(|image| image.trim().trim_matches(['"', '\'']))
        .collect();
    images.sort_unstable();
    images.dedup();
    match images.as_slice() {
        [image] => Ok((*image).to_owned()),
        _ => Err(format!("{MANIFESTS} has not one image: {images:?}").into()),
    }
}

/// The machine that the suite is run against.
struct Machine {
    programs: Programs,
    suite: PathBuf,
    out: PathBuf,
}

impl Machine {
    fn kubeconfig(&self) -> PathBuf {
        self.programs.path("data/kubeconfig")
    }

    fn ask(&self, words: &[&str]) -> Result<()> {
        quiet(self.programs.sextant().args(words)).map(drop)
    }

    async fn run(&self, archive: &Path, items: &[String]) -> Result<()> {
        self.programs.forget(&["mesh"]);
        self.ask(&["up", "--detach", "--node-name", NODE])?;
        quiet(self.programs.sextant().args(["load", "--input"]).arg(archive))?;
        let mut apply = self.programs.sextant();
        apply.args(["apply", "--kubeconfig"]).arg(self.kubeconfig()).arg("-f");
        quiet(apply.arg(self.suite.join(DEFINITIONS)))?;
        let mut mesh = self.programs.sextant();
        mesh.args(["mesh", "--node", NODE, "--kubeconfig"]).arg(self.kubeconfig());
        let mut mesh = self.programs.start("mesh", mesh)?;
        self.programs.hear("mesh", "Services and routes are known").await?;
        let words = self.judge(items);
        let code = mesh.end().await?;
        if code != Some(0) {
            return Err(format!("sextant mesh ended with {code:?}: {}", self.programs.words("mesh")).into());
        }
        Ok(std::fs::write(self.out.join("results.txt"), results(&words?)?)?)
    }

    /// Runs the suite; what it said. That tests have failed is for the comparison to say.
    fn judge(&self, items: &[String]) -> Result<String> {
        let mut suite = Command::new(self.suite.join(PROGRAM));
        let tests = if items.is_empty() { "Mesh".to_owned() } else { format!("^({})$", items.join("|")) };
        suite.args(["-test.v", "-test.timeout=60m", &format!("-test.run=^TestConformance$/{tests}")]);
        suite.arg(format!("--supported-features={}", FEATURES.join(",")));
        suite.arg(format!("--namespace-labels={MEMBER}"));
        suite.current_dir(&self.suite).env("KUBECONFIG", self.kubeconfig());
        let log = self.out.join("suite.log");
        let words = File::create(&log)?;
        let status = suite.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words).status();
        let status = status.map_err(|e| format!("cannot run {}: {e}", shown(&suite)))?;
        let said = std::fs::read_to_string(&log)?;
        println!("{PROGRAM}: {status}; what it said is in {}", log.display());
        Ok(said)
    }
}

/// A line for each test of meshes; those of gateways are another suite's.
fn results(said: &str) -> Result<String> {
    let mut tests: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
    for line in said.lines().map(str::trim) {
        let Some((outcome, rest)) = line.strip_prefix("--- ").and_then(|line| line.split_once(": ")) else {
            continue;
        };
        let name = rest.split(' ').next().unwrap_or_default();
        let Some(name) = name.strip_prefix("TestConformance/").filter(|name| name.starts_with("Mesh")) else {
            continue;
        };
        let (test, part) = name.split_once('/').unwrap_or((name, ""));
        let (judged, parts) = tests.entry(test).or_default();
        if part.is_empty() {
            *judged = outcome;
        } else if outcome == "FAIL" {
            parts.push(part);
        }
    }
    if tests.is_empty() {
        let last: Vec<&str> = said.lines().rev().take(10).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return Err(format!("{PROGRAM} has run no test of meshes: {}", last.join("\n")).into());
    }
    let mut results = String::new();
    for (test, (outcome, parts)) in tests {
        match outcome {
            "PASS" => writeln!(results, "{test} ok")?,
            "SKIP" => writeln!(results, "{test} skip")?,
            _ => writeln!(results, "{test} not ok {}", parts.join("; "))?,
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_go_become_lines() {
        let said = "=== RUN   TestConformance\n--- FAIL: TestConformance (60.08s)\n    --- PASS: TestConformance/MeshBasic (0.03s)\n        \
                    --- PASS: TestConformance/MeshBasic/0_request (0.02s)\n    --- FAIL: TestConformance/MeshPorts (30.01s)\n        \
                    --- PASS: TestConformance/MeshPorts/No_port_set (0.02s)\n        --- FAIL: TestConformance/MeshPorts/Explicit_port (30.00s)\n    \
                    --- SKIP: TestConformance/MeshFrontend (0.00s)\n    --- SKIP: TestConformance/HTTPRouteWeight (0.00s)\nFAIL\n";
        assert_eq!(
            results(said).unwrap(),
            "MeshBasic ok\nMeshFrontend skip\nMeshPorts not ok Explicit_port\n"
        );
        assert!(results("panic: no server\n").is_err());
    }

    #[test]
    fn the_image_is_the_manifests() {
        let manifests = "containers:\n- image: \"registry.example/echo:v1\"\n  name: a\n- name: b\n  image: registry.example/echo:v1\n";
        assert_eq!(image(manifests).unwrap(), "registry.example/echo:v1");
        assert!(image("containers: []\n").is_err());
        assert!(image("image: a\nimage: b\n").is_err());
    }
}
