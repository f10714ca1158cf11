//! `sextant check`: what others have written, put through its paces.

use std::process::ExitCode;

use cpi::caller::Remote;
use cpi::caller::check::{self, Finding, Subject, Verdict};
use cpi::contract::Node;
use serde_json::json;

use crate::cli::{Check, CheckCpiArgs, CheckedNode, Contract};
use crate::failure::{Context, Failure, Result};
use crate::output::Table;

/// The kernel makes another one for each who reads it.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";

pub(super) fn run(args: &Check) -> Result<ExitCode> {
    let Contract::Cpi(args) = &args.contract;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "ask a cloud provider".into())?;
    let findings = runtime.block_on(examine(args))?;
    print(&findings, args.output.json())?;
    let is_wrong = findings.iter().any(|finding| matches!(finding.verdict, Verdict::Wrong(_)));
    Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn examine(args: &CheckCpiArgs) -> Result<Vec<Finding>> {
    let provider =
        Remote::connect(&args.endpoint, args.timeout).await.map_err(|e| Failure::new(e.to_string()))?;
    let random = std::fs::read_to_string(RANDOM).context(|| format!("read {RANDOM}"))?;
    let subject = Subject {
        cluster: args.cluster_name.clone(),
        nodes: args.nodes.iter().map(node).collect::<Result<_>>()?,
        route: args.route.map(|range| range.to_string()),
        mark: format!("sextant-check-{}", random.trim()),
    };
    Ok(check::run(&provider, &subject).await)
}

/// A node as a kubelet has it.
fn node(named: &CheckedNode) -> Result<Node> {
    let addresses: Vec<_> =
        named.address.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()})).collect();
    let node = json!({"metadata": {"name": named.name, "labels": {"kubernetes.io/hostname": named.name}},
        "spec": {"providerID": named.id.as_ref().map(ToString::to_string)}, "status": {"addresses": addresses}});
    Ok(serde_json::from_value(node)?)
}

fn print(findings: &[Finding], json: bool) -> Result<()> {
    let words = |verdict: &Verdict| match verdict {
        Verdict::Right => ("ok", String::new()),
        Verdict::LeftOut(why) => ("left out", why.clone()),
        Verdict::Wrong(how) => ("WRONG", how.clone()),
    };
    if json {
        let all: Vec<_> = findings
            .iter()
            .map(|finding| {
                let (verdict, why) = words(&finding.verdict);
                json!({"rule": finding.rule, "verdict": verdict.to_lowercase(), "why": why})
            })
            .collect();
        println!("{:#}", json!(all));
        return Ok(());
    }
    let mut table = Table::new(["RULE", "VERDICT", "WHY"]);
    for finding in findings {
        let (verdict, why) = words(&finding.verdict);
        table.row([finding.rule.into(), verdict.into(), why]);
    }
    table.print().context(|| "print the findings".into())
}
