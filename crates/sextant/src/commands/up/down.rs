//! `sextant down`: nothing runs any more, and what is kept stays.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cri::contract::v1::PodSandbox;

use super::programs::{NAMES, Places};
use super::{SUPERVISOR, child, member, places, storage, supervisor};
use crate::cli::DownArgs;
use crate::commands::node::within::Node;
use crate::commands::{agent, mesh, node};
use crate::failure::{Failure, Result};
use crate::instance::Instance;

/// How long a program has to end when it is told to. The supervisor ends all others first, one after another (`patience`).
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the programs of `sextant up`, and takes its pods down.
pub(crate) fn run(instance: &Instance, args: &DownArgs) -> Result<ExitCode> {
    let places = places(instance)?;
    let ended = end_all(&places, &|line| supervisor::say(line));
    let taken = if args.keep_pods { Ok(0) } else { take_down(instance, &args.node_config) };
    let left = match &taken {
        Err(_) => Vec::new(),
        // Nobody serves them from now on. Of a mesh that was not started by `sextant up` somebody else takes care.
        Ok(_) if args.keep_pods && places.meshed().exists() => mesh::take_away(instance),
        Ok(_) if args.keep_pods => Vec::new(),
        Ok(_) => clear(instance),
    };
    match taken {
        Ok(0) if ended == 0 => supervisor::say("nothing was up"),
        Ok(0) => {}
        Ok(1) => supervisor::say("1 pod was taken down"),
        Ok(count) => supervisor::say(&format!("{count} pods were taken down")),
        Err(failures) => {
            let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
            return Err(Failure::new(texts.join("; ")));
        }
    }
    if left.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::new(left.join("; "))) }
}

/// Ends all programs; how many there were.
pub(super) fn end_all(places: &Places, tell: &dyn Fn(&str)) -> usize {
    // Who would start the others again first, then those who would ask for pods.
    let mut names = vec![SUPERVISOR];
    names.extend(NAMES.iter().rev());
    names.into_iter().filter(|name| end(places, name, tell)).count()
}

/// Takes away what the agent and the services have made on the machine, which they leave when they end, and a mesh where it was killed; what could not be.
pub(super) fn clear(instance: &Instance) -> Vec<String> {
    let mut left = storage::clear(instance);
    if left.is_empty() {
        // The agent's own group, above those of its pods. The other one may have containers of `sextant run`.
        let group = agent::cgroup_root(&instance.run);
        let removed = kernel::cgroup::destroy(Path::new(&group));
        left.extend(removed.err().map(|error| format!("cannot remove cgroup {group}: {error}")));
    }
    match instance.ledger.try_owner(&services::effects::owner()) {
        Ok(Some(owner)) => left.extend(owner.undo_all().iter().map(ToString::to_string)),
        Ok(None) => {
            left.push("cannot take Services away: another `sextant services` looks after them".into())
        }
        Err(error) => left.push(error.to_string()),
    }
    left.extend(mesh::take_away(instance));
    left
}

/// Whether it lived.
fn end(places: &Places, name: &str, tell: &dyn Fn(&str)) -> bool {
    let Some(process) = member::living(&places.member(name)) else { return false };
    child::end(process.pidfd.as_fd(), PATIENCE);
    let which = if name == SUPERVISOR {
        "up and its programs have ended".into()
    } else {
        format!("{name} has ended")
    };
    tell(&which);
    true
}

/// Takes the agent's pods down, by a node of this command's own; how many there were. A kubelet's on the same node are not ours.
pub(super) fn take_down(instance: &Instance, config: &Path) -> Result<usize, Vec<Failure>> {
    let pods = std::fs::read_dir(instance.data.join("cri/pods")).map_or(0, Iterator::count);
    if pods == 0 {
        return Ok(0);
    }
    let mut config = node::read(config).map_err(|failure| vec![failure])?;
    config.network.builtin = true;
    let node = Node::start(&instance.data, &instance.run, config).map_err(|failure| vec![failure])?;
    let (count, mut failures) = remove_pods(instance, &node);
    failures.extend(node.end().err());
    if failures.is_empty() { Ok(count) } else { Err(failures) }
}

/// Those with volumes of drivers first: the drivers may run in the others, which stay where one of the first does.
fn remove_pods(instance: &Instance, node: &Node) -> (usize, Vec<Failure>) {
    let having = ::agent::users(&instance.data.join("agent"));
    let is_ours = |pod: &PodSandbox| pod.labels.contains_key(::agent::LABEL);
    let has_volumes = |pod: &PodSandbox| pod.metadata.as_ref().is_some_and(|one| having.contains(&one.uid));
    let users = || node.remove_pods(|pod| is_ours(pod) && has_volumes(pod));
    // One may go at the second attempt. What a pod has that runs on is not taken from it.
    let first = match users().or_else(|_| users()) {
        Ok(count) => count,
        Err(failures) => return (0, failures),
    };
    for why in storage::release(instance) {
        let hint = "drivers that run in pods take it back once `sextant up` runs again";
        supervisor::say(&format!("warning: {why} ({hint})"));
    }
    match node.remove_pods(is_ours) {
        Ok(count) => (first + count, Vec::new()),
        Err(failures) => (first, failures),
    }
}
