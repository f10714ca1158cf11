//! Pods: who they are, whether they are in the mesh, and what guards them.

use super::Settings;
use super::input::Pod;
use super::report::Made;
use super::world::World;
use crate::contract::Name;
use crate::contract::access::{IdentityBinding, Subject};
use crate::model::{Entry, Key, Mode, Workload};

/// The label of a namespace or pod that takes it into the mesh, `true`, or leaves it out, `false`; a pod's goes before its namespace's.
pub const MEMBER: &str = "mesh.sextant.dev/member";
/// The label of a namespace that says how its members are in it: `permissive`, which they are without it, or `strict`. What is neither
/// is `strict`: who writes it wanted something, and nobody has to ask for what is so anyway.
pub const MODE: &str = "mesh.sextant.dev/mode";

pub(super) fn compile(world: &World, settings: &Settings, name: &Name) -> Made {
    let mut made = Made::default();
    let Some(pod) = world.pods.get(name) else { return made };
    let account = account(name, pod);
    let identity = settings.identity(&account);
    let guards = world.guards_of(&account).filter(|(_, target)| match &target.destination {
        None => false,
        Some(Subject::ServiceAccount(guarded)) => *guarded == account,
        Some(Subject::IdentityBinding(binding)) => {
            world.bindings.get(binding).is_some_and(|binding| binds(binding, pod, &account, &identity))
        }
    });
    let mut policies: Vec<Name> = guards.map(|(target, _)| target.clone()).collect();
    policies.sort();
    let workload = Workload {
        addresses: if pod.host_network { Vec::new() } else { pod.addresses.clone() },
        node: pod.node.clone(),
        mode: mode(world, name, pod),
        policies,
        identity,
    };
    made.entries.push((Key::Workload(name.clone()), Entry::Workload(workload)));
    made
}

/// A pod's service account; the namespace's own where it names none.
pub(super) fn account(name: &Name, pod: &Pod) -> Name {
    let account = if pod.service_account.is_empty() { "default" } else { &pod.service_account };
    Name::new(&name.namespace, account)
}

/// Whether a pod of the binding's namespace is bound.
fn binds(binding: &IdentityBinding, pod: &Pod, account: &Name, identity: &str) -> bool {
    binding.service_account.as_ref().is_some_and(|bound| *bound == account.name)
        || binding.spiffe.iter().any(|bound| bound == identity)
        || has_labels(binding, pod)
}

pub(super) fn has_labels(binding: &IdentityBinding, pod: &Pod) -> bool {
    binding
        .pod_labels
        .as_ref()
        .is_some_and(|labels| labels.iter().all(|(name, value)| pod.labels.get(name) == Some(value)))
}

fn mode(world: &World, name: &Name, pod: &Pod) -> Mode {
    // The node's network is everybody's: nothing in it can be captured for one pod.
    if pod.host_network {
        return Mode::Outside;
    }
    let namespace = world.namespaces.get(&name.namespace);
    let label = |label: &str| namespace.and_then(|labels| labels.get(label)).map(String::as_str);
    let member = pod.labels.get(MEMBER).map(String::as_str).or_else(|| label(MEMBER));
    match (member, label(MODE)) {
        (Some("true"), None | Some("permissive")) => Mode::Permissive,
        (Some("true"), Some(_)) => Mode::Strict,
        _ => Mode::Outside,
    }
}
