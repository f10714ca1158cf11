use serde_json::json;

use crate::cli::PsArgs;
use crate::container::{self, Record, State};
use crate::failure::Result;
use crate::instance::Instance;
use crate::output::{self, Table, ago, short};

pub(super) fn run(instance: &Instance, args: &PsArgs) -> Result<()> {
    let all: Vec<(Record, State)> = Record::all(instance)?
        .into_iter()
        .map(|record| {
            let state = container::state_of(instance, &record);
            (record, state)
        })
        .filter(|(_, state)| args.all || state.is_active())
        .collect();
    if args.quiet {
        all.iter().for_each(|(record, _)| println!("{}", short(&record.id)));
        return Ok(());
    }
    if args.output.json() {
        let list: Vec<_> = all.iter().map(|(record, state)| row_json(record, state)).collect();
        return Ok(output::json(&json!(list))?);
    }
    let mut table = Table::new(["ID", "NAME", "IMAGE", "COMMAND", "AGE", "STATUS", "PORTS"]);
    for (record, state) in &all {
        table.row([
            short(&record.id).into(),
            record.name.clone(),
            record.image.clone(),
            cut(&record.command.join(" "), 30),
            age(record),
            status(state),
            ports(record),
        ]);
    }
    Ok(table.print()?)
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

fn age(record: &Record) -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    ago(now.saturating_sub(record.created))
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
