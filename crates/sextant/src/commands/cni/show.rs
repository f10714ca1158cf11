use cni::contract::AddResult;
use serde_json::json;

use super::{Networks, is_there};
use crate::cli::OutputArgs;
use crate::failure::Result;
use crate::output::{self, Table, short};

pub(super) fn networks(networks: &Networks<'_>, format: OutputArgs) -> Result<()> {
    let attachments = networks.attachments();
    let count = |name: &str| attachments.iter().filter(|a| a.list.name == name).count();
    let mut json = Vec::new();
    let mut table = Table::new(["NETWORK", "VERSION", "PLUGINS", "ATTACHED", "FILE"]);
    for known in networks.all(None)? {
        let file = known.file.map_or_else(|| "built in".into(), |file| file.display().to_string());
        match known.list {
            Ok(list) => {
                let plugins: Vec<_> = list.plugins.iter().map(|plugin| plugin.kind.clone()).collect();
                let (version, attached) = (list.version.to_string(), count(&list.name));
                json.push(json!({
                    "name": list.name, "cniVersion": version, "plugins": plugins, "attachments": attached, "file": file,
                }));
                table.row([list.name, version, plugins.join(", "), attached.to_string(), file]);
            }
            Err(e) => {
                json.push(json!({ "file": file, "error": e.to_string() }));
                table.row(["-".into(), "-".into(), format!("broken: {e}"), "-".into(), file]);
            }
        }
    }
    if format.json() {
        return Ok(output::json(&json!(json))?);
    }
    Ok(table.print()?)
}

pub(super) fn attachments(networks: &Networks<'_>, format: OutputArgs) -> Result<()> {
    let all = networks.attachments();
    if format.json() {
        let row = |a: &cni::caller::Cached| {
            json!({
                "network": a.list.name, "containerId": a.attachment.container_id, "ifName": a.attachment.ifname,
                "netns": a.attachment.netns, "namespaceExists": is_there(&a.attachment),
                "result": a.result.as_ref().map(|result| result.to_value(a.list.version)),
                "damage": a.damage.as_ref().map(ToString::to_string),
            })
        };
        return Ok(output::json(&json!(all.iter().map(row).collect::<Vec<_>>()))?);
    }
    let mut table = Table::new(["NETWORK", "CONTAINER", "INTERFACE", "ADDRESSES", "NAMESPACE"]);
    for a in &all {
        let addresses: Vec<_> =
            a.result.iter().flat_map(|result| &result.ips).map(|ip| ip.address.to_string()).collect();
        let netns = a.attachment.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        table.row([
            a.list.name.clone(),
            short(&a.attachment.container_id).into(),
            a.attachment.ifname.clone(),
            addresses.join(", "),
            if is_there(&a.attachment) { netns } else { format!("{netns} (gone)") },
        ]);
    }
    Ok(table.print()?)
}

/// What an ADD made.
pub(super) fn result(result: &AddResult) -> Result<()> {
    let mut table = Table::new(["INTERFACE", "MAC", "MTU", "NAMESPACE", "ADDRESSES", "GATEWAY"]);
    for (index, interface) in result.interfaces.iter().enumerate() {
        let ips: Vec<_> = result.ips.iter().filter(|ip| ip.interface == Some(index)).collect();
        let texts = |texts: Vec<String>| texts.join(", ");
        table.row([
            interface.name.clone(),
            interface.mac.clone(),
            interface.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
            if interface.sandbox.is_empty() { "host".into() } else { interface.sandbox.clone() },
            texts(ips.iter().map(|ip| ip.address.to_string()).collect()),
            texts(ips.iter().filter_map(|ip| ip.gateway).map(|gateway| gateway.to_string()).collect()),
        ]);
    }
    Ok(table.print()?)
}

pub(super) fn status(all: &[(String, std::result::Result<(), String>)], format: OutputArgs) -> Result<()> {
    if format.json() {
        let row = |(name, state): &(String, std::result::Result<(), String>)| json!({ "network": name, "ready": state.is_ok(), "error": state.as_ref().err() });
        return Ok(output::json(&json!(all.iter().map(row).collect::<Vec<_>>()))?);
    }
    let mut table = Table::new(["NETWORK", "STATUS"]);
    for (name, state) in all {
        let words = state.as_ref().map_or_else(|error| format!("not ready: {error}"), |()| "ready".into());
        table.row([name.clone(), words]);
    }
    Ok(table.print()?)
}
