//! Whose datagrams a pod would take, and why.

use std::net::{IpAddr, SocketAddr};

use mesh::datagrams::Admissions;
use smi::contract::Name;
use smi::contract::specs::Transport;
use smi::model::{Endpoint, Entry, Key, Mode, Model, Workload};

use super::super::known::word;
use super::super::wire::Target;
use super::{Candidate, Explained, Here, Outcome, Question, Step, asked_ones, state};

/// Says who would take a datagram of the pod that asks, as the rules in pods of this node do. What pods of other nodes take is not known here.
///
/// # Errors
/// The question cannot be answered, and what to ask instead.
pub(super) fn explain(model: &Model, question: &Question, here: Here<'_>) -> Result<Explained, String> {
    let pod = &question.source;
    let Some(Entry::Workload(source)) = model.get(&Key::Workload(pod.clone())).map(|entry| &**entry) else {
        return Err(format!(
            "cannot say what happens to datagrams of pod {pod}: this node knows no pod of that name; it knows its own, and members of the mesh"
        ));
    };
    let Some(port) = question.port else {
        return Err("for UDP a port has to be given: DST:PORT".into());
    };
    let step = |of: &str, is: String| Step { of: of.into(), is };
    let addresses: Vec<String> = source.addresses.iter().map(ToString::to_string).collect();
    let at = if addresses.is_empty() { "no address of its own".into() } else { addresses.join(", ") };
    let mut steps =
        vec![step("source", format!("pod {pod}, {}, {}, at {at}", word(source.mode), source.identity))];
    let mut admissions = Admissions::default();
    admissions.take(&model.whole());
    let (backend, endpoints) = endpoints(model, &question.target, port)?;
    if let Target::Service(_) = &question.target {
        steps.push(step(
            "backend",
            format!("{backend}, which the node's own rules for Services choose among"),
        ));
    }
    let asked = {
        let seen: Vec<_> = endpoints.iter().map(|endpoint| (endpoint, None)).collect();
        asked_ones(&seen)
    };
    let mut candidates = Vec::new();
    for (endpoint, is_asked) in endpoints.iter().zip(asked) {
        let (pod, lets_in, policy) = judged(model, &mut admissions, (source, endpoint), here);
        candidates.push(Candidate {
            backend: backend.clone(),
            address: SocketAddr::new(endpoint.address, endpoint.port),
            pod,
            state: state(endpoint, None).into(),
            is_asked,
            is_secured: false,
            lets_in,
            policy,
        });
    }
    let (outcome, verdict) = verdict(&candidates);
    Ok(Explained { outcome, verdict: verdict.into(), steps, endpoints: candidates })
}

/// What it comes to.
fn verdict(candidates: &[Candidate]) -> (Outcome, &'static str) {
    let mut asked = candidates.iter().filter(|one| one.is_asked).peekable();
    if asked.peek().is_none() {
        return (Outcome::PassedBy, "there is no endpoint that is ready");
    }
    if asked.clone().all(|one| one.lets_in == Some(false)) {
        return (Outcome::Refused, "it is dropped");
    }
    if asked.clone().any(|one| one.lets_in == Some(false)) {
        return (Outcome::Answered, "some of the endpoints let it in, by its address, which proves nothing");
    }
    if asked.any(|one| one.lets_in.is_none()) {
        return (Outcome::Answered, "it is sent; whether it is let in is known on other nodes");
    }
    (Outcome::Answered, "it is let in, by its address, which proves nothing")
}

/// Who is meant, and what they are called together.
fn endpoints(model: &Model, target: &Target, port: u16) -> Result<(String, Vec<Endpoint>), String> {
    let of_service = |service: &Name| {
        let key = Key::Endpoints { service: service.clone(), port, transport: Transport::Udp };
        match model.get(&key).map(|entry| &**entry) {
            Some(Entry::Endpoints(endpoints)) => Some((format!("{service}:{port}"), endpoints.clone())),
            _ => None,
        }
    };
    match target {
        Target::Service(service) => of_service(service)
            .ok_or_else(|| format!("there is no Service {service} with port {port} of UDP")),
        Target::Address(address) => {
            let service = model.iter().find_map(|(key, entry)| match (key, &**entry) {
                (
                    Key::Frontend { service, port: of, transport: Transport::Udp, .. },
                    Entry::Frontend(frontend),
                ) if *of == port && frontend.addresses.contains(address) => Some(service),
                _ => None,
            });
            Ok(service.and_then(of_service).unwrap_or_else(|| {
                let (address, pod, node, zone) = (*address, None, None, None);
                let endpoint = Endpoint { address, port, pod, node, zone, ready: true, serving: true };
                (SocketAddr::new(address, port).to_string(), vec![endpoint])
            }))
        }
    }
}

/// Which pod it is, if it is known, whether it lets in what comes from the source, and what says so.
fn judged(
    model: &Model,
    admissions: &mut Admissions,
    (source, endpoint): (&Workload, &Endpoint),
    here: Here<'_>,
) -> (Option<Name>, Option<bool>, String) {
    let Some((name, pod)) = at(model, endpoint) else {
        return match &endpoint.pod {
            None => (None, Some(true), "it is no pod that is known here: nobody here guards it".into()),
            Some(name) => {
                let on = endpoint.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
                (Some(name.clone()), None, format!("known{on}"))
            }
        };
    };
    let say = |lets_in: Option<bool>, policy: String| (Some(name.clone()), lets_in, policy);
    if pod.mode == Mode::Outside {
        return say(Some(true), "it is no member: nobody guards it".into());
    }
    if pod.mode == Mode::Permissive && pod.policies.is_empty() {
        return say(Some(true), "none: permissive to anybody".into());
    }
    let names: Vec<String> = pod.policies.iter().map(ToString::to_string).collect();
    let names = if names.is_empty() { "none, strict".into() } else { names.join(", ") };
    if let Some(node) = pod.node.as_deref().filter(|node| *node != here.node) {
        return say(None, format!("{names}, known on {node}"));
    }
    if !here.has_identities {
        return say(Some(true), format!("{names}, which is not enforced: nobody issues identities here"));
    }
    let Some(admitted) = admissions.of(name) else {
        return say(Some(true), format!("{names}, which guards nothing"));
    };
    if source.addresses.is_empty() {
        return say(Some(false), format!("{names}: the source has its node's address, which is nobody's"));
    }
    if source.mode == Mode::Outside {
        return say(Some(false), format!("{names}: the source is no member"));
    }
    let is_known = |address: &&IpAddr| admitted.has(**address, endpoint.port);
    let let_in = source.addresses.iter().filter(is_known).count();
    if let_in == source.addresses.len() {
        return say(Some(true), format!("{names} lets it in"));
    }
    if let_in > 0 {
        return say(Some(true), format!("{names} lets in what comes from some of the source's addresses"));
    }
    if source.addresses.iter().all(|address| admissions.holder(*address).is_none()) {
        return say(
            Some(false),
            format!("{names}: another member says that it has the source's address, too"),
        );
    }
    say(Some(false), format!("{names} does not let this source in at this port"))
}

/// The pod at an endpoint: of several that say so the member.
fn at<'m>(model: &'m Model, endpoint: &Endpoint) -> Option<(&'m Name, &'m Workload)> {
    let mut found = None;
    for (key, entry) in model.iter() {
        let (Key::Workload(name), Entry::Workload(pod)) = (key, &**entry) else { continue };
        let is_it = match &endpoint.pod {
            Some(wanted) => wanted == name,
            None => pod.addresses.contains(&endpoint.address),
        };
        if is_it && (found.is_none() || pod.mode != Mode::Outside) {
            found = Some((name, pod));
        }
    }
    found
}
