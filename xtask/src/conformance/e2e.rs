//! Kubernetes' own end-to-end tests, against `sextant api` with a node that nobody runs: those that ask an API server for what it
//! does itself.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Conformance;
use crate::Result;
use crate::interop::{ApiServer, debian_kubectl};
use crate::program::{quiet, shown};

/// Tests by their names: of the API machinery all, of others those of an API.
const FOCUS: &str = r"\[sig-api-machinery\]|API operations|\[sig-instrumentation\] Events|PodTemplates|\[sig-auth\].*(CSR|SubjectReview|SelfSubject)|EndpointSlice.*(matches no pods|support creating)|should complete a service status lifecycle|ControllerRevision|\[sig-node\] Lease|CSINodes|VolumeAttachment|PriorityClass endpoints|LimitRange";

/// What needs pods that run or controllers of workloads, breaks a node, waits for an expired token (ten minutes), or waits without
/// end for what is not there (types of admission policies, two scopes of quotas).
const SKIP: &str = r"\[Disruptive\]|Webhook|webhook configuration|Aggregator|Aggregated APIServer|Etcd|CoordinatedLeaderElection|\[Feature:CBOR\]|APIServerIdentity|StorageVersionAPI|created by (rc|deployment|cronjob)|keep the rc around|not delete dependents that have both|all pods are removed|delete pod first|pod details|kubectl explain works|compacted away|cross namespace pod affinity|volume attributes class|should type check|matches no pods";

/// A node that says it is ready, so that the suite begins.
const NODE: &str = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":{"kubernetes.io/hostname":"n1"}},
"status":{"capacity":{"cpu":"8","memory":"16Gi","pods":"110"},"allocatable":{"cpu":"8","memory":"16Gi","pods":"110"},
"conditions":[{"type":"Ready","status":"True"}]}}"#;

/// What ginkgo says of a run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(default)]
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

/// Leaves `results.txt` in `out`, and ginkgo's report and words beside it.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    let (server, kubectl) = (ApiServer::start_with(sextant)?, debian_kubectl()?);
    let ask = |args: &[&str]| quiet(server.asked_by(&kubectl).args(args));
    let node = out.join("node.json");
    std::fs::write(&node, NODE)?;
    let node = node.display().to_string();
    ask(&["create", "-f", &node])?;
    // Its status is its own subresource's, which this kubectl knows by its path alone.
    ask(&["replace", "--raw", "/api/v1/nodes/n1/status", "-f", &node])?;
    let report = std::path::absolute(out)?.join("report.json");
    let _ = std::fs::remove_file(&report);
    let mut suite = Command::new(std::path::absolute(&args.suite)?.join("e2e.test"));
    suite
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(["--provider=skeleton", "--system-pods-startup-timeout=1s"]);
    let focus = if args.items.is_empty() { FOCUS.to_owned() } else { args.items.join("|") };
    suite.arg(format!("--ginkgo.focus={focus}")).arg(format!("--ginkgo.skip={SKIP}"));
    suite.arg(format!("--ginkgo.json-report={}", report.display())).arg("--ginkgo.no-color");
    let words = std::fs::File::create(out.join("e2e.log"))?;
    let status = suite.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words).status();
    status.map_err(|e| format!("cannot run {}: {e}", shown(&suite)))?;
    let text = std::fs::read_to_string(&report)
        .map_err(|e| format!("e2e.test left no report ({}): {e}", out.join("e2e.log").display()))?;
    Ok(std::fs::write(out.join("results.txt"), results(&text)?)?)
}

/// Lines of results, of what was run and is a test.
fn results(report: &str) -> Result<String> {
    let reports: Vec<Report> = serde_json::from_str(report)?;
    let mut results = String::new();
    for spec in reports.into_iter().flat_map(|report| report.spec_reports.unwrap_or_default()) {
        let mut name = spec.container_hierarchy_texts.unwrap_or_default();
        name.push(if spec.leaf_node_text.is_empty() {
            format!("[{}]", spec.leaf_node_type)
        } else {
            spec.leaf_node_text
        });
        let name = name.join(" ");
        let said = spec.failure.map(|failure| failure.message).unwrap_or_default();
        let said = said.lines().next().unwrap_or_default().trim().to_owned();
        match spec.state.as_str() {
            "passed" if spec.leaf_node_type == "It" => writeln!(results, "{name} ok")?,
            // A test that looked and found that it is not for here says why; one that was not asked for says nothing.
            "skipped" if spec.leaf_node_type == "It" && !said.is_empty() => {
                writeln!(results, "{name} skip {said}")?
            }
            "passed" | "skipped" | "pending" => {}
            _ => writeln!(results, "{name} not ok {said}")?,
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_lines() {
        let report = r#"[{"SpecReports":[
            {"LeafNodeType":"SynchronizedBeforeSuite","LeafNodeText":"","State":"passed"},
            {"ContainerHierarchyTexts":["[sig-x] A"],"LeafNodeType":"It","LeafNodeText":"should b","State":"passed"},
            {"ContainerHierarchyTexts":["[sig-x] A"],"LeafNodeType":"It","LeafNodeText":"c","State":"failed","Failure":{"Message":"no\nmore"}},
            {"ContainerHierarchyTexts":["[sig-x] A"],"LeafNodeType":"It","LeafNodeText":"d","State":"skipped","Failure":{"Message":"not here"}},
            {"ContainerHierarchyTexts":["[sig-x] A"],"LeafNodeType":"It","LeafNodeText":"e","State":"skipped"}]}]"#;
        assert_eq!(
            results(report).unwrap(),
            "[sig-x] A should b ok\n[sig-x] A c not ok no\n[sig-x] A d skip not here\n"
        );
    }
}
