//! Which subresources a resource has, and what they answer with.

use crate::registry::part_name;
use crate::resource::Resource;

/// A subresource, as discovery tells it.
pub(super) struct Subresource {
    pub(super) name: &'static str,
    /// Group, version and kind of what it answers with; `None`: the kind of the resource.
    pub(super) kind: Option<(&'static str, &'static str, &'static str)>,
    pub(super) verbs: &'static [&'static str],
}

const WRITTEN: &[&str] = &["get", "patch", "update"];
const CREATED: &[&str] = &["create"];
const CONNECTED: &[&str] = &["create", "get"];

/// Those of `resource`, sorted by name.
pub(super) fn of(resource: &Resource) -> Vec<Subresource> {
    let mut list: Vec<Subresource> =
        resource.strategy.parts().iter().map(|told| part(part_name(*told))).collect();
    if resource.names.group.is_empty() {
        list.extend(hand_made(&resource.names.plural));
    }
    list.sort_by_key(|subresource| subresource.name);
    list.dedup_by_key(|subresource| subresource.name);
    list
}

fn part(name: &'static str) -> Subresource {
    match name {
        "scale" => Subresource { name, kind: Some(("autoscaling", "v1", "Scale")), verbs: WRITTEN },
        "finalize" => Subresource { name, kind: None, verbs: &["update"] },
        _ => Subresource { name, kind: None, verbs: WRITTEN },
    }
}

fn hand_made(plural: &str) -> Vec<Subresource> {
    let made = |name, kind: (&'static str, &'static str, &'static str), verbs| Subresource {
        name,
        kind: Some(kind),
        verbs,
    };
    match plural {
        "pods" => vec![
            made("attach", ("", "v1", "PodAttachOptions"), CONNECTED),
            made("binding", ("", "v1", "Binding"), CREATED),
            made("eviction", ("policy", "v1", "Eviction"), CREATED),
            made("exec", ("", "v1", "PodExecOptions"), CONNECTED),
            Subresource { name: "log", kind: None, verbs: &["get"] },
            made("portforward", ("", "v1", "PodPortForwardOptions"), CONNECTED),
        ],
        "serviceaccounts" => vec![made("token", ("authentication.k8s.io", "v1", "TokenRequest"), CREATED)],
        _ => Vec::new(),
    }
}
