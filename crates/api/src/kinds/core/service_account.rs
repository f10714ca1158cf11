//! ServiceAccount.

use crate::contract::Object;
use crate::kinds::base::{Defaults, Kind};

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "ServiceAccount", "serviceaccounts", "io.k8s.api.core.v1.ServiceAccount")
        .short(&["sa"])
        .without_generation()
        .prepare_create(names_alone)
        .prepare_update(|_, object, _| names_alone(object))
        .warnings(warnings)
}

/// Of references to secrets Kubernetes keeps the names.
fn names_alone(object: &mut Object) {
    for secret in object.0.each("secrets") {
        secret.retain(|field, _| field == "name");
    }
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";
    let has = |object: &Object| object.strings("annotations").is_some_and(|all| all.contains_key(ENFORCED));
    if has(object) && !old.is_some_and(has) {
        return vec![format!(
            "metadata.annotations[{ENFORCED}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        )];
    }
    Vec::new()
}
