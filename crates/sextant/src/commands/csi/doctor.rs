//! `sextant csi doctor`: what is wrong with a driver and its volumes.

use std::process::ExitCode;

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as ControllerCall;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::{GetCapacityRequest, NodeGetInfoRequest, ProbeRequest};
use serde_json::json;

use super::show::size;
use crate::cli::OutputArgs;
use crate::failure::{Context, Result};
use crate::output::{self, Table};

/// Something that was looked at.
struct Finding {
    what: String,
    is_good: bool,
    message: String,
}

impl Finding {
    fn new(what: impl Into<String>, is_good: bool, message: impl Into<String>) -> Finding {
        Finding { what: what.into(), is_good, message: message.into() }
    }
}

/// Looks at everything that a driver tells of itself; exits with 1 where something is wrong.
pub(super) async fn examine(driver: &Driver, output: OutputArgs) -> Result<ExitCode> {
    let mut findings = vec![
        Finding::new("driver", true, format!("{} {}", driver.name, driver.version)),
        health(driver).await,
        node(driver).await,
    ];
    if driver.controls(ControllerCall::GetCapacity) {
        findings.push(match driver.client.get_capacity(GetCapacityRequest::default()).await {
            Ok(told) if told.available_capacity == 0 => {
                Finding::new("capacity", false, "nothing is left for new volumes")
            }
            Ok(told) => {
                Finding::new("capacity", true, format!("{} for new volumes", size(told.available_capacity)))
            }
            Err(error) => Finding::new("capacity", false, error.to_string()),
        });
    }
    if driver.controls(ControllerCall::ListVolumes) {
        let volumes = driver.volumes().await.context(|| "list volumes".into())?;
        let count = volumes.len();
        for entry in volumes {
            let volume = entry.volume.unwrap_or_default();
            match entry.status.and_then(|status| status.volume_condition) {
                Some(condition) if condition.abnormal => {
                    findings.push(Finding::new(
                        format!("volume {}", volume.volume_id),
                        false,
                        condition.message,
                    ));
                }
                _ => {}
            }
        }
        findings.push(Finding::new("volumes", true, format!("{count} looked at")));
    }
    if driver.controls(ControllerCall::ListSnapshots) {
        let snapshots = driver.snapshots().await.context(|| "list snapshots".into())?;
        let waiting = snapshots.iter().filter(|snapshot| !snapshot.ready_to_use).count();
        let message = format!("{} there, {waiting} not ready yet", snapshots.len());
        findings.push(Finding::new("snapshots", true, message));
    }
    show(&findings, output)?;
    let is_well = findings.iter().all(|finding| finding.is_good);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn health(driver: &Driver) -> Finding {
    match driver.client.probe(ProbeRequest {}).await {
        Ok(told) if told.ready.as_ref().is_some_and(|ready| !ready.value) => {
            Finding::new("health", false, "it is not ready yet")
        }
        Ok(_) => Finding::new("health", true, "it is ready"),
        Err(error) => Finding::new("health", false, error.to_string()),
    }
}

async fn node(driver: &Driver) -> Finding {
    match driver.client.node_get_info(NodeGetInfoRequest {}).await {
        Ok(told) => {
            let stages =
                if driver.serves_node(NodeCall::StageUnstageVolume) { ", stages volumes" } else { "" };
            Finding::new("node", true, format!("this is {:?}{stages}", told.node_id))
        }
        Err(error) if error.code() == grpc::Code::Unimplemented => {
            Finding::new("node", true, "it serves no node, only a controller")
        }
        Err(error) => Finding::new("node", false, error.to_string()),
    }
}

fn show(findings: &[Finding], output: OutputArgs) -> Result<()> {
    if output.json() {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| json!({"what": finding.what, "good": finding.is_good, "message": finding.message}))
            .collect();
        return Ok(output::json(&json!(list))?);
    }
    let mut table = Table::new(["", "WHAT", "FOUND"]);
    for finding in findings {
        let mark = if finding.is_good { "ok" } else { "BAD" };
        table.row([mark.into(), finding.what.clone(), finding.message.clone()]);
    }
    Ok(table.print()?)
}
