use cri::contract::v1::Container;
use serde_json::json;

use crate::cli::{Cli, PsArgs};
use crate::container::{self, Record, State};
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::output::{self, Table, ago, short};
use crate::pods::{self, Held, Runtime};

pub(super) fn run(cli: &Cli, args: &PsArgs) -> Result<()> {
    if let Some(pod) = &args.pod {
        let runtime = Runtime::connect(&cli.run_dir, &args.cri)?;
        let mut held = runtime.held()?;
        let id = held.pod(pod).map_err(Failure::new)?.id.clone();
        held.containers.retain(|c| c.pod_sandbox_id == id);
        return show(&[], &held, args);
    }
    let instance = Instance::open(&cli.data_dir, &cli.run_dir)?;
    let all: Vec<(Record, State)> = Record::all(&instance)?
        .into_iter()
        .map(|record| {
            let state = container::state_of(&instance, &record);
            (record, state)
        })
        .filter(|(_, state)| args.all || state.is_active())
        .collect();
    // A pod's container is nothing for `sextant rm $(sextant ps -aq)`.
    let of_pods = if args.quiet { Ok(Held::default()) } else { of_runtime(cli, args) };
    // A runtime that does not answer hides nothing of ours.
    let (held, failed) =
        of_pods.map_or_else(|failure| (Held::default(), Err(failure)), |held| (held, Ok(())));
    show(&all, &held, args).and(failed)
}

/// What the runtime that was named holds, or the node that is here, if one is.
fn of_runtime(cli: &Cli, args: &PsArgs) -> Result<Held> {
    let runtime = Runtime::if_there(&cli.run_dir, &args.cri)?;
    Ok(runtime.map(|runtime| runtime.held()).transpose()?.unwrap_or_default())
}

fn show(own: &[(Record, State)], held: &Held, args: &PsArgs) -> Result<()> {
    let of_pods: Vec<&Container> =
        held.containers.iter().filter(|c| args.all || pods::is_running(c)).collect();
    if args.quiet {
        let ids = own.iter().map(|(record, _)| &record.id).chain(of_pods.iter().map(|c| &c.id));
        ids.for_each(|id| println!("{}", short(id)));
        return Ok(());
    }
    if args.output.json() {
        let own = own.iter().map(|(record, state)| row_json(record, state));
        let list: Vec<_> = own.chain(of_pods.iter().map(|c| of_pod_json(held, c))).collect();
        return Ok(output::json(&json!(list))?);
    }
    let mut table = Table::new(["ID", "NAME", "IMAGE", "COMMAND", "AGE", "STATUS", "PORTS", "POD"]);
    for (record, state) in own {
        table.row([
            short(&record.id).into(),
            record.name.clone(),
            record.image.clone(),
            cut(&record.command.join(" "), 30),
            age(record.created),
            status(state),
            ports(record),
            String::new(),
        ]);
    }
    for container in of_pods {
        let metadata = container.metadata.clone().unwrap_or_default();
        table.row([
            short(&container.id).into(),
            metadata.name,
            container.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
            String::new(),
            age(seconds(container.created_at)),
            pods::state(container).into(),
            String::new(),
            held.whose(container),
        ]);
    }
    Ok(table.print()?)
}

fn seconds(nanoseconds: i64) -> u64 {
    (nanoseconds / 1_000_000_000).max(0).unsigned_abs()
}

fn of_pod_json(held: &Held, container: &Container) -> serde_json::Value {
    let metadata = container.metadata.clone().unwrap_or_default();
    json!({
        "id": container.id, "name": metadata.name, "attempt": metadata.attempt, "pod": held.whose(container),
        "podId": container.pod_sandbox_id, "image": container.image.as_ref().map(|image| &image.image),
        "imageId": container.image_id, "created": output::timestamp(seconds(container.created_at)),
        "state": pods::state(container), "labels": container.labels,
    })
}

fn row_json(record: &Record, state: &State) -> serde_json::Value {
    let (pid, code) = match state {
        State::Running { pid, .. } => (Some(*pid), None),
        State::Exited(exit) => (None, Some(exit.code)),
        _ => (None, None),
    };
    json!({
        "id": record.id, "name": record.name, "image": record.image, "imageId": record.image_id,
        "command": record.command, "created": output::timestamp(record.created), "state": state.word(),
        "pid": pid, "exitCode": code, "ports": record.network.ports, "labels": record.labels,
    })
}

fn age(created: u64) -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    ago(now.saturating_sub(created))
}

fn status(state: &State) -> String {
    match state {
        State::Exited(exit) if exit.oom => format!("exited ({}, out of memory)", exit.code),
        State::Exited(exit) => format!("exited ({})", exit.code),
        other => other.word().into(),
    }
}

fn ports(record: &Record) -> String {
    let one = |p: &cni::contract::PortMapping| {
        let host = p.host_ip.map_or_else(|| "*".into(), |ip| ip.to_string());
        format!("{host}:{}->{}/{}", p.host_port, p.container_port, p.protocol.as_str())
    };
    record.network.ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn cut(text: &str, width: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if flat.chars().count() <= width {
        return flat;
    }
    flat.chars().take(width - 1).chain(['…']).collect()
}
