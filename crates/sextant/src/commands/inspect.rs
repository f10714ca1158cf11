use serde_json::{Value, json};

use crate::cli::InspectArgs;
use crate::container::{self, Record, State};
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::output;

pub(super) fn run(instance: &Instance, args: &InspectArgs) -> Result<()> {
    let all = args.names.iter().map(|name| one(instance, name)).collect::<Result<Vec<Value>>>()?;
    Ok(output::json(&json!(all))?)
}

fn one(instance: &Instance, name: &str) -> Result<Value> {
    if let Ok(record) = container::find(instance, name) {
        return container_json(instance, &record);
    }
    let store = instance.store()?;
    let image = store.find(name).map_err(|_| {
        Failure::new(format!(
            "no container and no image {name:?} is here (see `sextant ps -a` and `sextant images`)"
        ))
    })?;
    let details = store.details(&image)?;
    Ok(json!({
        "kind": "image",
        "id": details.id,
        "name": image.name,
        "digest": image.manifest.digest,
        "target": image.target,
        "pinned": image.pinned,
        "manifest": details.manifest,
        "config": details.config,
    }))
}

fn container_json(instance: &Instance, record: &Record) -> Result<Value> {
    let state = container::state_of(instance, record);
    let detail = match &state {
        State::Running { pid, paused } => json!({"pid": pid, "paused": paused}),
        State::Exited(exit) => json!({"exitCode": exit.code, "oom": exit.oom, "finishedAt": exit.at}),
        _ => json!({}),
    };
    // While it runs the configuration has its namespaces' paths.
    let config = [instance.bundle_dir(&record.id), instance.state_dir(&record.id)]
        .iter()
        .find_map(|dir| std::fs::read(dir.join("config.json")).ok())
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let hosts = std::fs::read_to_string(instance.bundle_dir(&record.id).join(container::hosts_file_name()));
    let addresses: Vec<String> = hosts
        .unwrap_or_default()
        .lines()
        .filter(|l| l.split_whitespace().nth(1) == Some(&record.network.hostname))
        .filter_map(|l| l.split_whitespace().next().map(str::to_owned))
        .collect();
    Ok(json!({
        "kind": "container",
        "id": record.id,
        "name": record.name,
        "image": record.image,
        "imageId": record.image_id,
        "created": output::timestamp(record.created),
        "state": state.word(),
        "detail": detail,
        "command": record.command,
        "labels": record.labels,
        "restart": record.restart,
        "network": {"mode": record.network.mode, "hostname": record.network.hostname, "ports": record.network.ports, "addresses": addresses},
        "log": record.log(instance),
        "cgroup": instance.cgroup(&record.id),
        "volumes": record.volumes,
        "config": config,
    }))
}
