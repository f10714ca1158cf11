//! The commands that ask a node's mesh what it does, and show it.

mod top;

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use smi::contract::Name;

use super::routes::{BackendView, EndpointView, FrontendView, Routes};
use super::why::{self, Explained};
use super::wire::{Answer, Filter, PodState, Question, SOCKET, State, Target, is_of};
use crate::cli::{Host, MeshCommand, MeshRoutesArgs, MeshStatusArgs, MeshTapArgs, MeshWhyArgs};
use crate::failure::{Context as _, Failure, Result};
use crate::objects::shown;
use crate::output::{self, Table, ago, timestamp};
use top::{latency, top};

/// What does not answer in this time does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks, and shows the answer.
pub(crate) fn run(run_dir: &Path, command: &MeshCommand) -> Result<()> {
    match command {
        MeshCommand::Status(args) => status(run_dir, args),
        MeshCommand::Top(args) => top(run_dir, args),
        MeshCommand::Routes(args) => routes(run_dir, args),
        MeshCommand::Tap(args) => tap(run_dir, args),
        MeshCommand::Why(args) => why(run_dir, args),
    }
}

/// A connection over which a question was asked.
struct Asked {
    answers: BufReader<UnixStream>,
    what: String,
}

impl Asked {
    fn new(run_dir: &Path, question: &Question) -> Result<Self> {
        let path = run_dir.join(SOCKET);
        let what = format!("ask the mesh at {}", path.display());
        let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::new(format!(
                "cannot {what}: no `sextant mesh` of this instance runs; start it, or name another by --run-dir"
            )),
            ErrorKind::PermissionDenied => {
                Failure::new(format!("cannot {what}: {error}; run it as root (sudo sextant ...)"))
            }
            _ => Failure::new(format!("cannot {what}: {error}")),
        })?;
        stream.set_read_timeout(Some(PATIENCE)).context(|| what.clone())?;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        stream.write_all(&line).context(|| what.clone())?;
        Ok(Self { answers: BufReader::new(stream), what })
    }

    /// The next answer, `None` at the end.
    fn next(&mut self) -> Result<Option<Answer>> {
        let mut line = String::new();
        let count = self.answers.read_line(&mut line).context(|| self.what.clone())?;
        if count == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&line).context(|| "read what the mesh answers".into())? {
            Answer::Refused(why) => Err(Failure::new(why)),
            answer => Ok(Some(answer)),
        }
    }

    fn other(&self) -> Failure {
        Failure::new(format!("cannot {}: it answers something else; is it of another version?", self.what))
    }
}

fn state(run_dir: &Path) -> Result<State> {
    let mut asked = Asked::new(run_dir, &Question::State)?;
    match asked.next()? {
        Some(Answer::State(state)) => Ok(*state),
        _ => Err(asked.other()),
    }
}

fn status(run_dir: &Path, args: &MeshStatusArgs) -> Result<()> {
    let state = state(run_dir)?;
    if args.output.json() {
        let mut value = json!(state);
        // What is counted of each is `top`'s and Prometheus'.
        if let Value::Object(fields) = &mut value {
            fields.remove("traffic");
        }
        return Ok(output::json(&value)?);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let known = if state.ready {
        format!(
            "{} frontends, {} ports with endpoints, {} policies; changed {} times",
            state.frontends, state.services, state.policies, state.tables
        )
    } else {
        "not known yet".into()
    };
    let mut text = String::new();
    for (name, value) in [
        ("node", shown(&state.node)),
        ("server", shown(&state.server)),
        ("up", format!("{}, since {}", ago(now.saturating_sub(state.since)), timestamp(state.since))),
        ("tables", known),
        (
            "connections",
            format!("{} open, {} in all, {} unread", state.open, state.connections, state.unread),
        ),
        (
            "requests",
            format!(
                "{}, of which {} answered by the mesh, {} sent again",
                state.requests, state.answered, state.retried
            ),
        ),
        (
            "endpoints",
            format!(
                "{} connections made, {} wait for a request; {} left out",
                state.endpoint_connections, state.idle, state.left_out
            ),
        ),
        ("identities", identities(&state)),
    ] {
        text.push_str(&format!("{name:12} {value}\n"));
    }
    if state.lost_lines > 0 {
        text.push_str(&format!("{:12} {} lost: nobody took them in time\n", "log lines", state.lost_lines));
    }
    if state.pods.is_empty() {
        text.push_str("\nNo pods. Members are those with the label mesh.sextant.dev/member=true, or of a namespace with it.\n");
    } else {
        let columns =
            ["POD", "STATE", "MODE", "SERVED FOR", "CERTIFICATE", "DATAGRAMS", "FROM ELSEWHERE", "IDENTITY"];
        let mut table = Table::new(columns);
        for pod in &state.pods {
            table.row([
                pod.pod.to_string(),
                if pod.leaving { "leaving".into() } else { "served".into() },
                pod.mode.clone(),
                ago(now.saturating_sub(pod.since)),
                pod.certified
                    .map_or_else(|| "-".into(), |end| format!("for {}", ago(end.saturating_sub(now)))),
                datagrams(pod),
                pod.foreign_dropped.map_or_else(|| "-".into(), |count| format!("{} dropped", count.packets)),
                or_dash(&pod.identity),
            ]);
        }
        text.push_str(&format!("\n{table}"));
    }
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Whether anything is enforced, and what was.
fn identities(state: &State) -> String {
    if !state.identities {
        return "none: no policy is enforced, and strict is not; follow a control plane (--control)".into();
    }
    format!(
        "{} connections of HBONE made; {} came to pods, {} of them over HBONE; {} refused",
        state.hbone_connections, state.visits, state.visits_secured, state.refused
    )
}

/// Datagrams that came to a pod; none are counted where everybody may send them.
fn datagrams(pod: &PodState) -> String {
    match pod.datagrams_admitted.zip(pod.datagrams_dropped) {
        Some((admitted, dropped)) => format!("{} let in, {} dropped", admitted.packets, dropped.packets),
        None => "-".into(),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { shown(text) }
}

fn routes(run_dir: &Path, args: &MeshRoutesArgs) -> Result<()> {
    let mut asked = Asked::new(run_dir, &Question::Routes)?;
    let Some(Answer::Routes(mut routes)) = asked.next()? else { return Err(asked.other()) };
    if let Some(service) = &args.service {
        routes.frontends.retain(|frontend| is_of(service, &frontend.service));
        // With the backends that its rules name.
        let named = |endpoint: &EndpointView| {
            let mut rules = routes.frontends.iter().flat_map(|frontend| &frontend.rules);
            is_of(service, &endpoint.service)
                || rules.any(|rule| rule.backends.iter().any(|backend| backend.to == endpoint.service))
        };
        let kept: Vec<EndpointView> = routes.endpoints.iter().filter(|one| named(one)).cloned().collect();
        routes.endpoints = kept;
        if routes.frontends.is_empty() {
            return Err(Failure::new(format!(
                "cannot show routes of {service}: no Service of that name has a cluster address and a port of TCP; give \
                 NAMESPACE/NAME"
            )));
        }
    }
    if args.output.json() {
        return Ok(output::json(&json!(routes))?);
    }
    Ok(io::stdout().write_all(routes_text(&routes).as_bytes())?)
}

fn routes_text(routes: &Routes) -> String {
    if routes.frontends.is_empty() {
        return "No Services with a cluster address and a port of TCP.\n".into();
    }
    let mut table = Table::new(["SERVICE", "CLIENTS", "BY", "RULE", "MATCHES", "FILTERS", "BACKENDS"]);
    for frontend in &routes.frontends {
        for (number, rule) in frontend.rules.iter().enumerate() {
            table.row([
                if number == 0 { frontend.service.clone() } else { String::new() },
                if number == 0 { consumer(frontend) } else { String::new() },
                if number == 0 { frontend.each.clone() } else { String::new() },
                or_dash(&rule.from),
                or_dash(&rule.matches.join(" or ")),
                or_dash(&rule.filters.join(", ")),
                backends(&rule.backends),
            ]);
        }
    }
    let mut text = table.to_string();
    if !routes.endpoints.is_empty() {
        let mut table = Table::new(["ENDPOINTS OF", "ADDRESS", "POD", "NODE", "STATE", "BUSY", "LATENCY"]);
        let mut last = "";
        for endpoint in &routes.endpoints {
            let same = std::mem::replace(&mut last, &endpoint.service) == endpoint.service;
            let busy: u32 = endpoint.clients.iter().map(|client| client.in_flight).sum();
            let slowest = endpoint.clients.iter().filter_map(|client| client.latency_us).max();
            table.row([
                if same { String::new() } else { endpoint.service.clone() },
                endpoint.address.to_string(),
                or_dash(&endpoint.pod.as_ref().map(ToString::to_string).unwrap_or_default()),
                or_dash(endpoint.node.as_deref().unwrap_or_default()),
                health(endpoint),
                busy.to_string(),
                latency(slowest),
            ]);
        }
        text.push_str(&format!("\n{table}"));
    }
    text
}

fn consumer(frontend: &FrontendView) -> String {
    frontend.consumer.as_ref().map_or_else(|| "all".into(), |consumer| format!("of {consumer}"))
}

/// Backends with their shares.
fn backends(backends: &[BackendView]) -> String {
    let sum: u64 = backends.iter().map(|backend| backend.weight).sum();
    let share = |backend: &BackendView| {
        let share = if sum == 0 { 0.0 } else { backend.weight as f64 * 100.0 / sum as f64 };
        let to = if backend.to.contains('/') { backend.to.clone() } else { format!("answer {}", backend.to) };
        if backends.len() == 1 && sum > 0 { to } else { format!("{to} {} %", (share * 10.0).round() / 10.0) }
    };
    or_dash(&backends.iter().map(share).collect::<Vec<_>>().join(", "))
}

fn health(endpoint: &EndpointView) -> String {
    let state = match (endpoint.ready, endpoint.serving) {
        (true, _) => "ready",
        (false, true) => "last resort",
        (false, false) => "not ready",
    };
    let left_out = endpoint.clients.iter().filter_map(|client| {
        let left = client.left_out_ms?;
        Some(format!("left out for {} for {} s", shown(&client.client), left.div_ceil(1000)))
    });
    std::iter::once(state.to_owned()).chain(left_out).collect::<Vec<_>>().join(", ")
}

fn tap(run_dir: &Path, args: &MeshTapArgs) -> Result<()> {
    let filter = Filter {
        client: args.client.clone(),
        service: args.service.clone(),
        method: args.method.clone(),
        path: args.path.clone(),
        status: args.status,
        failed: args.failed,
    };
    let mut asked = Asked::new(run_dir, &Question::Tap(filter))?;
    // Nobody knows when the next one ends.
    asked.answers.get_ref().set_read_timeout(None).context(|| asked.what.clone())?;
    let mut told = 0;
    while args.count.is_none_or(|count| told < count) {
        let event = match asked.next()? {
            Some(Answer::Event(event)) => event,
            Some(_) => return Err(asked.other()),
            None => return Err(Failure::new("the mesh has ended, or lines were not taken in time")),
        };
        let text = if args.output.json() { serde_json::to_string(&event)? } else { event.text() };
        writeln!(io::stdout(), "{text}")?;
        told += 1;
    }
    Ok(())
}

fn why(run_dir: &Path, args: &MeshWhyArgs) -> Result<()> {
    let target = match &args.destination.host {
        Host::Address(address) => Target::Address(*address),
        Host::Service { namespace, name } => {
            Target::Service(Name::new(namespace.as_ref().unwrap_or(&args.source.namespace), name))
        }
    };
    let question = why::Question {
        source: args.source.clone(),
        target,
        port: args.destination.port,
        udp: args.udp,
        method: args.method.clone(),
        path: args.path.clone(),
        headers: args.header.clone(),
    };
    let mut asked = Asked::new(run_dir, &Question::Why(question))?;
    let Some(Answer::Why(explained)) = asked.next()? else { return Err(asked.other()) };
    if args.output.json() {
        return Ok(output::json(&json!(explained))?);
    }
    Ok(io::stdout().write_all(why_text(&explained, args.udp).as_bytes())?)
}

fn why_text(explained: &Explained, is_datagram: bool) -> String {
    let mut text = String::new();
    for step in &explained.steps {
        text.push_str(&format!("{:9} {}\n", step.of, shown(&step.is)));
    }
    if !explained.endpoints.is_empty() {
        let mut table =
            Table::new(["BACKEND", "ENDPOINT", "POD", "STATE", "ASKED", "OVER", "LETS IN", "POLICY"]);
        for one in &explained.endpoints {
            let lets_in = match one.lets_in {
                Some(true) => "yes",
                Some(false) => "no",
                None => "not known here",
            };
            table.row([
                one.backend.clone(),
                one.address.to_string(),
                or_dash(&one.pod.as_ref().map(ToString::to_string).unwrap_or_default()),
                one.state.clone(),
                if one.is_asked { "yes".into() } else { "no".into() },
                if is_datagram {
                    "UDP".into()
                } else if one.is_secured {
                    "HBONE".into()
                } else {
                    "plain text".into()
                },
                lets_in.into(),
                or_dash(&one.policy),
            ]);
        }
        text.push_str(&format!("\n{table}\n"));
    }
    text.push_str(&format!("{:9} {}\n", "so", shown(&explained.verdict)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_in_a_hundred() {
        let backend = |to: &str, weight| BackendView { to: to.into(), weight, filters: Vec::new() };
        for (all, wanted) in [
            (vec![backend("shop/a:80", 1)], "shop/a:80"),
            (vec![backend("shop/a:80", 0)], "shop/a:80 0 %"),
            (vec![backend("shop/a:80", 2), backend("500", 1)], "shop/a:80 66.7 %, answer 500 33.3 %"),
            (vec![], "-"),
        ] {
            assert_eq!(backends(&all), wanted);
        }
    }
}
